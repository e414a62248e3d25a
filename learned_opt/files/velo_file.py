"""VeLO with published weights: from a file's bytes to an optimizer."""

from typing import Any

import jax
import jax.numpy as jnp

from learned_opt import base, registry
from third_party.velo import weights

looks_like_velo = weights.looks_like_msgpack


def published_velo(
    content: bytes, options: dict[str, Any] | None = None
) -> tuple[base.LearnedOptimizer, base.MetaParams, dict[str, Any]]:
    """(optimizer, theta, metadata) of a published file.

    Args:
      content: of the file, see ``third_party.velo.weights``.
      options: what the file does not hold: ``total_updates``, ``loss``, ``accumulate`` of
        ``velo.VeloConfig``. Without ``total_updates`` the optimizer says, when it is used,
        that it needs it; ``TrainedOptimizer.for_run`` gives it later.

    Raises:
      ValueError: the content is not such a file, or an option is unknown or impossible.
    """
    parsed = weights.parse(content)
    sizes = {
        "lstm_hidden_size": parsed.lstm_hidden_size,
        "num_parameter_sets": parsed.num_parameter_sets,
    }
    fixed = sorted(set(sizes) & set(options or {}))
    if fixed:
        raise ValueError(f"{', '.join(fixed)}: the file has its own sizes; leave these options out")
    options = {**sizes, **(options or {})}
    optimizer = registry.make("velo", **options)
    flat, treedef = jax.tree_util.tree_flatten_with_path(
        jax.eval_shape(optimizer.init, jax.random.key(0))
    )
    # The importer has checked names and shapes.
    leaves = [jnp.asarray(parsed.arrays["/".join(base.key_names(path))]) for path, _ in flat]
    theta = jax.tree_util.tree_unflatten(treedef, leaves)
    metadata = {"name": "velo", "options": options, "source": "published VeLO weights"}
    return optimizer, theta, metadata
