"""Drives the recurrent kernels over parameters and agents, and answers XLA's calls.

The last, partial block of parameters goes by way of a stage: zeros but for what is copied
there, which give nothing to theta's gradients, as all cotangents are zero.
"""

import functools

from llvmlite import ir

from learned_opt import recurrent_kernel
from learned_opt.recurrent_derivative import DerivativeWriter, SumsWriter
from learned_opt.recurrent_kernel import UpdateWriter, Writer
from learned_opt.recurrent_tape import BLOCK, TapeOpener, TapeWriter, tape_of
from learned_opt.recurrent_update import (
    DERIVATIVE_HANDLER,
    META_GRADIENT_HANDLER,
    UPDATE_HANDLER,
    Spec,
)
from learned_opt.simd import F32, I64, LANES, Code, Machine, Value
from learned_opt.xla_handler import Buffers, write_handler

# Parameters whose contributions to theta's gradients are summed in float32, lane by lane,
# before they join sums in float64: of one update, and of all updates of a stretch.
_SPAN, _STRETCH_SPAN = 64 * BLOCK, 16 * BLOCK
# Updates of a stretch whose tapes go to the sums together: the rows of one gate's sums, on all
# of them, fit in the first-level cache.
_TOGETHER = 4
_F64 = ir.DoubleType()

Places = dict[str, Value]
Kind = type[Writer]
Kernels = dict[Kind, ir.Function]
_KINDS: list[Kind] = [UpdateWriter, TapeOpener, TapeWriter, DerivativeWriter, SumsWriter]


def update_arrays(spec: Spec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Operands and results of the update: all ``[..., D]`` or ``[..., H, D]`` but theta."""
    indices = range(len(spec.branches))
    operands = ("gradient", "theta", *(f"hidden{i}" for i in indices))
    return operands, ("step", *(f"new_hidden{i}" for i in indices))


def derivative_arrays(spec: Spec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Operands and results of the derivative."""
    operands, results = update_arrays(spec)
    return (*operands, *(f"by_{n}" for n in results)), tuple(f"by_{n}" for n in operands)


def meta_gradient_arrays(spec: Spec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Operands and results of the derivative of S updates.

    ``by_step`` is ``[..., D]``, ``penalty`` ``[..., 1]``, ``gradients`` ``[..., S, D]``, and
    ``tape`` is room, see ``room_for``.
    """
    hidden = (f"hidden{i}" for i in range(len(spec.branches)))
    return ("by_step", "penalty", "gradients", "theta", *hidden), ("by_theta", "tape")


def room_for(spec: Spec, updates: int) -> int:
    """Floats of ``tape``: S tapes, the one before them, and S blocks of gradients."""
    return (updates + 1) * tape_of(spec).floats + updates * BLOCK


@functools.cache
def compiled(spec: Spec) -> Machine:
    """The machine code for a spec, with three handlers; once per process.

    Raises:
      RuntimeError: LLVM cannot make code for this machine.
    """
    module = ir.Module("recurrent_update")
    kernels = {kind: kind(module, spec).write() for kind in _KINDS}
    for handler, arrays, driver in (
        (UPDATE_HANDLER, update_arrays, _UpdateDriver),
        (DERIVATIVE_HANDLER, derivative_arrays, _DerivativeDriver),
        (META_GRADIENT_HANDLER, meta_gradient_arrays, _MetaGradientDriver),
    ):

        def body(code: Code, buffers: Buffers, driver: type[_Driver] = driver) -> None:
            running = driver(code, spec, kernels, buffers)
            with code.loop(buffers.batch) as member:
                running.begin(member)
                running.run()

        write_handler(module, handler, *arrays(spec), body)
    return Machine(module)


class _Driver:
    """Writes the loops around kernels, over the parameters of one member of a batch."""

    block = LANES

    def __init__(self, code: Code, spec: Spec, kernels: Kernels, found: Buffers):
        self._code, self._spec, self._kernels, self._found = code, spec, kernels, found
        self._size = found.last
        self._scaled = code.scratch(spec.theta_size)
        self._given: Places = {}
        # Arrays that are walked along D, and how many rows they have.
        self._rows: dict[str, int | Value] = {
            name: spec.hidden if "hidden" in name else 1
            for name in found.data
            if "theta" not in name
        }

    def begin(self, member: Value) -> None:
        """Takes the member's part of all arrays, and prepares its theta."""
        code, builder = self._code, self._code.builder
        for name, data in self._found.data.items():
            self._given[name] = code.at(data, builder.mul(member, self._length(name)))
        self._given["scaled"] = self._scaled
        for branch in self._spec.branches:
            for name, piece in branch.pieces:
                factor = 0.5 if recurrent_kernel.half_scaled(name) else 1.0
                stop = piece.offset + piece.rows * piece.columns
                with code.loop(stop, piece.offset) as i:
                    value = builder.fmul(code.scalar(self._given["theta"], i), F32(factor))
                    builder.store(value, code.at(self._scaled, i))

    def _length(self, name: str) -> Value:
        """Floats of one member."""
        if "theta" in name:
            return I64(self._spec.theta_size)
        rows = self._rows[name]
        rows = I64(rows) if isinstance(rows, int) else rows
        return self._code.builder.mul(self._size, rows)

    def run(self) -> None:
        """All parameters."""
        raise NotImplementedError

    def _run_block(self, places: Places, stride: Value) -> None:
        """One block; ``places`` are those of the arrays in ``_rows``, ``stride`` their rows'."""
        raise NotImplementedError

    def _whole(self) -> Value:
        return self._code.builder.and_(self._size, I64(-self.block))

    def _run_whole(self, start: Value, stop: Value) -> None:
        with self._code.loop(stop, start, self.block) as i:
            self._run_block({n: self._code.at(self._given[n], i) for n in self._rows}, self._size)

    def _run_tail(self, results: set[str]) -> None:
        code, builder, block = self._code, self._code.builder, self.block
        stage = {name: self._stage(name) for name in self._rows}
        tail = builder.and_(self._size, I64(block - 1))
        with builder.if_then(builder.icmp_signed(">", tail, I64(0))):
            start = builder.sub(self._size, tail)
            outside = {name: code.at(self._given[name], start) for name in self._rows}
            for name, room in stage.items():
                rows = self._rows[name]
                self._clear(
                    room, rows * block if isinstance(rows, int) else builder.mul(rows, I64(block))
                )
                if name not in results:
                    source, target = (outside[name], self._size), (room, I64(block))
                    code.copy_rows(rows, tail, source, target)
            self._run_block(stage, I64(block))
            for name in results & set(stage):
                source, target = (stage[name], I64(block)), (outside[name], self._size)
                code.copy_rows(self._rows[name], tail, source, target)

    def _stage(self, name: str) -> Value:
        return self._code.scratch(self._rows[name] * self.block)

    def _clear(self, pointer: Value, floats: int | Value) -> None:
        """Zeros; ``floats`` is a multiple of ``LANES``."""
        with self._code.loop(floats, step=LANES) as i:
            self._code.store(self._code.vector(0.0), pointer, i)

    def _call(self, kind: Kind, values: Places) -> None:
        names = kind.arguments(self._spec)
        self._code.builder.call(self._kernels[kind], [values[name] for name in names])


class _UpdateDriver(_Driver):
    """Step and new hidden values."""

    def run(self) -> None:
        self._run_whole(I64(0), self._whole())
        self._run_tail(set(update_arrays(self._spec)[1]))

    def _run_block(self, places: Places, stride: Value) -> None:
        self._call(UpdateWriter, {**self._given, **places, "stride": stride})


class _DerivativeDriver(_Driver):
    """Cotangents of one update, and theta's gradients from the sums that kernels leave."""

    block = BLOCK
    span = _SPAN

    def __init__(self, code: Code, spec: Spec, kernels: Kernels, found: Buffers):
        super().__init__(code, spec, kernels, found)
        self._sums = code.scratch(spec.theta_size * LANES)
        self._totals = code.scratch(2 * spec.theta_size)  # in float64
        self._penalty = code.scratch(BLOCK)
        # The tape before the first update's, and those of the updates.
        self._tapes = found.data.get("tape") or code.scratch(2 * tape_of(spec).floats)

    def begin(self, member: Value) -> None:
        super().begin(member)
        self._given |= {"sums": self._sums, "penalty": self._penalty}
        self._clear(self._penalty, BLOCK)

    def _tape(self, update: Value) -> Value:
        builder, floats = self._code.builder, I64(tape_of(self._spec).floats)
        return self._code.at(self._tapes, builder.mul(builder.add(update, I64(1)), floats))

    def run(self) -> None:
        code, builder, count = self._code, self._code.builder, self._spec.theta_size
        with code.loop(count) as i:
            builder.store(_F64(0.0), code.at(self._totals, i, _F64))
        whole = self._whole()
        with code.loop(whole, step=self.span) as start:
            self._clear(self._sums, count * LANES)
            stop = builder.add(start, I64(self.span))
            stop = builder.select(builder.icmp_signed("<", stop, whole), stop, whole)
            self._run_whole(start, stop)
            self._add_sums()
        self._clear(self._sums, count * LANES)
        self._run_tail(set(derivative_arrays(self._spec)[1]))
        self._add_sums()
        with code.loop(count) as i:
            total = builder.fptrunc(code.scalar(self._totals, i, _F64), F32)
            builder.store(total, code.at(self._given["by_theta"], i))

    def _run_block(self, places: Places, stride: Value) -> None:
        values = {**self._given, **places, "stride": stride, "by_stride": stride}
        values |= {"tape": self._tape(I64(0)), "count": I64(1)}
        for kind in (TapeOpener, TapeWriter, DerivativeWriter, SumsWriter):
            self._call(kind, values)

    def _add_sums(self) -> None:
        """Adds the lanes of each sum to its total."""
        code, builder = self._code, self._code.builder
        with code.loop(self._spec.theta_size) as i:
            lanes = code.load(self._sums, builder.mul(i, I64(LANES)))
            part = builder.fpext(code.sum_of_lanes(lanes), _F64)
            place = code.at(self._totals, i, _F64)
            builder.store(builder.fadd(builder.load(place, typ=_F64), part), place)


class _MetaGradientDriver(_DerivativeDriver):
    """Theta's gradients through S updates, a block of parameters at a time.

    A block goes through all updates and back before the next one begins, so what lies
    between stays in the second-level cache.
    """

    span = _STRETCH_SPAN

    def __init__(self, code: Code, spec: Spec, kernels: Kernels, found: Buffers):
        super().__init__(code, spec, kernels, found)
        self._updates = found.dimension("gradients", -2)
        del self._rows["penalty"], self._rows["tape"]
        self._rows["gradients"] = self._updates
        self._trash = code.scratch(BLOCK)
        self._by_hidden = [code.scratch(spec.hidden * BLOCK) for _ in spec.branches]

    def _length(self, name: str) -> Value:
        if name == "penalty":
            return I64(1)
        if name == "tape":
            return I64(0)  # all members use the first one's room, which so stays in the cache
        return super()._length(name)

    def begin(self, member: Value) -> None:
        code, found = self._code, self._found
        super().begin(member)
        value = code.splat(code.at(found.data["penalty"], member))
        for lane in range(0, BLOCK, LANES):
            code.store(value, self._penalty, lane)

    def _stage(self, name: str) -> Value:
        if name != "gradients":
            return super()._stage(name)
        return self._tape(self._updates)  # after the last tape

    def _run_tail(self, results: set[str]) -> None:
        # Where there is no parameter, a step may not be 0, but must not be penalised.
        code, builder = self._code, self._code.builder
        with code.loop(BLOCK, builder.and_(self._size, I64(BLOCK - 1))) as lane:
            builder.store(F32(0.0), code.at(self._penalty, lane))
        super()._run_tail(results)

    def _run_block(self, places: Places, stride: Value) -> None:
        code, builder = self._code, self._code.builder
        values = {**self._given, **places, "stride": stride}
        self._call(TapeOpener, {**values, "tape": self._tape(I64(0))})
        with code.loop(self._updates) as update:
            self._call(TapeWriter, values | self._of_update(places, stride, update))
        for rows in self._by_hidden:
            self._clear(rows, self._spec.hidden * BLOCK)
        groups = builder.sdiv(builder.add(self._updates, I64(_TOGETHER - 1)), I64(_TOGETHER))
        with code.loop(groups) as done:
            group = builder.sub(builder.sub(groups, I64(1)), done)
            start = builder.mul(group, I64(_TOGETHER))
            left = builder.sub(self._updates, start)
            short = builder.icmp_signed("<", left, I64(_TOGETHER))
            count = builder.select(short, left, I64(_TOGETHER))
            with code.loop(count) as later:
                update = builder.sub(builder.sub(builder.add(start, count), I64(1)), later)
                self._backward({**values, **self._of_update(places, stride, update)})
            self._call(SumsWriter, {**values, "tape": self._tape(start), "count": count})

    def _of_update(self, places: Places, stride: Value, update: Value) -> Places:
        gradient = self._code.builder.mul(update, stride)
        return {
            "gradient": self._code.at(places["gradients"], gradient),
            "tape": self._tape(update),
        }

    def _backward(self, values: Places) -> None:
        cotangents = {
            f"{kind}{i}": rows
            for kind in ("by_new_hidden", "by_hidden")
            for i, rows in enumerate(self._by_hidden)
        }
        around = {"by_gradient": self._trash, "by_stride": I64(BLOCK)}
        self._call(DerivativeWriter, {**values, **cotangents, **around})
