"""The derivative of recurrent optimizers' update, ``BLOCK`` parameters at a time.

The gates are recomputed, and kept on the stack for a block. What a block gives to theta's
gradients is added to sums that have one lane for every ``LANES``-th parameter.
"""

from llvmlite import ir

from learned_opt import recurrent_formulas
from learned_opt.recurrent_kernel import Writer, tile_of
from learned_opt.recurrent_update import BranchSpec, Spec
from learned_opt.simd import I64, LANES, Value, Vector

# Parameters whose contributions to theta's gradients are added in registers before the
# sums in memory are touched.
_CHUNKS = 4
BLOCK = _CHUNKS * LANES
# Rows of a unit that the derivative keeps: reset, update, candidate, what reset multiplies,
# and the new hidden value. Then the first four become cotangents: of the three gates'
# arguments and of what reset multiplies.
_RESET, _UPDATE, _CANDIDATE, _RECURRENT, _NEW = range(5)


class DerivativeWriter(Writer):
    """Writes ``derivative(...)``: cotangents of what ``BLOCK`` parameters' update saw.

    ``sums`` has ``LANES`` floats for each of theta's, to which this adds.
    """

    @staticmethod
    def arguments(spec: Spec) -> tuple[str, ...]:
        branches = range(len(spec.branches))
        kinds = ("hidden", "by_new_hidden", "by_hidden")
        hidden = [f"{kind}{i}" for kind in kinds for i in branches]
        return (
            *("theta", "scaled", "sums", "gradient", "by_step", "by_gradient", "stride"),
            *hidden,
        )

    def __init__(self, module: ir.Module, spec: Spec):
        super().__init__(module, spec, "derivative", self.arguments(spec))
        code, size = self._code, spec.hidden
        # Rows of BLOCK floats.
        self._gate_rows = [code.scratch(5 * size * BLOCK) for _ in spec.branches]
        self._input_rows = [code.scratch(branch.inputs * BLOCK) for branch in spec.branches]
        self._by_output = [code.scratch(branch.outputs * BLOCK) for branch in spec.branches]

    def write(self) -> ir.Function:
        code, spec = self._code, self._spec
        with code.loop(BLOCK, step=LANES) as lane:
            direct, gradient = self._write_forward(lane)
            by_inputs = [
                self._write_backward(i, branch, lane) for i, branch in enumerate(spec.branches)
            ]
            through = recurrent_formulas.network_inputs_vjp(spec, code, gradient, by_inputs)
            code.store(through + direct, self._given["by_gradient"], lane)
        for i, branch in enumerate(spec.branches):
            self._write_sums(i, branch)
        code.builder.ret_void()
        return self.function

    def _gate_place(self, kind: int, unit: int | Value, lane: int | Value) -> Value:
        unit = I64(unit) if isinstance(unit, int) else unit
        row = self._code.builder.add(unit, I64(kind * self._spec.hidden))
        return self._row(row, BLOCK, lane)

    def _write_forward(self, lane: Value) -> tuple[Vector, Vector]:
        """Gates and cotangents of the outputs, to the stack.

        Returns:
          (the gradient's cotangent that goes around the networks, the gradient).
        """
        code, spec, given = self._code, self._spec, self._given
        for i in range(len(spec.branches)):
            self._prefetch([f"hidden{i}", f"by_new_hidden{i}"], lane)
            self._prefetch([f"by_hidden{i}"], lane, write=True)
        gradient = code.load(given["gradient"], lane)
        inputs = recurrent_formulas.network_inputs(spec, code, gradient)
        outputs = []
        for i, (branch, x) in enumerate(zip(spec.branches, inputs, strict=True)):
            for f, value in enumerate(x):
                code.store(value, self._input_rows[i], self._row(f, BLOCK, lane))
            self._write_gates(i, branch, x, lane)
            new = [
                code.load(self._gate_rows[i], self._gate_place(_NEW, j, lane))
                for j in range(spec.hidden)
            ]
            outputs += self._outputs(branch, new)
        by_step = code.load(given["by_step"], lane)
        by_outputs, direct = recurrent_formulas.direction_vjp(
            spec, code, gradient, outputs, by_step
        )
        for i, branch in enumerate(spec.branches):
            for o in range(branch.outputs):
                code.store(by_outputs.pop(0), self._by_output[i], self._row(o, BLOCK, lane))
        return direct, gradient

    def _write_gates(self, index: int, branch: BranchSpec, x: list[Vector], lane: Value) -> None:
        code, size = self._code, self._spec.hidden
        old, stride, rows = self._given[f"hidden{index}"], self._given["stride"], self._gate_rows
        tile = tile_of(size)
        with code.loop(size, step=tile) as unit:
            hidden = [code.load(old, self._row(k, stride, lane)) for k in range(size)]
            arguments = self._arguments(branch, unit, tile, hidden, x)
            gates = self._gates(arguments)
            for j in range(tile):
                here = code.builder.add(unit, I64(j))
                reset, update, candidate = (gate[j] for gate in gates)
                before = code.load(old, self._row(here, stride, lane))
                new = code.fma(update, before - candidate, candidate)
                kept = (reset, update, candidate, arguments[3][j], new)
                for kind, value in enumerate(kept):
                    code.store(value, rows[index], self._gate_place(kind, here, lane))

    def _write_backward(self, index: int, branch: BranchSpec, lane: Value) -> list[Vector]:
        """Cotangents of gates (to the stack), hidden rows (to memory) and inputs (returned)."""
        code, size, given = self._code, self._spec.hidden, self._given
        rows, stride, theta = self._gate_rows[index], given["stride"], given["theta"]
        by_outputs = [
            code.load(self._by_output[index], self._row(o, BLOCK, lane))
            for o in range(branch.outputs)
        ]
        with code.loop(size) as unit:
            self._write_unit(index, branch, unit, lane, by_outputs)
        kinds = (_RESET, _UPDATE, _CANDIDATE)
        tile = tile_of(size)
        result = given[f"by_hidden{index}"]
        with code.loop(size, step=tile) as row:
            places = [self._row(code.builder.add(row, I64(k)), stride, lane) for k in range(tile)]
            sums = [[code.load(result, place) for place in places]]
            sums += [[code.vector(0.0)] * tile for _ in range(2)]
            pieces = [branch.piece(name) for name in ("hr", "hz", "hn")]
            for j in range(size):
                for gate, kind in enumerate((_RESET, _UPDATE, _RECURRENT)):
                    value = code.load(rows, self._gate_place(kind, j, lane))
                    for k in range(tile):
                        first = I64(pieces[gate].offset + k * size + j)
                        weight = code.splat(theta, self._row(row, size, first))
                        sums[gate][k] = code.fma(value, weight, sums[gate][k])
            for k, place in enumerate(places):
                code.store(sums[0][k] + sums[1][k] + sums[2][k], result, place)
        by_inputs = []
        for f in range(branch.inputs):
            parts = [code.vector(0.0)] * 3
            for gate, (kind, name) in enumerate(zip(kinds, ("ir", "iz", "in"), strict=True)):
                for j in range(size):
                    value = code.load(rows, self._gate_place(kind, j, lane))
                    weight = code.splat(theta, branch.piece(name).offset + f * size + j)
                    parts[gate] = code.fma(value, weight, parts[gate])
            by_inputs.append(parts[0] + parts[1] + parts[2])
        return by_inputs

    def _write_unit(
        self, index: int, branch: BranchSpec, unit: Value, lane: Value, by_outputs: list[Vector]
    ) -> None:
        """One unit's gates become cotangents; the part of its old value that stays is stored."""
        code, given, rows = self._code, self._given, self._gate_rows[index]
        place = self._row(unit, given["stride"], lane)
        by_new = code.load(given[f"by_new_hidden{index}"], place)
        dense = branch.piece("dense")
        for o, value in enumerate(by_outputs):
            weight = code.splat(given["theta"], self._row(unit, branch.outputs, dense.offset + o))
            by_new = code.fma(value, weight, by_new)
        places = [self._gate_place(kind, unit, lane) for kind in range(4)]
        reset, update, candidate, recurrent = (code.load(rows, at) for at in places)
        before = code.load(given[f"hidden{index}"], place)
        by_kept = by_new * update
        by_candidate = (by_new - by_kept) * (1.0 - candidate * candidate)
        by_update = by_kept * (before - candidate) * (1.0 - update)
        by_recurrent = by_candidate * reset
        by_reset = by_recurrent * recurrent * (1.0 - reset)
        for at, value in zip(
            places, (by_reset, by_update, by_candidate, by_recurrent), strict=True
        ):
            code.store(value, rows, at)
        code.store(by_kept, given[f"by_hidden{index}"], place)

    def _write_sums(self, index: int, branch: BranchSpec) -> None:
        """Adds the block's part of theta's gradients: left rows times right rows."""
        size, stride = self._spec.hidden, self._given["stride"]
        gates = (self._gate_rows[index], I64(BLOCK))
        old = (self._given[f"hidden{index}"], stride)
        given = (self._input_rows[index], I64(BLOCK))
        for kind, name in ((_RESET, "hr"), (_UPDATE, "hz"), (_RECURRENT, "hn")):
            self._write_products(branch, name, old, size, gates, kind * size)
        for kind, name in ((_RESET, "ir"), (_UPDATE, "iz"), (_CANDIDATE, "in")):
            self._write_products(branch, name, given, branch.inputs, gates, kind * size)
            self._write_products(branch, f"{name}_bias", None, 1, gates, kind * size)
        self._write_products(branch, "hn_bias", None, 1, gates, _RECURRENT * size)
        by_output = (self._by_output[index], I64(BLOCK))
        new = (self._code.at(gates[0], _NEW * size * BLOCK), I64(BLOCK))
        self._write_products(branch, "dense", new, size, by_output, 0)
        self._write_products(branch, "dense_bias", None, 1, by_output, 0)

    def _write_products(
        self,
        branch: BranchSpec,
        name: str,
        left: tuple[Value, Value] | None,
        count: int,
        right: tuple[Value, Value],
        first: int,
    ) -> None:
        """Adds ``count`` left rows (or ones) times right rows, over the block, to sums.

        Args:
          branch, name: of the piece of theta whose sums these are.
          left, right: (pointer, row stride).
          count: number of left rows, those of the piece.
          first: of the right rows, of which there are as many as the piece has columns.
        """
        code, piece, sums = self._code, branch.piece(name), self._given["sums"]
        with code.loop(count) as k:
            factors = []
            if left is not None:
                factors = [
                    code.load(left[0], self._row(k, left[1], c * LANES)) for c in range(_CHUNKS)
                ]
            for j in range(piece.columns):
                place = self._row(k, piece.columns * LANES, (piece.offset + j) * LANES)
                total = code.load(sums, place)
                for c in range(_CHUNKS):
                    value = code.load(right[0], self._row(first + j, right[1], c * LANES))
                    total = code.fma(factors[c], value, total) if factors else total + value
                code.store(total, sums, place)
