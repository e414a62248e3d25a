"""Reads VeLO's published meta-parameters.

A published file is what learned_optimization saves of an optimizer for use: its class
``ParameterCheckpoint`` (``params``, ``gen_id``, ``step``) by Flax's ``to_bytes``, so a msgpack
map of those names; a map of the parameters alone is taken, too. This importer is a function
from a file's bytes to named arrays; nothing in a file is ever executed.

What is relied on, read in that project's and Flax's source, as no published file could be had:
Haiku's parameters are written as nested dicts by module and name (modules with a slash in
their name, ``rnn/linear``, are one dict), and a named tuple (the LSTM's state) as a dict by
field; by position (``0``, ``1``) is taken as well.

Source: https://github.com/google/learned_optimization (Apache-2.0), ``checkpoints.py``,
``outer_trainers/gradient_learner.py`` and ``research/general_lopt/hyper_v2.py``.
"""

from typing import Any, NamedTuple

import numpy as np

from third_party.velo import msgpack_arrays
from third_party.velo.msgpack_arrays import looks_like_msgpack as looks_like_msgpack

_NUM_INPUTS = 30  # of the LSTM
_WIDTHS = (4, 4, 3)  # of the networks in the bank
_INPUT_SIZES = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)  # groups of their 30 inputs
_PARTS = ("ff_mod_stack", "lstm_init_state", "rnn_params")
_CHECKPOINT = ("params", "gen_id", "step")
PUBLISHED_SIZES = (512, 256)  # H and K of the published optimizer


class VeloWeights(NamedTuple):
    """The arrays of a published file.

    Attributes:
      arrays: name (``rnn_params/rnn/linear/w``) to float32 array, read-only; matrices are
        (in, out).
      lstm_hidden_size: H, units of the LSTM.
      num_parameter_sets: K, networks in the bank.
    """

    arrays: dict[str, np.ndarray]
    lstm_hidden_size: int
    num_parameter_sets: int


def shapes(lstm_hidden_size: int, num_parameter_sets: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays."""
    h, k = lstm_hidden_size, num_parameter_sets
    bank = "ff_mod_stack/~"
    found: dict[str, tuple[int, ...]] = {f"{bank}/b{i}": (k, n) for i, n in enumerate(_WIDTHS)}
    for i, size in enumerate(_INPUT_SIZES):
        found[f"{bank}/w0__{i}"] = (k, size, _WIDTHS[0])
    for i in (1, 2):
        found[f"{bank}/w{i}"] = (k, _WIDTHS[i - 1], _WIDTHS[i])
    found |= {f"lstm_init_state/{name}": (1, h) for name in ("hidden", "cell")}
    linear = {
        **dict.fromkeys(("linear", "linear_1", "linear_2"), (_NUM_INPUTS, h)),
        "rnn/linear": (2 * h, 4 * h),
        "rnn_to_controls": (h, k),
        "step_size": (h, 1),
    }
    for name, (inputs, outputs) in linear.items():
        found[f"rnn_params/{name}/b"] = (outputs,)
        found[f"rnn_params/{name}/w"] = (inputs, outputs)
    return found


def parse(content: bytes) -> VeloWeights:
    """The named arrays in a published file.

    Raises:
      ValueError: the content is not such a file; says what was expected and found.
    """
    parameters = _parameters(msgpack_arrays.read_tree(content))
    state = parameters["lstm_init_state"]
    if isinstance(state, dict) and state.keys() == {"0", "1"}:
        parameters["lstm_init_state"] = {"hidden": state["0"], "cell": state["1"]}
    arrays: dict[str, Any] = {}
    for name, leaf in msgpack_arrays.leaves(parameters):
        if name in arrays:
            raise ValueError(f"it holds {name[:120]} twice")
        arrays[name] = leaf
    hidden_size, sets = _sizes(arrays)
    expected = shapes(hidden_size, sets)
    missing, extra = sorted(set(expected) - set(arrays)), sorted(set(arrays) - set(expected))
    if missing or extra:
        raise ValueError(
            f"expected the {len(expected)} arrays of VeLO: missing {_listed(missing)}, "
            f"unexpected {_listed(extra)}"
        )
    for name, shape in expected.items():
        _check(name, arrays[name], shape)
    return VeloWeights({name: arrays[name] for name in expected}, hidden_size, sets)


def _parameters(tree: msgpack_arrays.Tree) -> msgpack_arrays.Tree:
    """The optimizer's parameters, out of the checkpoint that they may be in."""
    if tree.keys() == {"0", "1", "2"}:
        raise ValueError(
            "it is a checkpoint of learned_optimization's earlier optimizers (a tuple), whose "
            "LSTM keeps no state; expected that of VeLO, with params, gen_id and step"
        )
    if "params" in tree:
        extra = sorted(set(tree) - set(_CHECKPOINT))
        if extra or not isinstance(tree["params"], dict):
            raise ValueError(
                "expected a checkpoint with params, gen_id and step, where params is a dict; "
                f"unexpected {_listed(extra)}"
            )
        tree = tree["params"]
    if tree.keys() != set(_PARTS):
        raise ValueError(
            f"expected VeLO's parameters, {', '.join(_PARTS)}; found {_listed(sorted(tree))}"
        )
    return dict(tree)


def _sizes(arrays: dict[str, Any]) -> tuple[int, int]:
    """(H, K) as two of the arrays have them; the others are checked against these."""
    sizes = []
    for name in ("rnn_params/step_size/w", "ff_mod_stack/~/b0"):
        array = arrays.get(name)
        if not isinstance(array, np.ndarray) or array.ndim != 2 or not len(array):
            raise ValueError(f"expected an array {name} of two dimensions, found none")
        sizes.append(len(array))
    return sizes[0], sizes[1]


def _check(name: str, array: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} is a {type(array).__name__}, expected an array")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if array.dtype != np.float32:
        raise ValueError(f"{name} must hold float32 numbers, found {array.dtype}")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise ValueError(f"{bad} of the {array.size} numbers of {name} are NaN or infinite")


def _listed(names: list[str]) -> str:
    shown = ", ".join(name[:60] for name in names[:5])
    return f"{shown}, ..." if len(names) > 5 else shown or "nothing"
