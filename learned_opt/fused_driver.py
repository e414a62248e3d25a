"""Drives ``fused_kernel`` over tensors and members, and answers XLA's calls.

XLA calls a *handler* of its typed foreign function interface (``xla/ffi/api/c_api.h``,
which comes with jaxlib): a function of one pointer to a structure that holds all operands
and results with their shapes. The layout of what is read here is part of major version 0
of that interface; a handler is asked for its version first, and XLA refuses others.
"""

import contextlib
import functools
from collections.abc import Iterator

from llvmlite import ir

from learned_opt import fused_kernel
from learned_opt.fused_kernel import NETWORK_ARGUMENTS, Spec
from learned_opt.simd import F32, I32, I64, LANES, POINTER, Code, Machine, Value
from learned_opt.xla_handler import write_metadata

HANDLER = "handler"
OPERANDS = (
    *("weights", "gradient", "parameter", "momenta", "hidden", "dormancy", "shared"),
    *("offsets", "proportions", "noise_start", "noise"),
)
RESULTS = ("step", "new_momenta", "new_hidden", "workspace")
# Parameters whose squares are summed before they join a tensor's sums: sums of sums round
# less.
_CHUNK = 64 * LANES

# Positions, in words of 8 bytes, in the interface's structures.
_EXTENSION, _API, _ARGUMENT_POINTERS, _RESULT_POINTERS = 1, 2, 9, 14  # XLA_FFI_CallFrame
_DATA, _RANK, _DIMENSIONS = 3, 4, 5  # XLA_FFI_Buffer
_METADATA = 3  # XLA_FFI_Metadata_Extension


@functools.cache
def compiled(spec: Spec) -> Machine:
    """The machine code for a spec, with the function ``HANDLER``; once per process.

    Raises:
      RuntimeError: LLVM cannot make code for this machine.
    """
    module = ir.Module("open_update")
    draws = fused_kernel.write_draws(module) if spec.noise == "threefry" else None
    moments = fused_kernel.write_moments(module, spec)
    network = fused_kernel.NetworkWriter(module, spec).write()
    member = MemberWriter(module, spec, moments, network).write(draws)
    _write_handler(module, spec, member)
    return Machine(module)


class MemberWriter:
    """Writes ``member(...)``: the update of all parameters of one member of a batch."""

    def __init__(self, module: ir.Module, spec: Spec, moments: ir.Function, network: ir.Function):
        self._spec, self._moments, self._network = spec, moments, network
        names = (*OPERANDS, *RESULTS)
        kinds = [POINTER] * len(names) + [I64] * 3
        self._function = fused_kernel.internal_function(module, "member", kinds)
        code = self._code = Code(self._function)
        self._given = dict(zip(names, self._function.args, strict=False))
        self._size, self._tensors, self._num_draws = self._function.args[-3:]
        self._sums = code.scratch(max(1, spec.normalised) * LANES)
        self._totals = code.scratch(max(1, spec.normalised) * LANES)
        self._scales = code.scratch(max(1, spec.normalised))
        self._bias = code.scratch(spec.bias_size)
        self._no_noise = code.scratch(LANES)
        # Where the last, partial block of a tensor is copied to and from: rows of LANES.
        rows = {"momenta": len(spec.decays), "new_momenta": len(spec.decays)}
        rows |= {"hidden": spec.hidden, "new_hidden": spec.hidden, "noise": 1, "step": 1}
        rows |= {"gradient": 1, "parameter": 1}
        if spec.use_dormancy:
            rows["dormancy"] = 1
        self._row_counts = rows
        self._stage = {name: code.scratch(count * LANES) for name, count in rows.items()}

    def write(self, draws: ir.Function | None) -> ir.Function:
        code, given = self._code, self._given
        code.clear(self._no_noise, 1)
        for name, room in self._stage.items():
            code.clear(room, self._row_counts[name])
        if draws is not None:
            code.builder.call(draws, [given["noise"], given["workspace"], self._num_draws])
            given["noise"] = given["workspace"]
        with code.loop(self._tensors) as tensor:
            self._write_tensor(tensor)
        self._write_mean()
        code.builder.ret_void()
        return self._function

    def _write_tensor(self, tensor: Value) -> None:
        code, builder, given = self._code, self._code.builder, self._given
        start, stop = (
            builder.sext(code.scalar(given["offsets"], place, I32), I64)
            for place in (tensor, builder.add(tensor, I64(1)))
        )
        count = builder.sub(stop, start)
        rows = {name: code.at(given[name], start) for name in self._row_counts if name != "noise"}
        noise_start = builder.sext(code.scalar(given["noise_start"], tensor, I32), I64)
        noisy = builder.icmp_signed(">=", noise_start, I64(0))
        rows["noise"] = builder.select(noisy, code.at(given["noise"], noise_start), self._no_noise)
        self._noise_step = builder.select(noisy, I64(1), I64(0))
        self._write_moments(rows, count)
        self._write_scales(count)
        self._write_bias(tensor)
        whole = builder.and_(count, I64(-LANES))
        with code.loop(whole, step=LANES) as i:
            self._call_network(self._advanced(rows, i), self._size)
        with self._tail(rows, count, ("step", "new_hidden")) as stage:
            self._call_network(stage, I64(LANES))

    def _advanced(self, rows: dict[str, Value], i: Value) -> dict[str, Value]:
        """The rows from parameter ``i`` of the tensor on."""
        noise_at = self._code.builder.mul(i, self._noise_step)
        return {
            name: self._code.at(row, noise_at if name == "noise" else i)
            for name, row in rows.items()
        }

    @contextlib.contextmanager
    def _tail(
        self, rows: dict[str, Value], count: Value, results: tuple[str, ...]
    ) -> Iterator[dict[str, Value]]:
        """Where a tensor's partial block, if there is one, is staged; copies results back."""
        code, builder = self._code, self._code.builder
        tail = builder.and_(count, I64(LANES - 1))
        with builder.if_then(builder.icmp_signed(">", tail, I64(0))):
            outside = self._advanced(rows, builder.sub(count, tail))
            for name, room in self._stage.items():
                if name not in ("step", "new_hidden"):
                    source, target = (outside[name], self._size), (room, I64(LANES))
                    code.copy_rows(self._row_counts[name], tail, source, target)
            yield self._stage
            for name in results:
                source, target = (self._stage[name], I64(LANES)), (outside[name], self._size)
                code.copy_rows(self._row_counts[name], tail, source, target)

    def _write_moments(self, rows: dict[str, Value], count: Value) -> None:
        """New momenta, and in ``_totals`` the sums of squares, a row of lanes per input."""
        code, builder, terms = self._code, self._code.builder, self._spec.normalised
        code.clear(self._totals, terms)
        whole = builder.and_(count, I64(-LANES))
        with code.loop(whole, step=_CHUNK) as begin:
            code.clear(self._sums, terms)
            end = builder.add(begin, I64(_CHUNK))
            end = builder.select(builder.icmp_signed("<", end, whole), end, whole)
            with code.loop(end, begin, LANES) as i:
                self._call_moments(self._advanced(rows, i), self._size, I32(LANES), self._sums)
            for i in range(terms):
                total = code.load(self._totals, i * LANES) + code.load(self._sums, i * LANES)
                code.store(total, self._totals, i * LANES)
        with self._tail(rows, count, ("new_momenta",)) as stage:
            tail = builder.trunc(builder.and_(count, I64(LANES - 1)), I32)
            self._call_moments(stage, I64(LANES), tail, self._totals)

    def _call_moments(
        self, rows: dict[str, Value], stride: Value, valid: Value, sums: Value
    ) -> None:
        inputs = [rows["gradient"], rows["parameter"], rows["momenta"], stride]
        outputs = [rows["new_momenta"], stride, valid, sums]
        self._code.builder.call(self._moments, inputs + outputs)

    def _call_network(self, rows: dict[str, Value], stride: Value) -> None:
        own = {"weights": self._given["weights"], "bias": self._bias, "scales": self._scales}
        # The network reads the momenta that the first pass wrote.
        own |= {"momenta": rows["new_momenta"]}
        values = {**rows, **own}
        values.setdefault("dormancy", self._no_noise)  # there and not read
        self._code.builder.call(
            self._network,
            [stride if name.endswith("stride") else values[name] for name in NETWORK_ARGUMENTS],
        )

    def _write_scales(self, count: Value) -> None:
        code, builder = self._code, self._code.builder
        # An empty tensor has no mean; at least 1 keeps the division defined.
        some = builder.select(builder.icmp_signed(">", count, I64(0)), count, I64(1))
        divisor = code.broadcast(builder.sitofp(some, F32))
        for i in range(self._spec.normalised):
            sums = code.load(self._totals, i * LANES)
            mean = code.broadcast(code.sum_of_lanes(sums)) / divisor
            # Of at least the epsilon: neither the root nor the division is of 0.
            scale = code.vector(1.0) / code.sqrt(mean + self._spec.moment_epsilon)
            builder.store(builder.extract_element(scale.value, I32(0)), code.at(self._scales, i))

    def _write_bias(self, tensor: Value) -> None:
        """Biases of the GRU's inputs, moved by what all parameters of the tensor share."""
        code, spec, given = self._code, self._spec, self._given
        bias = code.at(given["weights"], spec.weight_offsets()["bias"])
        common = [code.splat(given["proportions"], tensor)] if spec.use_layer else []
        common += [code.splat(given["shared"], i) for i in range(spec.shared)]
        for first in range(0, spec.bias_size, LANES):
            value = code.load(bias, first)
            for i, x in enumerate(common):
                value = code.fma(x, code.load(bias, (1 + i) * spec.bias_size + first), value)
            code.store(value, self._bias, first)

    def _write_mean(self) -> None:
        """Turns the steps into updates, which are added: their negative, centred."""
        code, builder, step = self._code, self._code.builder, self._given["step"]
        whole = builder.and_(self._size, I64(-LANES))
        total = code.scratch(LANES)
        part = code.scratch(LANES)
        code.clear(total, 1)
        mean = F32(0.0)
        if self._spec.zero_mean:
            with code.loop(whole, step=_CHUNK) as begin:
                code.clear(part, 1)
                end = builder.add(begin, I64(_CHUNK))
                end = builder.select(builder.icmp_signed("<", end, whole), end, whole)
                with code.loop(end, begin, LANES) as i:
                    code.store(code.load(part) + code.load(step, i), part)
                code.store(code.load(total) + code.load(part), total)
            with code.loop(self._size, whole) as i:
                so_far = code.scalar(total)
                builder.store(builder.fadd(so_far, code.scalar(step, i)), total)
            some = builder.select(builder.icmp_signed(">", self._size, I64(0)), self._size, I64(1))
            mean = builder.fdiv(code.sum_of_lanes(code.load(total)), builder.sitofp(some, F32))
        with code.loop(whole, step=LANES) as i:
            code.store(code.broadcast(mean) - code.load(step, i), step, i)
        with code.loop(self._size, whole) as i:
            builder.store(builder.fsub(mean, code.scalar(step, i)), code.at(step, i))


def _write_handler(module: ir.Module, spec: Spec, member: ir.Function) -> None:
    """``handler(call frame)``: answers the question for the version, or runs all members."""
    function = ir.Function(module, ir.FunctionType(POINTER, [POINTER]), HANDLER)
    code = Code(function)
    builder, frame = code.builder, function.args[0]
    success = ir.Constant(POINTER, None)

    def pointer(base: Value, word: int | Value) -> Value:
        return code.scalar(base, word, POINTER)

    extension = pointer(frame, _EXTENSION)
    asked = builder.icmp_unsigned("!=", builder.ptrtoint(extension, I64), I64(0))
    with builder.if_then(asked):
        write_metadata(code, pointer(frame, _API), pointer(extension, _METADATA))
        builder.ret(success)
    operands = pointer(frame, _ARGUMENT_POINTERS)
    results = pointer(frame, _RESULT_POINTERS)
    buffers = {name: pointer(operands, i) for i, name in enumerate(OPERANDS)}
    buffers |= {name: pointer(results, i) for i, name in enumerate(RESULTS)}
    last = {}
    members = I64(1)
    for name in ("gradient", "proportions", "workspace"):
        rank = code.scalar(buffers[name], _RANK, I64)
        axes = builder.sub(rank, I64(1))
        dimensions = pointer(buffers[name], _DIMENSIONS)
        last[name] = code.scalar(dimensions, axes, I64)
        if name == "gradient":
            product = builder.alloca(I64)
            product.type = POINTER
            builder.store(members, product)
            with code.loop(axes) as axis:
                so_far = builder.load(product, typ=I64)
                builder.store(builder.mul(so_far, code.scalar(dimensions, axis, I64)), product)
            members = builder.load(product, typ=I64)
    size, tensors = last["gradient"], last["proportions"]
    draws = builder.sub(last["workspace"], I64(2 * LANES))
    lengths = _lengths(builder, spec, size, tensors, last["workspace"])
    with code.loop(members) as i:
        places = [
            code.at(pointer(buffers[name], _DATA), builder.mul(lengths[name], i))
            for name in (*OPERANDS, *RESULTS)
        ]
        builder.call(member, [*places, size, tensors, draws])
    builder.ret(success)


def _lengths(
    builder: ir.IRBuilder, spec: Spec, size: Value, tensors: Value, workspace: Value
) -> dict[str, Value]:
    """Elements of each operand and result of one member."""
    momenta = builder.mul(size, I64(len(spec.decays)))
    hidden = builder.mul(size, I64(spec.hidden))
    return {
        "weights": I64(spec.weight_offsets()["end"]),
        **dict.fromkeys(("gradient", "parameter", "step"), size),
        "dormancy": size if spec.use_dormancy else I64(0),
        **dict.fromkeys(("momenta", "new_momenta"), momenta),
        **dict.fromkeys(("hidden", "new_hidden"), hidden),
        "shared": I64(spec.shared),
        "offsets": builder.add(tensors, I64(1)),
        **dict.fromkeys(("proportions", "noise_start"), tensors),
        "noise": {"none": I64(0), "given": size, "threefry": I64(2)}[spec.noise],
        "workspace": workspace,
    }
