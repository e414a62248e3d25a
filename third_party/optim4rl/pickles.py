"""Takes the arrays out of a pickle without running anything that it names.

A pickle is a program: it names functions by module and attribute, and asks for them to be
called. Here no such name is ever looked up. The few that NumPy's, JAX's and Flax's arrays
and dicts are pickled with stand for objects of this module, which note down what they are
given and take nothing but the shapes, types and bytes of numbers; every other name is
refused. What the notes say is checked and becomes arrays at the end, so no constructor of
NumPy sees what a file says.
"""

import io
import pickle
import pickletools
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

MAX_BYTES = 16 * 2**20  # a published file has about 5000
_MAX_DEPTH = 8  # of nested dicts
_MAX_NODES = 10_000  # dicts and arrays
# What a damaged pickle raises depends on where the damage is.
_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError),
    *(OverflowError, MemoryError, RecursionError),
)
_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


class _Unsafe(pickle.UnpicklingError):
    """The file asks for something that reading arrays does not need."""


class _Inert:
    """An object that a pickle can hold and not change.

    Unpickling ends in ``__setstate__``, ``append``, ``extend``, ``__setitem__``, calls and
    attributes of the objects at hand. These have none but what a subclass adds, and no
    ``__dict__`` that could get any.
    """

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise _Unsafe("it sets the state of something that has none")


class _Marker(_Inert):
    """Stands for a class that is named as an argument only: ``numpy.ndarray``."""

    __slots__ = ()


class _Function(_Inert):
    """Stands for a function that a pickle may call; calls one of this module."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self._function(*arguments)
        except (TypeError, AttributeError) as error:
            raise _Unsafe("it calls a function of arrays in an unknown way") from error


class _Dtype(_Inert):
    """A number type; built from its code, then told its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *flags: Any):
        if code not in _DTYPES:
            raise _Unsafe(f"it holds numbers of type {_shown(code)}, not one of {_DTYPES}")
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "=", "|"):
            raise _Unsafe("it describes a number type in an unknown way")
        self.order = order


class _Array(_Inert):
    """An array's shape, type and bytes, as the pickle gives them."""

    __slots__ = ("dtype", "fortran", "raw", "shape")

    def __init__(self) -> None:
        self.shape: Any = None
        self.dtype: Any = None
        self.fortran: Any = False
        self.raw: Any = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise _Unsafe("it describes an array in an unknown way")
        self.shape, self.dtype, self.fortran, self.raw = state[-4:]


def _make_array(kind: Any, shape: Any, code: Any) -> _Array:
    """For ``numpy.core.multiarray._reconstruct``: an array, to be filled by its state."""
    if not isinstance(kind, _Marker):
        raise _Unsafe("it makes an array of a class that is none")
    return _Array()


def _make_filled(shape: Any, dtype: Any, fortran: Any, raw: Any) -> _Array:
    array = _Array()
    array.shape, array.dtype, array.fortran, array.raw = shape, dtype, fortran, raw
    return array


def _make_jax_array(function: Any, arguments: Any, state: Any, abstract: Any) -> _Array:
    """For JAX, whose arrays are pickled as a call that makes a NumPy array and its state."""
    if not isinstance(function, _Function):
        raise _Unsafe("it makes an array by a function that is none")
    array = function(*arguments)
    array.__setstate__(state)
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    """For ``_codecs.encode``: how pickles of protocol 2 and below hold bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Unsafe("it encodes text in an unknown way")
    return text.encode("latin1")


def _plain_dict(content: Any = ()) -> dict:
    """For Flax's ``FrozenDict``."""
    if content and type(content) is not dict:
        raise _Unsafe("it makes a FrozenDict of something that is no dict")
    return dict(content)


def _known_names() -> dict[tuple[str, str], _Inert]:
    # Made anew for each file: one file can do nothing to what the next one sees.
    names: dict[tuple[str, str], _Inert] = {
        ("numpy", "ndarray"): _Marker(),
        ("numpy", "dtype"): _Function(_Dtype),
        ("jax._src.array", "_reconstruct_array"): _Function(_make_jax_array),
        ("jax.array", "_reconstruct_array"): _Function(_make_jax_array),
        ("flax.core.frozen_dict", "FrozenDict"): _Function(_plain_dict),
        ("_codecs", "encode"): _Function(_encode),
    }
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
        names[f"{core}.multiarray", "_reconstruct"] = _Function(_make_array)
        names[f"{core}.multiarray", "scalar"] = _Function(
            lambda dtype, raw: _make_filled((), dtype, False, raw)
        )
        names[f"{core}.numeric", "_frombuffer"] = _Function(
            lambda raw, dtype, shape, order: _make_filled(shape, dtype, order == "F", raw)
        )
    return names


class _ArrayReader(pickle.Unpickler):
    """Knows the names of ``_known_names`` and no others."""

    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content))
        self._known = _known_names()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise _Unsafe(
                f"it names {module}.{name}, which is no part of an array or a dict: refused, "
                "and nothing in it was run"
            )
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _Unsafe("it refers to objects outside the file")


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a pickle of nested dicts, by their paths (``params/rnn1/hn/bias``).

    Takes arrays and scalars of NumPy 1 and 2 and of JAX, dicts and Flax's ``FrozenDict``.

    Raises:
      ValueError: the content is no pickle, is cut off, is nothing but nested dicts of arrays
        of numbers, or names anything else; the message says which name.
    """
    expected = "expected a pickle of nested dicts of arrays"
    if len(content) > MAX_BYTES:
        raise ValueError(f"{len(content)} bytes, more than {MAX_BYTES}; {expected}")
    try:
        _check_memory(content)
        tree = _ArrayReader(content).load()
        return {"/".join(path): _to_numpy(leaf, path) for path, leaf in _leaves(tree)}
    except _Unsafe as error:
        raise ValueError(f"{error}; {expected}") from error
    except _DAMAGE as error:
        raise ValueError(f"it is cut off or damaged, or no pickle at all; {expected}") from error


def _check_memory(content: bytes) -> None:
    """Refuses places in the pickle's memo that are beyond its length: each takes memory."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and (argument or 0) > len(content):
            raise _Unsafe("it asks for more memory than its length explains")


def _leaves(tree: Any) -> Iterator[tuple[tuple[str, ...], _Array]]:
    """Walks nested dicts; bounded, because a small pickle can describe a tree without end."""
    pending: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    visited = 0
    while pending:
        path, node = pending.pop()
        visited += 1
        if visited > _MAX_NODES or len(path) > _MAX_DEPTH:
            raise _Unsafe(
                f"it holds more than {_MAX_NODES} arrays, or dicts deeper than {_MAX_DEPTH}"
            )
        if type(node) is _Array:
            yield path, node
        elif type(node) is dict:
            for key in node:
                if not isinstance(key, str) or not key or "/" in key:
                    raise _Unsafe(f"{_shown(key)} is not the name of an array")
            pending.extend(((*path, key), value) for key, value in node.items())
        else:
            raise _Unsafe(f"{'/'.join(path) or 'its content'} is {_shown(node)}, not an array")


def _to_numpy(array: _Array, path: tuple[str, ...]) -> np.ndarray:
    name = "/".join(path)
    if type(array.dtype) is not _Dtype or type(array.raw) not in (bytes, bytearray):
        raise _Unsafe(f"{name} is an array of Python objects, not of numbers")
    sizes = array.shape
    if type(sizes) is not tuple or not all(type(n) is int and n >= 0 for n in sizes):
        raise _Unsafe(f"{name} has a shape that is none")
    order = "=" if array.dtype.order == "|" else array.dtype.order
    flat = np.frombuffer(array.raw, np.dtype(f"{order}{array.dtype.code}"))
    if flat.size != int(np.prod(sizes, dtype=object)):
        raise _Unsafe(f"{name} has {flat.size} numbers, but shape {sizes}")
    return flat.reshape(sizes, order="F" if array.fortran is True else "C").copy()


def _shown(value: Any) -> str:
    """A value for a message, without calling anything of it."""
    if type(value) in (str, int, float, bool):
        return repr(value)[:60]
    return f"a {type(value).__name__}"
