"""Calls of compiled kernels, also where arrays differ between devices (``jax.shard_map``).

Within ``shard_map`` an array's type says over which axes of the mesh it varies. A call takes
and gives arrays that vary over the same axes, and the branches for other platforms must give
what the kernel gives.
"""

from collections.abc import Sequence
from typing import Any

import jax


def vary_alike(tree: Any) -> Any:
    """The same arrays, all of them varying over every axis that one of them varies over."""
    axes = _axes(tree)

    def cast(leaf: jax.Array) -> jax.Array:
        return jax.lax.pcast(leaf, tuple(sorted(axes - _axes(leaf))), to="varying")

    return jax.tree.map(cast, tree) if axes else tree


def call(
    target: str, results: Sequence[jax.ShapeDtypeStruct], operands: Sequence[Any], **options: Any
) -> Sequence[jax.Array]:
    """Calls a kernel.

    Args:
      target: see ``build.target``.
      results: shapes and dtypes of what it gives.
      operands: arrays.
      **options: of ``jax.ffi.ffi_call``.
    """
    operands = vary_alike(list(operands))
    # JAX takes what foreign functions give to be the same on all devices.
    given = jax.ffi.ffi_call(target, results, **options)(*operands)
    axes = tuple(sorted(_axes(operands)))
    return jax.lax.pcast(given, axes, to="varying") if axes else given


def _axes(tree: Any) -> frozenset[str]:
    types = (jax.typeof(leaf).manual_axis_type for leaf in jax.tree.leaves(tree))
    return frozenset().union(*(kind.varying for kind in types))
