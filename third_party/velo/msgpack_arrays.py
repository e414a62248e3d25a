"""Reads nested dicts of arrays from the msgpack files that Flax writes.

msgpack is data: maps, texts, numbers, and extensions, which are bytes with a code. Flax
writes an array as an extension that holds (shape, name of the number type, bytes), itself in
msgpack, and arrays of more than 1 GiB as a map of pieces. Here the maps become dicts, such
extensions arrays, and everything else that a file may hold is refused. Number types are looked
up in a list and never made from a file's text.
"""

import math
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np

MAX_BYTES = 256 * 2**20  # the published file has 9.3 million
_MAX_DEPTH = 8  # of nested maps
_MAX_ENTRIES = 256  # of one map
_MAX_RANK = 8
_ARRAY, _SCALAR = 1, 3  # Flax's codes of extensions
_DTYPES = {
    name.encode(): np.dtype(name).newbyteorder("<")
    for name in (
        *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64", "bool"),
    )
}
_CHUNKED = "__msgpack_chunked_array__"
# What a damaged file raises depends on where the damage is.
_DAMAGE = (msgpack.UnpackException, ValueError, TypeError, OverflowError, MemoryError)

Tree = dict[str, Any]  # of trees, arrays, texts and whole numbers


class _Refused(ValueError):
    """The file holds something that reading arrays does not need; says what."""


def looks_like_msgpack(content: bytes) -> bool:
    """Whether a file's first byte begins a msgpack map that holds something.

    An empty map's byte is also that which pickles begin with.
    """
    first = content[:1]
    return b"\x81" <= first <= b"\x8f" or first in (b"\xde", b"\xdf")


def read_tree(content: bytes) -> Tree:
    """The nested dicts of a file.

    Leaves are arrays (read-only), texts and whole numbers.

    Raises:
      ValueError: the content is not such a file, is cut off, or holds anything else.
    """
    expected = "expected a msgpack file of nested dicts of arrays, as Flax writes it"
    if len(content) > MAX_BYTES:
        raise ValueError(f"{len(content)} bytes, more than {MAX_BYTES}; {expected}")
    if not looks_like_msgpack(content):
        raise ValueError(f"it does not begin with a map; {expected}")
    try:
        tree = msgpack.unpackb(
            content,
            ext_hook=_array,
            object_pairs_hook=_dict,
            raw=False,
            max_map_len=_MAX_ENTRIES,
            max_array_len=0,  # Flax writes lists as maps
            max_bin_len=0,  # the bytes of arrays are within extensions
            max_str_len=256,
            max_ext_len=len(content),
        )
        return _joined(tree, ())
    except _Refused as error:
        raise ValueError(f"{error}; {expected}") from error
    except msgpack.ExtraData as error:
        raise ValueError(f"{len(error.extra)} bytes follow after its end; {expected}") from error
    except _DAMAGE as error:
        raise ValueError(f"it is cut off or damaged, or no such file; {expected}") from error


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(path joined by ``/``, leaf) of nested dicts, in their order."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield "/".join((*path, key)), value


def _dict(pairs: list[tuple[Any, Any]]) -> Tree:
    tree: Tree = {}
    for key, value in pairs:
        if type(key) is not str:
            raise _Refused(f"a name in it is a {type(key).__name__}, not a text")
        if key in tree:
            raise _Refused(f"it holds {key[:60]!r} twice")
        tree[key] = value
    return tree


def _array(code: int, data: bytes) -> np.ndarray:
    """The array of an extension; nothing is allocated but what its bytes take."""
    if code not in (_ARRAY, _SCALAR):
        raise _Refused(f"it holds an extension of code {code}, not an array (code {_ARRAY})")
    # Texts stay bytes here (raw), whatever their encoding.
    parts = msgpack.unpackb(
        data,
        raw=True,
        strict_map_key=True,
        max_map_len=0,
        max_ext_len=0,
        max_str_len=64,
        max_array_len=_MAX_RANK,
        max_bin_len=len(data),
    )
    if type(parts) is not list or len(parts) != 3:
        raise _Refused("an array in it is not (shape, type, bytes)")
    shape, name, raw = parts
    if type(shape) is not list or not all(type(n) is int and n >= 0 for n in shape):
        raise _Refused("an array in it has a shape that is none")
    if type(name) is not bytes or name not in _DTYPES:
        shown = name[:40].decode("ascii", "replace") if type(name) is bytes else "none"
        known = ", ".join(key.decode() for key in _DTYPES)
        raise _Refused(f"an array in it has the number type {shown!r}, which is none of {known}")
    dtype = _DTYPES[name]
    # Python's integers: a product of hostile sizes must not wrap around.
    if type(raw) is not bytes or len(raw) != math.prod(shape) * dtype.itemsize:
        raise _Refused(f"an array in it has shape {tuple(shape)}, but not as many numbers")
    return np.frombuffer(raw, dtype).reshape(shape)


def _joined(node: Any, path: tuple[str, ...]) -> Any:
    """The tree with arrays in pieces put together; refuses what is no tree of leaves."""
    name = "/".join(path) or "its content"
    if len(path) > _MAX_DEPTH:
        raise _Refused(f"its dicts are nested deeper than {_MAX_DEPTH}")
    if type(node) is dict:
        tree = {key: _joined(value, (*path, key)) for key, value in node.items()}
        return _unchunked(tree, name) if _CHUNKED in tree else tree
    # bool is the mark of arrays in pieces
    if type(node) in (np.ndarray, str, int, bool):
        return node
    raise _Refused(f"{name[:120]} is a {type(node).__name__}, not an array")


def _unchunked(tree: Tree, name: str) -> np.ndarray:
    shape, pieces = tree.get("shape"), tree.get("chunks")
    if type(shape) is not dict or type(pieces) is not dict or not pieces:
        raise _Refused(f"{name} is an array in pieces without shape or pieces")
    try:
        sizes = [shape[str(i)] for i in range(len(shape))]
        arrays = [pieces[str(i)] for i in range(len(pieces))]
    except KeyError as error:
        raise _Refused(f"{name} is an array in pieces, of which {error} is missing") from error
    if not all(type(n) is int and n >= 0 for n in sizes) or not all(
        type(piece) is np.ndarray and piece.ndim == 1 for piece in arrays
    ):
        raise _Refused(f"{name} is an array in pieces that do not fit")
    if len(sizes) > _MAX_RANK or sum(piece.size for piece in arrays) != math.prod(sizes):
        raise _Refused(f"{name} has shape {tuple(sizes)}, but not as many numbers")
    if len({piece.dtype for piece in arrays}) != 1:
        raise _Refused(f"{name} is an array in pieces of several number types")
    return np.concatenate(arrays).reshape(sizes)
