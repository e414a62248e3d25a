"""The forward pass of recurrent optimizers' updates, as their derivative wants it.

``BLOCK`` parameters at a time, each update leaves a tape: the networks' inputs and all gates.
Tapes of successive updates lie one after the other, as each reads the hidden values that the
one before it ends with; the first of all holds nothing but the hidden values to begin with.
"""

from typing import NamedTuple

from llvmlite import ir

from learned_opt import recurrent_formulas
from learned_opt.recurrent_kernel import Writer, tile_of
from learned_opt.recurrent_update import BranchSpec, Spec
from learned_opt.simd import I64, LANES, Value, Vector

# Parameters whose contributions to theta's gradients are added in registers before the
# sums in memory are touched.
BLOCK = 4 * LANES
# Rows of a unit that the derivative keeps: reset, update, candidate, what reset multiplies,
# and the new hidden value. Then the first four become cotangents: of the three gates'
# arguments and of what reset multiplies.
RESET, UPDATE, CANDIDATE, RECURRENT, NEW = range(5)


class Tape(NamedTuple):
    """Where the rows of one update's forward pass lie: ``BLOCK`` floats each.

    Attributes:
      gates: of each branch, the first of its 5 H rows.
      inputs: of each branch, the first of its F rows.
      outputs: of each branch, the first of the O rows for its outputs' cotangents.
      rows: how many there are.
    """

    gates: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    rows: int

    @property
    def floats(self) -> int:
        return self.rows * BLOCK


def tape_of(spec: Spec) -> Tape:
    """The tape of a spec's updates."""
    gates, inputs, outputs, row = [], [], [], 0
    for branch in spec.branches:
        gates.append(row)
        inputs.append(row + 5 * spec.hidden)
        outputs.append(inputs[-1] + branch.inputs)
        row = outputs[-1] + branch.outputs
    return Tape(tuple(gates), tuple(inputs), tuple(outputs), row)


class OnTape(Writer):
    """A function with a tape among its arguments."""

    def __init__(self, module: ir.Module, spec: Spec):
        super().__init__(module, spec)
        tape, code = tape_of(spec), self._code

        def places(rows: tuple[int, ...]) -> list[Value]:
            return [code.at(self._given["tape"], row * BLOCK) for row in rows]

        self._gate_rows, self._input_rows = places(tape.gates), places(tape.inputs)
        self._by_output_rows = places(tape.outputs)
        # The hidden values before the update are the tape before's new ones.
        before = NEW * spec.hidden - tape.rows
        self._hidden_rows = places(tuple(row + before for row in tape.gates))

    def _gate_place(self, kind: int, unit: int | Value, lane: int | Value) -> Value:
        unit = I64(unit) if isinstance(unit, int) else unit
        row = self._code.builder.add(unit, I64(kind * self._spec.hidden))
        return self._row(row, BLOCK, lane)


class TapeOpener(OnTape):
    """Writes ``open(...)``: hidden values, rows ``stride`` apart, to where ``tape`` reads them."""

    name = "open"

    @staticmethod
    def arguments(spec: Spec) -> tuple[str, ...]:
        return ("tape", "stride", *(f"hidden{i}" for i in range(len(spec.branches))))

    def write(self) -> ir.Function:
        code, names = self._code, self.arguments(self._spec)[2:]
        with code.loop(BLOCK, step=LANES) as lane:
            self._prefetch(names, lane)
            for name, rows in zip(names, self._hidden_rows, strict=True):
                for k in range(self._spec.hidden):
                    place = self._row(k, self._given["stride"], lane)
                    value = code.load(self._given[name], place)
                    code.store(value, rows, self._row(k, BLOCK, lane))
        code.builder.ret_void()
        return self.function


class TapeWriter(OnTape):
    """Writes ``forward(...)``: the networks' inputs and gates of ``BLOCK`` parameters."""

    name = "forward"

    @staticmethod
    def arguments(spec: Spec) -> tuple[str, ...]:
        del spec
        return ("scaled", "gradient", "tape")

    def write(self) -> ir.Function:
        code, spec = self._code, self._spec
        with code.loop(BLOCK, step=LANES) as lane:
            gradient = code.load(self._given["gradient"], lane)
            inputs = recurrent_formulas.network_inputs(spec, code, gradient)
            for i, (branch, x) in enumerate(zip(spec.branches, inputs, strict=True)):
                for f, value in enumerate(x):
                    code.store(value, self._input_rows[i], self._row(f, BLOCK, lane))
                self._write_gates(i, branch, x, lane)
        code.builder.ret_void()
        return self.function

    def _write_gates(self, index: int, branch: BranchSpec, x: list[Vector], lane: Value) -> None:
        code, size, rows = self._code, self._spec.hidden, self._gate_rows[index]
        old = self._hidden_rows[index]
        tile = tile_of(size)
        with code.loop(size, step=tile) as unit:
            hidden = [code.load(old, self._row(k, BLOCK, lane)) for k in range(size)]
            arguments = self._arguments(branch, unit, tile, hidden, x)
            gates = self._gates(arguments)
            for j in range(tile):
                here = code.builder.add(unit, I64(j))
                reset, update, candidate = (gate[j] for gate in gates)
                before = code.load(old, self._row(here, BLOCK, lane))
                new = code.fma(update, before - candidate, candidate)
                kept = (reset, update, candidate, arguments[3][j], new)
                for kind, value in enumerate(kept):
                    code.store(value, rows, self._gate_place(kind, here, lane))
