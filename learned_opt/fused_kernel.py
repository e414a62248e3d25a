"""OPEN's update as one function of machine code for CPUs, called by XLA.

What it computes is defined by ``open_optimizer``; here is how. Tensor by tensor, in blocks
of ``LANES`` parameters: first the momenta and the second moments of all signals over the
tensor, then the network. A block's values stay on the stack, in the first-level cache, and
the matrix products keep ``TILE`` outputs in registers at a time. The logarithms are
computed in both passes, which is cheaper than writing them to memory.
"""

import dataclasses
from collections.abc import Sequence

from llvmlite import ir

from learned_opt import simd_math
from learned_opt.families.coordinate_network import LAYER_NORM_EPSILON
from learned_opt.simd import I32, I64, LANES, POINTER, Code, Value, Vector

TILE = 4


def padded(count: int, unit: int = TILE) -> int:
    """``count``, rounded up to a multiple of ``unit``."""
    return -(-count // unit) * unit


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a kernel is compiled for; nothing in it depends on the agent's parameters.

    Attributes:
      hidden, width, outputs: sizes of the network (H, W, O).
      decays: of the momenta.
      use_parameter, use_momentum, use_gradient, use_dormancy, use_layer: inputs.
      shared: how many inputs are the same for all parameters.
      noise: ``none``, ``given`` (as an operand) or ``threefry`` (drawn here from a key).
      multipliers: of direction, magnitude and noise.
      zero_mean: subtract the mean step.
      log_epsilon, moment_epsilon: what keeps the logarithm and the scales finite at 0.
    """

    hidden: int
    width: int
    outputs: int
    decays: tuple[float, ...]
    use_parameter: bool
    use_momentum: bool
    use_gradient: bool
    use_dormancy: bool
    use_layer: bool
    shared: int
    noise: str
    multipliers: tuple[float, float, float]
    zero_mean: bool
    log_epsilon: float
    moment_epsilon: float

    @property
    def signals(self) -> int:
        """Momenta and gradient: inputs with a sign and a logarithm."""
        return len(self.decays) * self.use_momentum + self.use_gradient

    @property
    def normalised(self) -> int:
        """Rows that are divided by their root mean square over a tensor."""
        return self.use_parameter + 2 * self.signals

    @property
    def rows(self) -> int:
        """R: inputs that differ between the parameters of a tensor."""
        return self.normalised + self.use_dormancy

    @property
    def common(self) -> int:
        """Inputs that are the same over a tensor: they only move the biases."""
        return self.use_layer + self.shared

    @property
    def bias_size(self) -> int:
        return padded(padded(2 * self.hidden) + padded(self.hidden), LANES)

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parts of the packed weights, in their order.

        ``(tiles, K, TILE)`` are matrices of K inputs, ``TILE`` outputs at a time.
        """
        hidden, width = self.hidden, self.width

        def matrix(inputs: int, outputs: int) -> tuple[int, int, int]:
            return padded(outputs) // TILE, inputs, TILE

        return {
            "gates": matrix(self.rows + hidden, 2 * hidden),
            "candidate": matrix(self.rows, hidden),
            "recurrent": matrix(hidden, hidden),
            "bias": (1 + self.common, self.bias_size),
            "recurrent_bias": (padded(hidden),),
            "dense0": matrix(hidden, width),
            "dense0_bias": (padded(width),),
            "norm0": (2, padded(width)),
            "dense1": matrix(width, width),
            "dense1_bias": (padded(width),),
            "norm1": (2, padded(width)),
            "output": matrix(width, self.outputs),
            "output_bias": (padded(self.outputs),),
        }

    def weight_offsets(self) -> dict[str, int]:
        """Where each part begins; ``end`` is the size of all."""
        offsets, position = {}, 0
        for name, shape in self.weights().items():
            offsets[name] = position
            size = 1
            for n in shape:
                size *= n
            position += size
        return {**offsets, "end": position}


def internal_function(module: ir.Module, name: str, arguments: Sequence[ir.Type]) -> ir.Function:
    """A function without a result that only this module calls."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    return function


def write_draws(module: ir.Module) -> ir.Function:
    """``draws(key, out, count)``: the draws of ``random_normal.standard_normal``.

    Writes up to ``2 * LANES`` floats more than ``count``.
    """
    function = internal_function(module, "draws", [POINTER, POINTER, I64])
    code = Code(function)
    builder = code.builder
    key, out, count = function.args
    words = code.scalar(key, 0, I32), code.scalar(key, 1, I32)
    half = builder.lshr(builder.add(count, I64(1)), I64(1))
    blocks = builder.lshr(builder.add(half, I64(LANES - 1)), I64(4))
    with code.loop(blocks) as done:
        # From the last block to the first: what the last writes past the first half is
        # overwritten by the second half's own.
        block = builder.sub(builder.sub(blocks, done), I64(1))
        start = builder.mul(block, I64(LANES))
        first = builder.add(code.integers(builder.trunc(start, I32)), code.lane_numbers())
        second = builder.add(first, code.integers(builder.trunc(half, I32)))
        # An odd count is padded by a counter of 0.
        past = builder.icmp_unsigned("==", second, code.integers(builder.trunc(count, I32)))
        second = builder.select(past, code.integers(0), second)
        low, high = simd_math.threefry(code, words, (first, second))
        code.store(simd_math.normal(code, low), out, start)
        code.store(simd_math.normal(code, high), out, builder.add(half, start))
    builder.ret_void()
    return function


def _signal_rows(code: Code, spec: Spec, signals: list[Vector]) -> list[Vector]:
    """Signs, then logarithms (whose arguments are at least ``log_epsilon``)."""
    signs = [simd_math.sign(code, x) for x in signals]
    return signs + [simd_math.log(code, code.absolute(x) + spec.log_epsilon) for x in signals]


def write_moments(module: ir.Module, spec: Spec) -> ir.Function:
    """``moments(gradient, parameter, momenta, stride, new momenta, stride, valid, sums)``.

    One block: updates the momenta and adds squares to ``sums``, ``LANES`` a row; lanes
    from ``valid`` on do not count.
    """
    arguments = [POINTER, POINTER, POINTER, I64, POINTER, I64, I32, POINTER]
    function = internal_function(module, "moments", arguments)
    code = Code(function)
    gradient_at, parameter_at, momenta, stride, new, new_stride, valid, sums = function.args
    builder = code.builder
    gradient = code.load(gradient_at)
    updated = []
    for i, decay in enumerate(spec.decays):
        momentum = code.load(momenta, builder.mul(stride, I64(i))) * decay
        updated.append(code.fma(gradient, 1.0 - decay, momentum))
        code.store(updated[-1], new, builder.mul(new_stride, I64(i)))
    rows = [code.load(parameter_at)] if spec.use_parameter else []
    signals = updated * spec.use_momentum + [gradient] * spec.use_gradient
    rows += _signal_rows(code, spec, signals)
    counts = builder.icmp_signed("<", code.lane_numbers(), code.integers(valid))
    for i, row in enumerate(rows):
        square = builder.select(counts, (row * row).value, code.vector(0.0).value)
        code.store(code.load(sums, i * LANES) + Vector(code, square), sums, i * LANES)
    builder.ret_void()
    return function


# What `network` is called with: pointers, and strides of rows where there are several.
NETWORK_ARGUMENTS = (
    *("weights", "bias", "scales", "gradient", "parameter", "momenta", "momenta_stride"),
    *("dormancy", "hidden", "hidden_stride", "noise", "step", "new_hidden", "new_stride"),
)


class NetworkWriter:
    """Writes ``network(...)``: inputs, network and step of one block."""

    def __init__(self, module: ir.Module, spec: Spec):
        kinds = [I64 if name.endswith("stride") else POINTER for name in NETWORK_ARGUMENTS]
        self.function = internal_function(module, "network", kinds)
        self._spec = spec
        self._code = Code(self.function)
        self._given = dict(zip(NETWORK_ARGUMENTS, self.function.args, strict=True))
        self._offsets = spec.weight_offsets()

    def write(self) -> ir.Function:
        code, spec = self._code, self._spec
        rows = code.scratch((spec.rows + spec.hidden) * LANES)
        self._write_inputs(rows)
        hidden = self._write_gru(rows)
        first = self._write_layer(0, hidden, spec.hidden)
        second = self._write_layer(1, first, spec.width)
        outputs = code.scratch(padded(spec.outputs) * LANES)
        self._write_product("output", self._at("output_bias"), second, spec.width, outputs)
        step = code.load(outputs) * spec.multipliers[0]
        step = step * simd_math.exp(code, code.load(outputs, LANES) * spec.multipliers[1])
        if spec.noise != "none":
            noise = code.load(self._given["noise"])
            step = code.fma(code.load(outputs, 2 * LANES) * spec.multipliers[2], noise, step)
        code.store(step, self._given["step"])
        code.builder.ret_void()
        return self.function

    def _at(self, name: str) -> Value:
        return self._code.at(self._given["weights"], self._offsets[name])

    def _write_inputs(self, rows: Value) -> None:
        """Fills ``rows`` with the R inputs and the H hidden values."""
        code, spec, given = self._code, self._spec, self._given
        builder = code.builder
        raw = [code.load(given["parameter"])] if spec.use_parameter else []
        signals = []
        if spec.use_momentum:
            for i in range(len(spec.decays)):
                signals.append(
                    code.load(given["momenta"], builder.mul(given["momenta_stride"], I64(i)))
                )
        if spec.use_gradient:
            signals.append(code.load(given["gradient"]))
        raw += _signal_rows(code, spec, signals)
        inputs = [x * code.splat(given["scales"], i) for i, x in enumerate(raw)]
        if spec.use_dormancy:
            inputs.append(code.load(given["dormancy"]))
        for i, x in enumerate(inputs):
            code.store(x, rows, i * LANES)
        with code.loop(spec.hidden) as h:
            x = code.load(given["hidden"], builder.mul(given["hidden_stride"], h))
            place = builder.mul(builder.add(h, I64(spec.rows)), I64(LANES))
            code.store(x, rows, place)

    def _write_product(self, name: str, bias: Value, x: Value, inputs: int, out: Value) -> None:
        """out = weights ``name``, transposed, times the first rows of ``x``, plus bias."""
        code = self._code
        builder, weights = code.builder, self._at(name)
        with code.loop(self._spec.weights()[name][0]) as tile:
            tile_weights = code.at(weights, builder.mul(tile, I64(inputs * TILE)))
            first = builder.mul(tile, I64(TILE))
            tile_bias = code.at(bias, first)
            sums = [code.splat(tile_bias, i) for i in range(TILE)]
            for k in range(inputs):
                row = code.load(x, k * LANES)
                for i in range(TILE):
                    sums[i] = code.fma(row, code.splat(tile_weights, k * TILE + i), sums[i])
            place = code.at(out, builder.mul(first, I64(LANES)))
            for i in range(TILE):
                code.store(sums[i], place, i * LANES)

    def _write_gru(self, rows: Value) -> Value:
        """The new hidden rows: to memory and, as the result, on the stack."""
        code, spec, given = self._code, self._spec, self._given
        builder, size = code.builder, spec.hidden
        gates = code.scratch(padded(2 * size) * LANES)
        candidates, recurrent, hidden = (code.scratch(padded(size) * LANES) for _ in range(3))
        bias = given["bias"]
        self._write_product("gates", bias, rows, spec.rows + size, gates)
        bias = code.at(bias, padded(2 * size))
        self._write_product("candidate", bias, rows, spec.rows, candidates)
        old_rows = code.at(rows, spec.rows * LANES)
        self._write_product("recurrent", self._at("recurrent_bias"), old_rows, size, recurrent)
        with code.loop(size) as h:
            place = builder.mul(h, I64(LANES))
            reset = simd_math.tanh(code, code.load(gates, place))
            update = simd_math.tanh(code, code.load(code.at(gates, size * LANES), place))
            reset, update = (code.fma(gate, 0.5, 0.5) for gate in (reset, update))
            candidate = code.fma(reset, code.load(recurrent, place), code.load(candidates, place))
            candidate = simd_math.tanh(code, candidate)
            new = code.fma(update, code.load(old_rows, place) - candidate, candidate)
            code.store(new, hidden, place)
            code.store(new, given["new_hidden"], builder.mul(h, given["new_stride"]))
        return hidden

    def _write_layer(self, layer: int, x: Value, inputs: int) -> Value:
        """Dense layer (with centred weights), layer norm, ReLU."""
        code, width = self._code, self._spec.width
        out = code.scratch(padded(width) * LANES)
        self._write_product(f"dense{layer}", self._at(f"dense{layer}_bias"), x, inputs, out)
        sums = [code.vector(0.0)] * 4
        for i in range(width):
            value = code.load(out, i * LANES)
            sums[i % 4] = code.fma(value, value, sums[i % 4])
        variance = ((sums[0] + sums[1]) + (sums[2] + sums[3])) * (1.0 / width)
        # Of at least the epsilon: neither the root nor the division is of 0.
        factor = code.vector(1.0) / code.sqrt(variance + LAYER_NORM_EPSILON)
        norm = self._at(f"norm{layer}")
        for i in range(width):
            scaled = code.load(out, i * LANES) * factor
            value = code.fma(scaled, code.splat(norm, i), code.splat(norm, padded(width) + i))
            code.store(value.where("<", 0.0, 0.0, value), out, i * LANES)
        return out
