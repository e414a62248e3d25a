"""Functions of machine code that XLA can call: handlers of its foreign function interface.

XLA calls a handler with one pointer, to a structure that holds all operands and results
(``xla/ffi/api/c_api.h``, which comes with jaxlib). The layout of what is read here is part
of major version 0 of that interface; a handler is asked for its version first, and XLA
refuses others.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from llvmlite import ir

from learned_opt.simd import I64, POINTER, Code, Value

# Positions, in words of 8 bytes, in the interface's structures.
_EXTENSION, _API, _OPERANDS, _RESULTS = 1, 2, 9, 14  # XLA_FFI_CallFrame
_DATA, _RANK, _DIMENSIONS = 3, 4, 5  # XLA_FFI_Buffer
_API_VERSION = 4  # XLA_FFI_Api
_METADATA = 3  # XLA_FFI_Metadata_Extension


class Buffers(NamedTuple):
    """Operands and results within the handler.

    Attributes:
      data: name -> address.
      batch: product of the first operand's leading dimensions.
      last: the first operand's last dimension.
      dimension: of an array, by its name and its index from the end (-1 is the last).
    """

    data: dict[str, Value]
    batch: Value
    last: Value
    dimension: Callable[[str, int], Value]


def write_handler(
    module: ir.Module,
    name: str,
    operands: Sequence[str],
    results: Sequence[str],
    body: Callable[[Code, Buffers], None],
) -> None:
    """Adds ``name(call frame)``: says its version when asked, otherwise does ``body``.

    Args:
      module: where to.
      name: of the function.
      operands, results: their names in the order of the call. The first operand is an array
        ``[..., D]`` whose leading dimensions are those of the batch.
      body: writes the work.
    """
    function = ir.Function(module, ir.FunctionType(POINTER, [POINTER]), name)
    code = Code(function)
    builder, frame = code.builder, function.args[0]
    success = ir.Constant(POINTER, None)

    def pointer(base: Value, word: int) -> Value:
        return code.scalar(base, word, POINTER)

    extension = pointer(frame, _EXTENSION)
    asked = builder.icmp_unsigned("!=", builder.ptrtoint(extension, I64), I64(0))
    with builder.if_then(asked):
        write_metadata(code, pointer(frame, _API), pointer(extension, _METADATA))
        builder.ret(success)
    arrays: dict[str, Value] = {}
    for position, found in ((_OPERANDS, operands), (_RESULTS, results)):
        table = pointer(frame, position)
        arrays |= {key: pointer(table, i) for i, key in enumerate(found)}
    first = arrays[operands[0]]
    axes = builder.sub(code.scalar(first, _RANK, I64), I64(1))
    dimensions = pointer(first, _DIMENSIONS)
    batch = _product(code, dimensions, axes)
    data = {key: pointer(array, _DATA) for key, array in arrays.items()}

    def dimension(key: str, index: int) -> Value:
        place = builder.add(code.scalar(arrays[key], _RANK, I64), I64(index))
        return code.scalar(pointer(arrays[key], _DIMENSIONS), place, I64)

    body(code, Buffers(data, batch, dimension(operands[0], -1), dimension))
    builder.ret(success)


def _product(code: Code, numbers: Value, count: Value) -> Value:
    """Of ``count`` 64-bit integers; 1 for none."""
    room = code.scratch(2)  # as large as one such integer
    builder = code.builder
    builder.store(I64(1), room)
    with code.loop(count) as i:
        product = builder.mul(builder.load(room, typ=I64), code.scalar(numbers, i, I64))
        builder.store(product, room)
    return builder.load(room, typ=I64)


def write_metadata(code: Code, api: Value, metadata: Value) -> None:
    """Says for which version of the interface the handler is made."""
    builder = code.builder

    def put(word: int, value: Value) -> None:
        builder.store(value, code.at(metadata, word, I64))

    # Major version 0 (the low half), and XLA's own minor version: minor versions only add
    # members behind those that are read here.
    version = code.scalar(api, _API_VERSION, I64)
    put(1, I64(24))  # size of XLA_FFI_Api_Version
    put(2, I64(0))
    put(3, builder.and_(version, I64(0xFFFFFFFF << 32)))
    put(4, I64(0))  # no traits
    known = builder.icmp_unsigned(">=", code.scalar(metadata, 0, I64), I64(48))
    with builder.if_then(known):
        put(5, I64(0))  # no type of state
