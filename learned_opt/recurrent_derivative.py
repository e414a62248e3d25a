"""The derivative of recurrent optimizers' updates, ``BLOCK`` parameters at a time.

A forward pass leaves a tape of all gates, which become cotangents of what went into them. What
the tapes of a few updates then give to theta's gradients is added to sums that have one lane for
every ``LANES``-th parameter.
"""

from llvmlite import ir

from learned_opt import recurrent_formulas
from learned_opt.recurrent_kernel import tile_of
from learned_opt.recurrent_tape import (
    BLOCK,
    CANDIDATE,
    NEW,
    RECURRENT,
    RESET,
    UPDATE,
    OnTape,
    tape_of,
)
from learned_opt.recurrent_update import BranchSpec, Spec
from learned_opt.simd import I64, LANES, Value, Vector


class DerivativeWriter(OnTape):
    """Writes ``derivative(...)``: cotangents of what ``BLOCK`` parameters' update saw.

    That of the step is ``by_step`` plus ``penalty`` times the step itself. Rows of cotangents
    of hidden values are ``by_stride`` apart; ``by_new_hidden`` and ``by_hidden`` may be the
    same place.
    """

    name = "derivative"

    @staticmethod
    def arguments(spec: Spec) -> tuple[str, ...]:
        branches = range(len(spec.branches))
        hidden = [f"{kind}{i}" for kind in ("by_new_hidden", "by_hidden") for i in branches]
        return (
            *("theta", "scaled", "tape", "gradient", "by_step", "penalty"),
            *("by_gradient", "by_stride", *hidden),
        )

    def write(self) -> ir.Function:
        code, spec = self._code, self._spec
        with code.loop(BLOCK, step=LANES) as lane:
            direct, gradient = self._write_by_outputs(lane)
            by_inputs = [
                self._write_backward(i, branch, lane) for i, branch in enumerate(spec.branches)
            ]
            through = recurrent_formulas.network_inputs_vjp(spec, code, gradient, by_inputs)
            code.store(through + direct, self._given["by_gradient"], lane)
        code.builder.ret_void()
        return self.function

    def _write_by_outputs(self, lane: Value) -> tuple[Vector, Vector]:
        """Cotangents of the outputs, to the tape.

        Returns:
          (the gradient's cotangent that goes around the networks, the gradient).
        """
        code, spec, given = self._code, self._spec, self._given
        gradient = code.load(given["gradient"], lane)
        outputs = []
        for i, branch in enumerate(spec.branches):
            new = [
                code.load(self._gate_rows[i], self._gate_place(NEW, j, lane))
                for j in range(spec.hidden)
            ]
            outputs += self._outputs(branch, new)
        step = recurrent_formulas.direction(spec, code, gradient, outputs)
        penalty = code.load(given["penalty"], lane)
        by_step = code.fma(penalty, step, code.load(given["by_step"], lane))
        by_outputs, direct = recurrent_formulas.direction_vjp(
            spec, code, gradient, outputs, by_step
        )
        for i, branch in enumerate(spec.branches):
            for o in range(branch.outputs):
                code.store(by_outputs.pop(0), self._by_output_rows[i], self._row(o, BLOCK, lane))
        return direct, gradient

    def _write_backward(self, index: int, branch: BranchSpec, lane: Value) -> list[Vector]:
        """Cotangents of gates (to the tape), hidden rows (to memory) and inputs (returned)."""
        code, size, given = self._code, self._spec.hidden, self._given
        rows, stride, theta = self._gate_rows[index], given["by_stride"], given["theta"]
        by_outputs = [
            code.load(self._by_output_rows[index], self._row(o, BLOCK, lane))
            for o in range(branch.outputs)
        ]
        with code.loop(size) as unit:
            self._write_unit(index, branch, unit, lane, by_outputs)
        kinds = (RESET, UPDATE, CANDIDATE)
        tile = tile_of(size)
        result = given[f"by_hidden{index}"]
        with code.loop(size, step=tile) as row:
            places = [self._row(code.builder.add(row, I64(k)), stride, lane) for k in range(tile)]
            sums = [[code.load(result, place) for place in places]]
            sums += [[code.vector(0.0)] * tile for _ in range(2)]
            pieces = [branch.piece(name) for name in ("hr", "hz", "hn")]
            for j in range(size):
                for gate, kind in enumerate((RESET, UPDATE, RECURRENT)):
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
        by_place = self._row(unit, given["by_stride"], lane)
        by_new = code.load(given[f"by_new_hidden{index}"], by_place)
        dense = branch.piece("dense")
        for o, value in enumerate(by_outputs):
            weight = code.splat(given["theta"], self._row(unit, branch.outputs, dense.offset + o))
            by_new = code.fma(value, weight, by_new)
        places = [self._gate_place(kind, unit, lane) for kind in range(4)]
        reset, update, candidate, recurrent = (code.load(rows, at) for at in places)
        before = code.load(self._hidden_rows[index], self._row(unit, BLOCK, lane))
        by_kept = by_new * update
        by_candidate = (by_new - by_kept) * (1.0 - candidate * candidate)
        by_update = by_kept * (before - candidate) * (1.0 - update)
        by_recurrent = by_candidate * reset
        by_reset = by_recurrent * recurrent * (1.0 - reset)
        for at, value in zip(
            places, (by_reset, by_update, by_candidate, by_recurrent), strict=True
        ):
            code.store(value, rows, at)
        code.store(by_kept, given[f"by_hidden{index}"], by_place)


class SumsWriter(OnTape):
    """Writes ``add(...)``: what ``BLOCK`` parameters give to theta in ``count`` updates.

    ``tape`` is the first update's. ``sums`` has ``LANES`` floats for each of theta's, to which
    this adds. A tile of sums stays in registers through the updates; they should be so few that
    the rows of one gate's sums, on all their tapes, fit in the first-level cache.
    """

    name = "add"

    @staticmethod
    def arguments(spec: Spec) -> tuple[str, ...]:
        del spec
        return ("sums", "tape", "count")

    def write(self) -> ir.Function:
        for i, branch in enumerate(self._spec.branches):
            self._write_sums(i, branch)
        self._code.builder.ret_void()
        return self.function

    def _write_sums(self, index: int, branch: BranchSpec) -> None:
        """One branch's: left rows times right rows."""
        size, gates = self._spec.hidden, self._gate_rows[index]
        old, given = self._hidden_rows[index], self._input_rows[index]
        for kind, name in ((RESET, "hr"), (UPDATE, "hz"), (RECURRENT, "hn")):
            self._write_products(branch, name, old, size, gates, kind * size)
        for kind, name in ((RESET, "ir"), (UPDATE, "iz"), (CANDIDATE, "in")):
            self._write_products(branch, name, given, branch.inputs, gates, kind * size)
            self._write_products(branch, f"{name}_bias", None, 1, gates, kind * size)
        self._write_products(branch, "hn_bias", None, 1, gates, RECURRENT * size)
        new = self._code.at(gates, NEW * size * BLOCK)
        self._write_products(branch, "dense", new, size, self._by_output_rows[index], 0)
        self._write_products(branch, "dense_bias", None, 1, self._by_output_rows[index], 0)

    def _write_products(
        self,
        branch: BranchSpec,
        name: str,
        left: Value | None,
        count: int,
        right: Value,
        first: int,
    ) -> None:
        """Adds ``count`` left rows (or ones) times right rows, over block and updates, to sums.

        Args:
          branch, name: of the piece of theta whose sums these are.
          left, right: rows on the first update's tape.
          count: number of left rows, those of the piece.
          first: of the right rows, of which there are as many as the piece has columns.
        """
        code, piece = self._code, branch.piece(name)
        tall, wide = tile_of(count), tile_of(piece.columns)
        with code.loop(count, step=tall) as k, code.loop(piece.columns, step=wide) as j:
            rows = [code.builder.add(k, I64(i)) for i in range(tall)]
            columns = [code.builder.add(j, I64(i)) for i in range(wide)]
            places = [
                self._row(
                    code.builder.add(self._row(row, piece.columns, column), I64(piece.offset)),
                    LANES,
                    0,
                )
                for row in rows
                for column in columns
            ]
            right_rows = [code.builder.add(column, I64(first)) for column in columns]
            totals = [code.load(self._given["sums"], place) for place in places]
            with code.carried(self._given["count"], totals) as update:
                apart = code.builder.mul(update, I64(tape_of(self._spec).floats))
                for lane in range(0, BLOCK, LANES):
                    at = code.builder.add(apart, I64(lane))
                    factors = [left and code.load(left, self._row(row, BLOCK, at)) for row in rows]
                    values = [code.load(right, self._row(row, BLOCK, at)) for row in right_rows]
                    pairs = [(factor, value) for factor in factors for value in values]
                    totals[:] = [
                        code.fma(factor, value, total) if factor else value + total
                        for (factor, value), total in zip(pairs, totals, strict=True)
                    ]
            for total, place in zip(totals, places, strict=True):
                code.store(total, self._given["sums"], place)
