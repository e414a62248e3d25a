"""A small language for kernels on CPUs: vectors of float32, written with operators.

XLA's CPU backend runs a learned update as tens of kernels that hand each other arrays
through memory. A kernel written here is one function of machine code that keeps what it
needs in registers. A function of ``Code`` and ``Vector`` *writes* instructions (LLVM's, by
``llvmlite``): Python's loops and ifs happen while it writes, ``Code.loop`` makes a loop
that runs. Nothing in the result calls Python, allocates or has state, so many threads may
run it at once.

Vectors have ``LANES`` elements on every machine; LLVM splits them into what the CPU has.
All arithmetic keeps NaN (no "fast" flags): a NaN input gives a NaN output.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import binding, ir

LANES = 16
F32, I8, I32, I64 = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
POINTER = ir.PointerType()
VECTOR = ir.VectorType(F32, LANES)
INTEGERS = ir.VectorType(I32, LANES)
_FLOAT_ALIGNMENT = 4  # of what XLA hands over; rows of [C, D] start anywhere in an array

Number = Any  # a Vector or a Python float
Value = Any  # of LLVM: an ir.Value


class Vector:
    """``LANES`` float32 values; operators write the instruction and give its result."""

    def __init__(self, code: "Code", value: Value):
        self.code, self.value = code, value

    def _with(self, name: str, other: Number) -> "Vector":
        other = self.code.vector(other)
        return Vector(self.code, getattr(self.code.builder, name)(self.value, other.value))

    def __add__(self, other: Number) -> "Vector":
        return self._with("fadd", other)

    def __sub__(self, other: Number) -> "Vector":
        return self._with("fsub", other)

    def __mul__(self, other: Number) -> "Vector":
        return self._with("fmul", other)

    def __truediv__(self, other: Number) -> "Vector":
        return self._with("fdiv", other)

    def __rsub__(self, other: Number) -> "Vector":
        return self.code.vector(other) - self

    __radd__, __rmul__ = __add__, __mul__

    def where(self, comparison: str, other: Number, then: Number, otherwise: Number) -> "Vector":
        """``then`` in lanes where ``self <comparison> other``; never in lanes with NaN."""
        code = self.code
        mask = code.builder.fcmp_ordered(comparison, self.value, code.vector(other).value)
        chosen = code.builder.select(mask, code.vector(then).value, code.vector(otherwise).value)
        return Vector(code, chosen)

    def bits(self) -> Value:
        return self.code.builder.bitcast(self.value, INTEGERS)


class Code:
    """Writes the instructions of one function."""

    def __init__(self, function: ir.Function):
        self.function = function
        self.module = function.module
        self._entry = function.append_basic_block("entry")
        body = function.append_basic_block("body")
        ir.IRBuilder(self._entry).branch(body)
        self.builder = ir.IRBuilder(body)

    # ----- values

    def vector(self, value: Number) -> Vector:
        """A Vector as it is; a float in all lanes."""
        if isinstance(value, Vector):
            return value
        return Vector(self, ir.Constant(VECTOR, [float(value)] * LANES))

    def broadcast(self, scalar: Value) -> Vector:
        return Vector(self, self._broadcast(scalar, VECTOR))

    def integers(self, value: int | Value) -> Value:
        if isinstance(value, int):
            return ir.Constant(INTEGERS, [value % 2**32] * LANES)
        return self._broadcast(value, INTEGERS)

    def _broadcast(self, scalar: Value, kind: ir.VectorType) -> Value:
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def lane_numbers(self) -> Value:
        return ir.Constant(INTEGERS, list(range(LANES)))

    def from_bits(self, bits: Value) -> Vector:
        return Vector(self, self.builder.bitcast(bits, VECTOR))

    def intrinsic(self, name: str, *arguments: Value, flags: Sequence[str] = ()) -> Value:
        """A function of LLVM's own, with the type of its last argument."""
        kind = arguments[-1].type
        suffix = f"v{LANES}{'f' if kind.element == F32 else 'i'}32"
        result = F32 if "reduce" in name else kind
        full = f"llvm.{name}.{suffix}"
        signature = ir.FunctionType(result, [argument.type for argument in arguments])
        declared = self.module.globals.get(full) or ir.Function(self.module, signature, full)
        return self.builder.call(declared, arguments, fastmath=flags)

    def fma(self, a: Vector, b: Number, c: Number) -> Vector:
        """a * b + c, fused where the CPU can."""
        b, c = self.vector(b), self.vector(c)
        return Vector(self, self.intrinsic("fmuladd", a.value, b.value, c.value))

    def sqrt(self, x: Vector) -> Vector:
        """NaN below 0."""
        return Vector(self, self.intrinsic("sqrt", x.value))

    def absolute(self, x: Vector) -> Vector:
        return Vector(self, self.intrinsic("fabs", x.value))

    def sum_of_lanes(self, x: Vector) -> Value:
        start = ir.Constant(F32, 0.0)
        return self.intrinsic("vector.reduce.fadd", start, x.value, flags=("reassoc",))

    # ----- memory

    def at(self, pointer: Value, offset: int | Value, kind: ir.Type = F32) -> Value:
        """The address ``offset`` elements on."""
        offset = I64(offset) if isinstance(offset, int) else offset
        return self.builder.gep(pointer, [offset], source_etype=kind)

    def load(self, pointer: Value, offset: int | Value = 0) -> Vector:
        address = self.at(pointer, offset)
        return Vector(self, self.builder.load(address, typ=VECTOR, align=_FLOAT_ALIGNMENT))

    def store(self, x: Vector, pointer: Value, offset: int | Value = 0) -> None:
        self.builder.store(x.value, self.at(pointer, offset), align=_FLOAT_ALIGNMENT)

    def scalar(self, pointer: Value, offset: int | Value = 0, kind: ir.Type = F32) -> Value:
        return self.builder.load(self.at(pointer, offset, kind), typ=kind)

    def splat(self, pointer: Value, offset: int | Value = 0) -> Vector:
        """The float at an address, in all lanes."""
        return self.broadcast(self.scalar(pointer, offset))

    def scratch(self, floats: int) -> Value:
        """Room on the stack for as long as the function runs; not initialised."""
        entry = ir.IRBuilder(self._entry)
        entry.position_before(self._entry.terminator)
        room = entry.alloca(ir.ArrayType(F32, floats))
        room.align, room.type = 64, POINTER  # llvmlite would give a typed pointer
        return room

    def clear(self, pointer: Value, rows: int) -> None:
        """Zeros in ``rows * LANES`` floats."""
        for row in range(rows):
            self.store(self.vector(0.0), pointer, row * LANES)

    @contextlib.contextmanager
    def loop(
        self,
        stop: int | Value,
        start: int | Value = 0,
        step: int = 1,
        at_head: Callable[[], None] = lambda: None,
    ) -> Iterator[Value]:
        """A loop over ``range(start, stop, step)``; gives the index, a 64-bit integer.

        ``at_head`` may write phi instructions into the block that every round begins with.
        """
        stop = I64(stop) if isinstance(stop, int) else stop
        start = I64(start) if isinstance(start, int) else start
        builder = self.builder
        before = builder.block
        head, body, after = (builder.append_basic_block(n) for n in ("head", "loop", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(I64)
        index.add_incoming(start, before)
        at_head()
        builder.cbranch(builder.icmp_signed("<", index, stop), body, after)
        builder.position_at_end(body)
        yield index
        index.add_incoming(builder.add(index, I64(step)), builder.block)
        builder.branch(head)
        builder.position_at_end(after)

    @contextlib.contextmanager
    def carried(self, stop: int | Value, values: list[Vector]) -> Iterator[Value]:
        """A loop over ``range(stop)`` with vectors that stay in registers.

        Args:
          stop: how often.
          values: before the loop; its body replaces the list's elements, and finds in them
            those of the round before. After the loop they are those of the last round.
        """
        builder, before, given = self.builder, self.builder.block, list(values)
        phis = []

        def enter() -> None:
            for value in given:
                phi = builder.phi(VECTOR)
                phi.add_incoming(value.value, before)
                phis.append(phi)
            values[:] = [Vector(self, phi) for phi in phis]

        with self.loop(stop, at_head=enter) as index:
            yield index
            for phi, value in zip(phis, values, strict=True):
                phi.add_incoming(value.value, builder.block)
        values[:] = [Vector(self, phi) for phi in phis]

    def copy_rows(
        self, rows: int, count: Value, source: tuple[Value, Value], target: tuple[Value, Value]
    ) -> None:
        """Copies ``count`` floats of each row; source and target are (pointer, row stride)."""
        with self.loop(rows) as row:
            here = self.at(source[0], self.builder.mul(row, source[1]))
            there = self.at(target[0], self.builder.mul(row, target[1]))
            with self.loop(count) as i:
                self.builder.store(self.scalar(here, i), self.at(there, i))


class Machine:
    """The code of one module, compiled for the CPU that runs this; keep it while in use."""

    def __init__(self, module: ir.Module):
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        features = binding.get_host_cpu_features()
        machine = binding.Target.from_default_triple().create_target_machine(
            cpu=binding.get_host_cpu_name(), features=features.flatten(), opt=3, jit=True
        )
        module.triple, module.data_layout = machine.triple, str(machine.target_data)
        compiled = binding.parse_assembly(str(module))
        compiled.verify()
        options = binding.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = options.slp_vectorization = False  # it is, already
        passes = binding.create_pass_builder(machine, options)
        passes.getModulePassManager().run(compiled, passes)
        self._engine = binding.create_mcjit_compiler(compiled, machine)
        self._engine.finalize_object()
        self.assembly = lambda: machine.emit_assembly(compiled)

    def address(self, name: str) -> int:
        return self._engine.get_function_address(name)
