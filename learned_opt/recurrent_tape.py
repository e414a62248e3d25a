"""The forward pass of recurrent optimizers' update, as its derivative wants it.

``BLOCK`` parameters at a time, it leaves a tape: the networks' inputs and all gates. The
derivative reads it, and writes over it.
"""

from typing import NamedTuple

from llvmlite import ir

from learned_opt import recurrent_formulas
from learned_opt.recurrent_kernel import Writer, tile_of
from learned_opt.recurrent_update import BranchSpec, Spec
from learned_opt.simd import I64, LANES, Value, Vector

# Parameters whose contributions to theta's gradients are added in registers before the
# sums in memory are touched.
CHUNKS = 4
BLOCK = CHUNKS * LANES
# Rows of a unit that the derivative keeps: reset, update, candidate, what reset multiplies,
# and the new hidden value. Then the first four become cotangents: of the three gates'
# arguments and of what reset multiplies.
RESET, UPDATE, CANDIDATE, RECURRENT, NEW = range(5)


class Tape(NamedTuple):
    """Where the rows of one update's forward pass lie: ``BLOCK`` floats each.

    Attributes:
      gates: of each branch, the first of its 5 H rows.
      inputs: of each branch, the first of its F rows.
      rows: how many there are.
    """

    gates: tuple[int, ...]
    inputs: tuple[int, ...]
    rows: int

    @property
    def floats(self) -> int:
        return self.rows * BLOCK

    def new_hidden(self, branch: int, size: int) -> int:
        """Where a branch's H rows of new hidden values start, in floats."""
        return (self.gates[branch] + NEW * size) * BLOCK


def tape_of(spec: Spec) -> Tape:
    """The tape of a spec's updates."""
    gates, inputs, row = [], [], 0
    for branch in spec.branches:
        gates.append(row)
        inputs.append(row + 5 * spec.hidden)
        row += 5 * spec.hidden + branch.inputs
    return Tape(tuple(gates), tuple(inputs), row)


class OnTape(Writer):
    """A function with a tape among its arguments."""

    def __init__(self, module: ir.Module, spec: Spec, name: str, arguments: tuple[str, ...]):
        super().__init__(module, spec, name, arguments)
        tape, code = tape_of(spec), self._code
        self._gate_rows = [code.at(self._given["tape"], row * BLOCK) for row in tape.gates]
        self._input_rows = [code.at(self._given["tape"], row * BLOCK) for row in tape.inputs]

    def _gate_place(self, kind: int, unit: int | Value, lane: int | Value) -> Value:
        unit = I64(unit) if isinstance(unit, int) else unit
        row = self._code.builder.add(unit, I64(kind * self._spec.hidden))
        return self._row(row, BLOCK, lane)


class TapeWriter(OnTape):
    """Writes ``forward(...)``: the networks' inputs and gates of ``BLOCK`` parameters."""

    @staticmethod
    def arguments(spec: Spec) -> tuple[str, ...]:
        hidden = [f"hidden{i}" for i in range(len(spec.branches))]
        return ("scaled", "gradient", "tape", "stride", *hidden)

    def __init__(self, module: ir.Module, spec: Spec):
        super().__init__(module, spec, "forward", self.arguments(spec))

    def write(self) -> ir.Function:
        code, spec, given = self._code, self._spec, self._given
        with code.loop(BLOCK, step=LANES) as lane:
            self._prefetch([f"hidden{i}" for i in range(len(spec.branches))], lane)
            gradient = code.load(given["gradient"], lane)
            inputs = recurrent_formulas.network_inputs(spec, code, gradient)
            for i, (branch, x) in enumerate(zip(spec.branches, inputs, strict=True)):
                for f, value in enumerate(x):
                    code.store(value, self._input_rows[i], self._row(f, BLOCK, lane))
                self._write_gates(i, branch, x, lane)
        code.builder.ret_void()
        return self.function

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
