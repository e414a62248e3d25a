"""Reads OPEN's published meta-parameters.

A published file is a NumPy array file (``.npy``), float32, one dimension: the weights of
the optimizer's network one after the other. This importer is a function from a file's
bytes to named arrays; it never unpickles.

Source: https://github.com/AlexGoldie/rl-learned-optimization (Apache-2.0).
"""

import io
from typing import NamedTuple

import numpy as np

_NUM_INPUTS = 19
_NUM_OUTPUTS = 3
_NUMPY_MAGIC = b"\x93NUMPY"


class OpenWeights(NamedTuple):
    """The arrays of a published file.

    Attributes:
      arrays: name (``gru/hn/bias``) to float32 array; kernels are (in, out).
      hidden_size: units of the GRU.
      width: units of the dense layers.
    """

    arrays: dict[str, np.ndarray]
    hidden_size: int
    width: int


def shapes(hidden_size: int, width: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays, in the order in which a file holds them."""
    h, w, f = hidden_size, width, _NUM_INPUTS
    return {
        "gru/hn/bias": (h,),
        "gru/hn/kernel": (h, h),
        "gru/hr/kernel": (h, h),
        "gru/hz/kernel": (h, h),
        "gru/in/bias": (h,),
        "gru/in/kernel": (f, h),
        "gru/ir/bias": (h,),
        "gru/ir/kernel": (f, h),
        "gru/iz/bias": (h,),
        "gru/iz/kernel": (f, h),
        "layer0_dense/bias": (w,),
        "layer0_dense/kernel": (h, w),
        "layer0_norm/bias": (w,),
        "layer0_norm/scale": (w,),
        "layer1_dense/bias": (w,),
        "layer1_dense/kernel": (w, w),
        "layer1_norm/bias": (w,),
        "layer1_norm/scale": (w,),
        "layer2_dense/bias": (_NUM_OUTPUTS,),
        "layer2_dense/kernel": (w, _NUM_OUTPUTS),
    }


def _size(hidden_size: int, width: int) -> int:
    return sum(int(np.prod(shape)) for shape in shapes(hidden_size, width).values())


SIZES = {_size(8, 16): (8, 16), _size(16, 32): (16, 32)}  # single task, multi-task


def parse(content: bytes) -> OpenWeights:
    """The named arrays in a published file.

    Raises:
      ValueError: the content is not such a file; says what was expected and found.
    """
    expected = " or ".join(f"{size} float32 numbers" for size in SIZES)
    if not content.startswith(_NUMPY_MAGIC):
        raise ValueError(f"not a NumPy array file; expected {expected} in one dimension")
    try:
        vector = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TypeError) as error:
        raise ValueError(
            f"the array file is cut off, or holds Python objects (a pickle) in place of "
            f"plain numbers; expected {expected} in one dimension"
        ) from error
    if not isinstance(vector, np.ndarray) or vector.ndim != 1 or vector.size not in SIZES:
        found = getattr(vector, "shape", type(vector).__name__)
        raise ValueError(f"expected {expected} in one dimension, found shape {found}")
    if vector.dtype.kind != "f":
        raise ValueError(f"expected {expected}, found numbers of type {vector.dtype}")
    bad = int(np.count_nonzero(~np.isfinite(vector)))
    if bad:
        raise ValueError(f"{bad} of {vector.size} numbers are NaN or infinite")
    hidden_size, width = SIZES[vector.size]
    arrays, start = {}, 0
    for name, shape in shapes(hidden_size, width).items():
        count = int(np.prod(shape))
        arrays[name] = vector[start : start + count].reshape(shape).astype(np.float32)
        start += count
    return OpenWeights(arrays, hidden_size, width)
