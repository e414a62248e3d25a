"""Recurrent optimizers' update, ``LANES`` parameters at a time, as machine code.

What is computed is defined by ``optim4rl``; here is how. A block's values stay in registers
and on the stack, in the first-level cache; theta comes with the weights of gates halved.
"""

from collections.abc import Sequence

from llvmlite import ir

from learned_opt import recurrent_formulas
from learned_opt.recurrent_update import BranchSpec, Spec
from learned_opt.simd import I32, I64, LANES, POINTER, Code, Value, Vector
from learned_opt.simd_math import _TANH_LIMIT, _TANH_P, _TANH_Q, polynomial

# How many parameters ahead memory is asked for.
_AHEAD = 4 * LANES
# Arguments of kernels that are integers, not pointers.
_NUMBERS = ("stride", "by_stride", "count")


def half_scaled(name: str) -> bool:
    """Whether the kernel wants a piece of theta halved: sigmoid(x) = (1 + tanh(x / 2)) / 2."""
    return name.removesuffix("_bias") in ("ir", "iz", "hr", "hz")


def tile_of(count: int) -> int:
    """How many rows are computed side by side, in registers."""
    return max(n for n in (4, 3, 2, 1) if count % n == 0)


def tanh_pair(code: Code, first: Vector, second: Vector) -> list[Vector]:
    """Two tanh with one division, which takes as long as ten multiplications.

    Exactly 1 or -1 where they saturate: the derivative there must vanish, however large
    the input that it is multiplied by.
    """
    tops, bottoms = [], []
    for x in (first, second):
        limited = x.where(">", _TANH_LIMIT, _TANH_LIMIT, x)
        limited = x.where("<", -_TANH_LIMIT, -_TANH_LIMIT, limited)
        square = limited * limited
        tops.append(limited * polynomial(code, _TANH_P, square))
        bottoms.append(polynomial(code, _TANH_Q, square))
    # Both denominators are in [1, 300], and what is divided by is in [1, 90000].
    inverse = code.vector(1.0) / (bottoms[0] * bottoms[1])
    quotients = tops[0] * (bottoms[1] * inverse), tops[1] * (bottoms[0] * inverse)
    return [
        x.where(">", _TANH_LIMIT, 1.0, x.where("<", -_TANH_LIMIT, -1.0, quotient))
        for x, quotient in zip((first, second), quotients, strict=True)
    ]


class Writer:
    """What kernels have in common: one function, and its named arguments."""

    name: str

    @staticmethod
    def arguments(spec: Spec) -> tuple[str, ...]:
        """Names of the function's arguments, in order."""
        raise NotImplementedError

    def __init__(self, module: ir.Module, spec: Spec):
        arguments = self.arguments(spec)
        kinds = [I64 if name in _NUMBERS else POINTER for name in arguments]
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), self.name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self._spec = spec
        self._code = Code(self.function)
        self._given = dict(zip(arguments, self.function.args, strict=True))

    def write(self) -> ir.Function:
        """Writes the function."""
        raise NotImplementedError

    def _row(self, row: int | Value, stride: int | Value, column: int | Value) -> Value:
        """Where a row's element lies in an array whose rows are ``stride`` apart."""
        row, stride, column = (I64(x) if isinstance(x, int) else x for x in (row, stride, column))
        return self._code.builder.add(self._code.builder.mul(row, stride), column)

    def _prefetch(self, names: Sequence[str], lane: int | Value, *, write: bool = False) -> None:
        """Asks for the rows' places a few blocks on: more streams than CPUs foresee."""
        code, kind = self._code, ir.FunctionType(ir.VoidType(), [POINTER, *[I32] * 3])
        name = "llvm.prefetch.p0"
        prefetch = code.module.globals.get(name) or ir.Function(code.module, kind, name)
        for array in names:
            for row in range(self._spec.hidden):
                place = self._row(row, self._given["stride"], lane)
                address = code.at(code.at(self._given[array], place), _AHEAD)
                code.builder.call(prefetch, [address, I32(int(write)), I32(3), I32(1)])

    def _arguments(
        self, branch: BranchSpec, unit: Value, count: int, hidden: list[Vector], x: list[Vector]
    ) -> list[list[Vector]]:
        """Sums of products for ``count`` units from ``unit`` on.

        Returns:
          For each unit: halved arguments of reset and of update, the candidate's part from
          inputs, what reset multiplies.
        """
        code, given = self._code, self._given["scaled"]

        def weight(name: str, row: int, column: int) -> Vector:
            piece = branch.piece(name)
            place = code.builder.add(unit, I64(piece.offset + row * piece.columns + column))
            return code.splat(given, place)

        units = range(count)
        sums = [[weight(f"{gate}_bias", 0, j) for j in units] for gate in ("ir", "iz", "in", "hn")]
        for k, value in enumerate(hidden):
            for gate, name in ((0, "hr"), (1, "hz"), (3, "hn")):
                for j in units:
                    sums[gate][j] = code.fma(value, weight(name, k, j), sums[gate][j])
        for f, value in enumerate(x):
            for gate, name in enumerate(("ir", "iz", "in")):
                for j in units:
                    sums[gate][j] = code.fma(value, weight(name, f, j), sums[gate][j])
        return sums

    def _gates(self, arguments: list[list[Vector]]) -> list[list[Vector]]:
        """Reset, update, candidate of each unit."""
        code = self._code
        resets: list[Vector] = []
        updates: list[Vector] = []
        candidates: list[Vector] = []
        for pair in zip(arguments[0], arguments[1], strict=True):
            reset, update = (code.fma(half, 0.5, 0.5) for half in tanh_pair(code, *pair))
            resets.append(reset)
            updates.append(update)
        inner = [code.fma(*three) for three in zip(resets, arguments[3], arguments[2], strict=True)]
        for i in range(0, len(inner), 2):
            both = tanh_pair(code, inner[i], inner[min(i + 1, len(inner) - 1)])
            candidates += both[: len(inner) - i]
        return [resets, updates, candidates]

    def _outputs(self, branch: BranchSpec, hidden: list[Vector]) -> list[Vector]:
        """The dense layer."""
        code, scaled = self._code, self._given["scaled"]
        dense, bias = branch.piece("dense"), branch.piece("dense_bias")
        results = []
        for o in range(branch.outputs):
            value = code.splat(scaled, bias.offset + o)
            for j, row in enumerate(hidden):
                weight = code.splat(scaled, dense.offset + j * branch.outputs + o)
                value = code.fma(row, weight, value)
            results.append(value)
        return results


class UpdateWriter(Writer):
    """Writes ``update(...)``: step and new hidden rows of ``LANES`` parameters."""

    name = "update"

    @staticmethod
    def arguments(spec: Spec) -> tuple[str, ...]:
        branches = range(len(spec.branches))
        hidden = [f"{kind}{i}" for kind in ("hidden", "new_hidden") for i in branches]
        return ("scaled", "gradient", "step", "stride", *hidden)

    def write(self) -> ir.Function:
        code, spec = self._code, self._spec
        for i in range(len(spec.branches)):
            self._prefetch([f"hidden{i}"], 0)
            self._prefetch([f"new_hidden{i}"], 0, write=True)
        gradient = code.load(self._given["gradient"])
        inputs = recurrent_formulas.network_inputs(spec, code, gradient)
        outputs = []
        for i, (branch, x) in enumerate(zip(spec.branches, inputs, strict=True)):
            new = self._write_gru(i, branch, x)
            rows = [code.load(new, j * LANES) for j in range(spec.hidden)]
            outputs += self._outputs(branch, rows)
        step = recurrent_formulas.direction(spec, code, gradient, outputs)
        code.store(step, self._given["step"])
        code.builder.ret_void()
        return self.function

    def _write_gru(self, index: int, branch: BranchSpec, x: list[Vector]) -> Value:
        """New hidden rows: to memory and, as the result, on the stack."""
        code, size, given = self._code, self._spec.hidden, self._given
        old, stride = given[f"hidden{index}"], given["stride"]
        staged, new = code.scratch(size * LANES), code.scratch(size * LANES)
        for k in range(size):
            code.store(code.load(old, self._row(k, stride, 0)), staged, k * LANES)
        tile = tile_of(size)
        with code.loop(size, step=tile) as unit:
            hidden = [code.load(staged, k * LANES) for k in range(size)]
            _, updates, candidates = self._gates(self._arguments(branch, unit, tile, hidden, x))
            for j in range(tile):
                here = code.builder.add(unit, I64(j))
                before = code.load(staged, self._row(here, LANES, 0))
                value = code.fma(updates[j], before - candidates[j], candidates[j])
                code.store(value, new, self._row(here, LANES, 0))
                place = self._row(here, stride, 0)
                code.store(value, given[f"new_hidden{index}"], place)
        return new
