"""What an optimizer is in this toolkit, and what an agent tells it.

A learned optimizer is two functions. ``init`` makes meta-parameters (theta) from a
key; ``transform`` turns theta into an ordinary ``optax`` transformation, used exactly
like ``optax.adam(...)``. Handcrafted optimizers are the same type with empty theta, so
an agent cannot tell them apart.

The update context
------------------
Agents pass what they know to ``update`` as keyword arguments. An optimizer takes what
it needs and ignores the rest:

===================  ==========================================================
key                  a typed PRNG key, fresh for each update
training_proportion  float32 scalar in [0, 1]: iteration / (iterations - 1), and
                     0 when there is one iteration; constant within an iteration
batch_proportion     float32 scalar in [0, 1]: epoch / (epochs - 1) within the
                     current iteration, and 0 when there is one epoch
dormancy             a tree like ``params``, each leaf of a shape that broadcasts
                     against its parameter: the dormancy score of the neuron that
                     the parameter feeds; >= 0 with mean 1 over a layer, and 1 is
                     neutral (equation 6 of the OPEN paper)
loss                 float32 scalar: the loss whose gradient is given
noise                optional, a tree like ``params`` of N(0, 1) draws, used in
                     place of draws from ``key`` (common random numbers, tests)
===================  ==========================================================
"""

import collections
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

MetaParams = Any  # theta: a pytree of float32 arrays, possibly empty
Params = Any  # weights of an agent: a pytree of arrays

# What arrays are called in the boxes that Flax (``value``) and Haliax (``array``) put them in.
_BOX_ATTRIBUTES = ("value", "array")

CONTEXT_NAMES = (
    "key",
    "training_proportion",
    "batch_proportion",
    "dormancy",
    "loss",
    "noise",
)


class LearnedOptimizer(NamedTuple):
    """A family of optimizers indexed by meta-parameters.

    Attributes:
      init: key -> theta. Deterministic in the key.
      transform: theta -> an optax transformation. Pure, so it can be vmapped over theta
        (evolution strategies) or differentiated with respect to theta
        (meta-gradients). The structure of its state depends on ``params`` alone and
        theta is never in it.
    """

    init: Callable[[jax.Array], MetaParams]
    transform: Callable[[MetaParams], optax.GradientTransformationExtraArgs]


def require_context(optimizer_name: str, required: tuple[str, ...], context: dict) -> None:
    """Raises a ``ValueError`` that names the context that an optimizer lacks.

    ``context`` are the keyword arguments of ``update``, ``required`` names out of them.
    """
    missing = [name for name in required if context.get(name) is None]
    if missing:
        calls = ", ".join(f"{name}=..." for name in missing)
        raise ValueError(
            f"the optimizer {optimizer_name!r} needs more than gradients: call "
            f"tx.update(grads, state, params, {calls}) (missing: {', '.join(missing)})"
        )


def require_params(optimizer_name: str, params: Params) -> None:
    """Raises a ``ValueError`` if ``params`` was left out of ``update``."""
    if params is None:
        raise ValueError(
            f"the optimizer {optimizer_name!r} reads the parameters: call "
            "tx.update(grads, state, params); for a training loop that leaves params out, make "
            "it with as_optax(..., keep_params=True), which keeps a copy in the state"
        )


def key_names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """The plain names along a pytree key path, e.g. ``('actor', 'Dense_0', 'kernel')``."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def leaf_names(tree: Any) -> list[tuple[str, ...]]:
    """For each leaf the names along its path, less those of boxes around single arrays.

    ``nnx.Variable``, ``nn.Partitioned`` and their like wrap an array into a node with one
    child. That child is reached by an attribute (``value``) or has no name at all; neither
    tells anything, and a layer would no longer be the parent of its arrays. So a tree of
    boxes has the names of the tree without them.
    """
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    children = collections.Counter(path[:end] for path in paths for end in range(len(path)))
    names = []
    for path in paths:
        end = len(path)
        while end and _is_box(path[end - 1]) and children[path[: end - 1]] == 1:
            end -= 1
        names.append(key_names(path[:end]))
    return names


def _is_box(entry: Any) -> bool:
    """Whether a path's last entry is what boxes have; that it has no siblings is not seen here."""
    if isinstance(entry, jax.tree_util.GetAttrKey):
        return entry.name in _BOX_ATTRIBUTES
    return isinstance(entry, jax.tree_util.FlattenedIndexKey)


def unmasked(tree: Any, like: Any) -> Any:
    """``tree`` less what ``optax.masked`` and ``optax.partition`` have taken out of ``like``.

    They mask gradients, parameters and states, but not what else is passed to ``update``.
    """

    def is_mask(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    treedef: Any  # mypy knows no methods of it
    nodes, treedef = jax.tree.flatten(like, is_leaf=is_mask)
    if not any(map(is_mask, nodes)):
        return tree
    parts = treedef.flatten_up_to(tree)
    kept = [node if is_mask(node) else part for node, part in zip(nodes, parts, strict=True)]
    return treedef.unflatten(kept)


def _natural_order(name: str) -> tuple:
    """Sorts ``Dense_10`` after ``Dense_2``."""
    return tuple(
        (int(part), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", name)
        if part
    )


def layer_proportions(params: Params) -> Params:
    """The depth of each parameter's layer within its network, in [0, 1].

    A network is a top-level entry of ``params`` (``actor``, ``critic``) if that entry
    holds layers, otherwise ``params`` as a whole is one network. A layer is a group of
    leaves with the same parent; layers are ordered by name with numbers compared as
    numbers, and a parameter that belongs to no layer of its own (a ``log_std`` directly
    in the network) counts as one more layer, after the others. The proportion is
    i / (layers - 1), and 0 in a network of one layer.

    Returns:
      A tree like ``params`` of Python floats.
    """
    paths = leaf_names(params)
    depth = 1 if paths and max(map(len, paths)) > 2 else 0  # of the networks' names
    places = [(path[:depth], _layer_of(path[depth:])) for path in paths]
    layers: dict[tuple[str, ...], set] = {}
    for network, layer in places:
        layers.setdefault(network, set()).add(layer)
    position = {}
    for network, members in layers.items():
        # Layers that are modules come first, bare parameters after them.
        ordered = sorted(
            members, key=lambda layer: (layer[0], [_natural_order(n) for n in layer[1]])
        )
        last = max(len(ordered) - 1, 1)  # one layer: proportion 0 / 1 = 0
        position.update({(network, layer): index / last for index, layer in enumerate(ordered)})
    return jax.tree.unflatten(jax.tree.structure(params), [position[place] for place in places])


def _layer_of(path: tuple[str, ...]) -> tuple[bool, tuple[str, ...]]:
    """(is a bare parameter of the network, the layer's name path), of a path within it."""
    return (True, path) if len(path) <= 1 else (False, path[:-1])
