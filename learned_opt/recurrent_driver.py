"""Drives ``recurrent_kernel`` over parameters and agents, and answers XLA's calls.

The last, partial block of parameters goes by way of a stage: zeros but for what is copied
there, which give nothing to theta's gradients, as all cotangents are zero.
"""

import functools

from llvmlite import ir

from learned_opt import recurrent_kernel
from learned_opt.recurrent_derivative import BLOCK, DerivativeWriter
from learned_opt.recurrent_kernel import UpdateWriter
from learned_opt.recurrent_update import DERIVATIVE_HANDLER, UPDATE_HANDLER, Spec
from learned_opt.simd import F32, I64, LANES, Code, Machine, Value
from learned_opt.xla_handler import Buffers, write_handler

# Parameters whose contributions to theta's gradients are summed in float32, lane by lane,
# before they join sums in float64.
_SPAN = 64 * BLOCK
_F64 = ir.DoubleType()


def update_arrays(spec: Spec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Operands and results of the update: all ``[..., D]`` or ``[..., H, D]`` but theta."""
    indices = range(len(spec.branches))
    operands = ("gradient", "theta", *(f"hidden{i}" for i in indices))
    return operands, ("step", *(f"new_hidden{i}" for i in indices))


def derivative_arrays(spec: Spec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Operands and results of the derivative."""
    operands, results = update_arrays(spec)
    return (*operands, *(f"by_{n}" for n in results)), tuple(f"by_{n}" for n in operands)


@functools.cache
def compiled(spec: Spec) -> Machine:
    """The machine code for a spec, with two handlers; once per process.

    Raises:
      RuntimeError: LLVM cannot make code for this machine.
    """
    module = ir.Module("recurrent_update")
    update = UpdateWriter(module, spec).write()
    derivative = DerivativeWriter(module, spec).write()
    names = UpdateWriter.arguments(spec), DerivativeWriter.arguments(spec)
    _write_member(module, spec, update, names[0], UPDATE_HANDLER)
    _write_member(module, spec, derivative, names[1], DERIVATIVE_HANDLER)
    return Machine(module)


def _write_member(
    module: ir.Module, spec: Spec, kernel: ir.Function, names: tuple[str, ...], handler: str
) -> None:
    """A handler that runs a kernel over all blocks of all members of a batch."""
    derivative = handler == DERIVATIVE_HANDLER
    operands, results = (derivative_arrays if derivative else update_arrays)(spec)

    def body(code: Code, buffers: Buffers) -> None:
        driver = _Driver(code, spec, kernel, names, buffers)
        with code.loop(buffers.batch) as member:
            driver.begin(member)
            if derivative:
                driver.run_derivative(set(results))
            else:
                driver.run(LANES, set(results))

    write_handler(module, handler, operands, results, body)


class _Driver:
    """Writes the loops around one kernel."""

    def __init__(
        self, code: Code, spec: Spec, kernel: ir.Function, names: tuple[str, ...], found: Buffers
    ):
        self._code, self._spec, self._kernel, self._names = code, spec, kernel, names
        self._found, self._size = found, found.last
        self._scaled = code.scratch(spec.theta_size)
        self._given: dict[str, Value] = {}
        # Arrays that are walked along D, and how many rows they have.
        self._rows = {
            name: spec.hidden if "hidden" in name else 1
            for name in found.data
            if "theta" not in name
        }

    def begin(self, member: Value) -> None:
        """Takes the member's part of all arrays, and prepares its theta."""
        code, builder = self._code, self._code.builder
        for name, data in self._found.data.items():
            length = builder.mul(self._size, I64(self._rows.get(name, 0)))
            if "theta" in name:
                length = I64(self._spec.theta_size)
            self._given[name] = code.at(data, builder.mul(member, length))
        self._given["scaled"] = self._scaled
        for branch in self._spec.branches:
            for name, piece in branch.pieces:
                factor = 0.5 if recurrent_kernel.half_scaled(name) else 1.0
                stop = piece.offset + piece.rows * piece.columns
                with code.loop(stop, piece.offset) as i:
                    value = builder.fmul(code.scalar(self._given["theta"], i), F32(factor))
                    builder.store(value, code.at(self._scaled, i))

    def run(self, block: int, results: set[str]) -> None:
        """All parameters, ``block`` at a time."""
        self._run_whole(block, I64(0), self._whole(block))
        self._run_tail(block, results)

    def _whole(self, block: int) -> Value:
        return self._code.builder.and_(self._size, I64(-block))

    def _run_whole(self, block: int, start: Value, stop: Value) -> None:
        with self._code.loop(stop, start, block) as i:
            self._call({n: self._code.at(self._given[n], i) for n in self._rows}, self._size)

    def _run_tail(self, block: int, results: set[str]) -> None:
        code, builder = self._code, self._code.builder
        stage = {name: code.scratch(count * block) for name, count in self._rows.items()}
        tail = builder.and_(self._size, I64(block - 1))
        with builder.if_then(builder.icmp_signed(">", tail, I64(0))):
            start = builder.sub(self._size, tail)
            outside = {name: code.at(self._given[name], start) for name in self._rows}
            for name, room in stage.items():
                code.clear(room, self._rows[name] * block // LANES)
                if name not in results:
                    source, target = (outside[name], self._size), (room, I64(block))
                    code.copy_rows(self._rows[name], tail, source, target)
            self._call(stage, I64(block))
            for name in results & set(stage):
                source, target = (stage[name], I64(block)), (outside[name], self._size)
                code.copy_rows(self._rows[name], tail, source, target)

    def _call(self, places: dict[str, Value], stride: Value) -> None:
        values = {**self._given, **places, "stride": stride}
        self._code.builder.call(self._kernel, [values[name] for name in self._names])

    def run_derivative(self, results: set[str]) -> None:
        """All parameters, and theta's gradients from the sums that the kernel leaves."""
        code, builder, count = self._code, self._code.builder, self._spec.theta_size
        sums, totals = code.scratch(count * LANES), code.scratch(2 * count)
        self._given["sums"] = sums
        with code.loop(count) as i:
            builder.store(_F64(0.0), code.at(totals, i, _F64))
        whole = self._whole(BLOCK)
        with code.loop(whole, step=_SPAN) as start:
            self._clear(sums)
            stop = builder.add(start, I64(_SPAN))
            stop = builder.select(builder.icmp_signed("<", stop, whole), stop, whole)
            self._run_whole(BLOCK, start, stop)
            self._add(sums, totals)
        self._clear(sums)
        self._run_tail(BLOCK, results)
        self._add(sums, totals)
        with code.loop(count) as i:
            total = builder.fptrunc(code.scalar(totals, i, _F64), F32)
            builder.store(total, code.at(self._given["by_theta"], i))

    def _clear(self, sums: Value) -> None:
        with self._code.loop(self._spec.theta_size * LANES, step=LANES) as i:
            self._code.store(self._code.vector(0.0), sums, i)

    def _add(self, sums: Value, totals: Value) -> None:
        """Adds the lanes of each sum to its total."""
        code, builder = self._code, self._code.builder
        with code.loop(self._spec.theta_size) as i:
            lanes = code.load(sums, builder.mul(i, I64(LANES)))
            part = builder.fpext(code.sum_of_lanes(lanes), _F64)
            place = code.at(totals, i, _F64)
            builder.store(builder.fadd(builder.load(place, typ=_F64), part), place)
