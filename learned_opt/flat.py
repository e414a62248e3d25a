"""A parameter tree as one vector, and statistics of the tensors within it.

Coordinate-wise optimizers apply the same small network to every parameter. They work on
the parameters of all tensors at once, "feature-major": an array ``[C, D]`` holds C
numbers for each of the D parameters, each number contiguous over the parameters, so
that elementwise work vectorises over D and the count of operations does not grow with
the count of tensors.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt import base

# Keeps second_moment_scale finite where a row is zero over a tensor.
MOMENT_EPSILON = 1e-5


class Layout(NamedTuple):
    """Where each tensor of a tree lies in its flattened vector (in tree order).

    Attributes:
      treedef: structure of the tree.
      shapes: shape of each of the T tensors.
      dtypes: dtype of each tensor.
      offsets: T + 1 positions; tensor i is ``vector[offsets[i]:offsets[i + 1]]``.
    """

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    offsets: tuple[int, ...]

    @property
    def num_tensors(self) -> int:
        return len(self.shapes)

    @property
    def num_parameters(self) -> int:
        """D."""
        return self.offsets[-1]

    def slices(self) -> list[slice]:
        return [slice(a, b) for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True)]


def layout_of(tree: Any) -> Layout:
    """The layout of a tree of arrays. Static: reads shapes and dtypes only."""
    leaves, treedef = jax.tree.flatten(tree)
    shapes = tuple(tuple(np.shape(leaf)) for leaf in leaves)
    dtypes = tuple(jnp.result_type(leaf) for leaf in leaves)
    sizes = [int(np.prod(shape)) for shape in shapes]
    return Layout(treedef, shapes, dtypes, tuple(int(n) for n in np.cumsum([0, *sizes])))


def transformation(
    init: Callable[[Any], optax.OptState], update: Callable[..., tuple[Any, optax.OptState]]
) -> optax.GradientTransformationExtraArgs:
    """An optax transformation, of functions that need at least one parameter.

    A tree of none (a label of ``optax.partition`` that nothing has) gets no updates, and its
    state is that of one number: arrays without elements are what Orbax refuses to save. The
    structure of the state must not depend on the parameters, which is what
    ``optax.tree_utils.tree_map_params`` reads a state by.
    """

    def init_any(params: Any) -> optax.OptState:
        return init(params if layout_of(params).num_parameters else jnp.zeros((), jnp.float32))

    def update_any(grads: Any, state: optax.OptState, params: Any = None, **context: Any) -> Any:
        if not layout_of(grads).num_parameters:
            return grads, state
        return update(grads, state, params, **context)

    return optax.GradientTransformationExtraArgs(init_any, update_any)


def flatten(tree: Any, layout: Layout) -> jax.Array:
    """The tree as a float32 vector ``[D]``.

    Leaves may be smaller than the layout's shapes if they broadcast against them. Where the
    layout's tree has been masked (``optax.masked``), the tree may be whole.

    Raises:
      ValueError: the tree has another structure than the layout.
    """
    leaves, treedef = jax.tree.flatten(tree)
    if treedef != layout.treedef:
        like = jax.tree.unflatten(layout.treedef, layout.offsets[1:])
        leaves, treedef = jax.tree.flatten(base.unmasked(tree, like))
    if treedef != layout.treedef:
        raise ValueError(f"expected a tree like {layout.treedef}, got {treedef}")
    rows = [
        jnp.broadcast_to(jnp.asarray(leaf, jnp.float32), shape).reshape(-1)
        for leaf, shape in zip(leaves, layout.shapes, strict=True)
    ]
    return jnp.concatenate(rows) if rows else jnp.zeros((0,), jnp.float32)


def unflatten(vector: jax.Array, layout: Layout) -> Any:
    """The inverse of ``flatten``: ``[D]`` to a tree with the layout's shapes and dtypes."""
    leaves = [
        vector[part].reshape(shape).astype(dtype)
        for part, shape, dtype in zip(layout.slices(), layout.shapes, layout.dtypes, strict=True)
    ]
    return jax.tree.unflatten(layout.treedef, leaves)


def spread(values: Sequence[float] | jax.Array, layout: Layout) -> jax.Array:
    """Gives every parameter the value of its tensor: ``[..., T]`` to ``[..., D]``."""
    values = jnp.asarray(values, jnp.float32)
    leading = values.shape[:-1]
    columns = [
        jnp.broadcast_to(values[..., i : i + 1], (*leading, part.stop - part.start))
        for i, part in enumerate(layout.slices())
    ]
    return jnp.concatenate(columns, axis=-1)


def second_moment_scale(rows: jax.Array, layout: Layout) -> jax.Array:
    """The factors that bring each row to a second moment of 1 over each tensor.

    Returns:
      For rows ``[C, D]``, ``[C, T]``: rsqrt(MOMENT_EPSILON + mean of the square of the row over
      the tensor). Zero for tensors of no elements.
    """
    moments = [
        # An empty tensor has no mean; max(1, n) keeps the division defined.
        jnp.sum(jnp.square(rows[:, part]), axis=1) / max(1, part.stop - part.start)
        for part in layout.slices()
    ]
    return jax.lax.rsqrt(MOMENT_EPSILON + jnp.stack(moments, axis=1))
