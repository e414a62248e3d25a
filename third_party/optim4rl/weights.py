"""Reads Optim4RL's published meta-parameters.

Two forms: arrays, one for each leaf, named by its path (``rnn1/hn/bias``), out of a NumPy
archive (``.npz``), or the release's pickle of nested dicts (see ``pickles``), of which nothing
is ever executed.

Source: https://github.com/sail-sg/optim4rl (Apache-2.0).
"""

from typing import NamedTuple

import numpy as np

from third_party.optim4rl import pickles

# For each network of the release: its branches as (suffix, inputs, outputs), each branch a
# GRU and a dense layer. Files of the first alone are published.
_NETWORKS = {
    "optim4rl": (("1", 1, 1), ("2", 1, 1)),
    "linear": (("", 1, 3),),
    "l2lgd2": (("", 2, 1),),
}
# What the published files were meta-trained and tested with. The files do not hold it.
BRAX_SETTINGS = {"learning_rate": 3e-4, "gradient_clip": 1.0}


class Optim4RLWeights(NamedTuple):
    """The arrays of a published file.

    Attributes:
      family: ``optim4rl``, ``linear`` or ``l2lgd2``.
      arrays: name (``rnn1/hn/bias``) to float32 array; kernels are (in, out).
      hidden_size: units of each GRU.
    """

    family: str
    arrays: dict[str, np.ndarray]
    hidden_size: int


def shapes(family: str, hidden_size: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays of one of the release's networks, in sorted order."""
    h, found = hidden_size, dict[str, tuple[int, ...]]()
    for suffix, num_inputs, num_outputs in _NETWORKS[family]:
        found[f"mlp{suffix}/layers_0/bias"] = (num_outputs,)
        found[f"mlp{suffix}/layers_0/kernel"] = (h, num_outputs)
        for gate in ("ir", "iz", "in"):
            found[f"rnn{suffix}/{gate}/bias"] = (h,)
            found[f"rnn{suffix}/{gate}/kernel"] = (num_inputs, h)
        for gate in ("hr", "hz", "hn"):
            found[f"rnn{suffix}/{gate}/kernel"] = (h, h)
        found[f"rnn{suffix}/hn/bias"] = (h,)
    return dict(sorted(found.items()))


def parse_pickle(content: bytes) -> Optim4RLWeights:
    """The named arrays in a published pickle, of which nothing is executed.

    Raises:
      ValueError: the content is not such a pickle, or it names anything but arrays and
        dicts; the message says which.
    """
    return from_arrays(pickles.read_arrays(content))


def from_arrays(arrays: dict[str, np.ndarray]) -> Optim4RLWeights:
    """Checks names, shapes and values. A common prefix ``params/`` is left out.

    Raises:
      ValueError: something is missing, too much, of a wrong shape, or not finite.
    """
    arrays = {name.removeprefix("params/"): array for name, array in arrays.items()}
    family = _family(arrays)
    hidden_size = _hidden_size(family, arrays)
    checked = {}
    for name, shape in shapes(family, hidden_size).items():
        array = arrays[name]
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        if array.dtype.kind != "f":
            raise ValueError(f"{name} must hold float32 numbers, found {array.dtype}")
        bad = int(np.count_nonzero(~np.isfinite(array)))
        if bad:
            raise ValueError(f"{bad} of the {array.size} numbers of {name} are NaN or infinite")
        checked[name] = array.astype(np.float32)
    return Optim4RLWeights(family, checked, hidden_size)


def _family(arrays: dict[str, np.ndarray]) -> str:
    if "rnn1/hn/bias" in arrays:
        family = "optim4rl"
    elif "rnn/hn/bias" in arrays:
        # Linear and L2LGD2 have the same names and differ in the outputs of their dense layer.
        bias = arrays.get("mlp/layers_0/bias")
        family = "l2lgd2" if bias is not None and bias.shape == (1,) else "linear"
    else:
        found = ", ".join(sorted(arrays)[:5]) or "no arrays at all"
        raise ValueError(
            "expected the arrays of Optim4RL (rnn1/hn/bias and others), found "
            f"{found}{', ...' if len(arrays) > 5 else ''}"
        )
    names = set(shapes(family, 1))
    missing, extra = sorted(names - set(arrays)), sorted(set(arrays) - names)
    if missing or extra:
        raise ValueError(
            f"expected the arrays of {family}: missing {', '.join(missing) or 'nothing'}, "
            f"unexpected {', '.join(extra) or 'nothing'}"
        )
    return family


def _hidden_size(family: str, arrays: dict[str, np.ndarray]) -> int:
    name = f"rnn{_NETWORKS[family][0][0]}/hn/bias"
    if arrays[name].ndim != 1 or not arrays[name].size:
        raise ValueError(
            f"{name} has shape {arrays[name].shape}, expected one number for each GRU unit"
        )
    return arrays[name].size
