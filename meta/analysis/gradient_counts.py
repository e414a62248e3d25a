"""Distributions of gradients and updates over training, counted inside the inner loop.

``COUNTS`` are of the sizes of all elements of an optimizer's gradients and updates in fixed bins,
of exact zeros, and of how each gradient compares with the one before (which is the only one that
is kept).

g is the gradient that the optimizer sees (so after the agent's clipping), u the update that is
added to the parameters; all parameters of all networks count alike:

===================  ==================================================================
gradient_above_KK    elements of |g| >= the lower edge of bin KK; bin 00 has all but 0
update_above_KK      the same of u
gradient_zero        elements of g that are exactly 0
update_zero          the same of u
sign_pairs           elements where g and the g before are both not 0
sign_changes         those of them whose sign changed
cosine               sum of the cosines of g and the g before, where neither is 0
cosine_count         how many these are
===================  ==================================================================

All are whole numbers but ``cosine``. They are counted modulo 2**32, which is exact as long as
fewer elements than that lie between two points.
"""

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt import base, flat
from meta.engine.watching import Measure, Update, WatchedState

# Bins of log10 of a size: quarters of a decade. The outermost ones take all beyond them.
LOWEST, HIGHEST, PER_DECADE = -16, 2, 4
NUM_BINS = (HIGHEST - LOWEST) * PER_DECADE
# Lower edges of the bins in log10, [NUM_BINS].
EDGES = LOWEST + np.arange(NUM_BINS) / PER_DECADE
QUANTITIES = ("gradient", "update")
_TINY = 1e-30  # smaller than any norm of interest, in float32 still far from its least number

Counts = dict[str, jax.Array]


def _init(params: base.Params) -> tuple[Counts, jax.Array]:
    """No counts, and 0 for the gradient before, flat ``[D]``."""
    last = jnp.zeros((flat.layout_of(params).num_parameters,), jnp.float32)
    shapes = jax.eval_shape(lambda: _count(last, last, last))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), last


def _of(update: Update, state: WatchedState) -> tuple[Counts, jax.Array]:
    gradient = flat.flatten(update.grads, flat.layout_of(update.grads))
    step = flat.flatten(update.updates, flat.layout_of(update.updates))
    return _count(gradient, step, state.gradients), gradient


def _count(gradient: jax.Array, update: jax.Array, last: jax.Array) -> Counts:
    """The counts of one update, from flat vectors ``[D]``."""
    both = (gradient != 0) & (last != 0)
    changed = both & (jnp.sign(gradient) != jnp.sign(last))
    cosine, there = _cosine(gradient, last)
    return {
        "gradient": _at_least(gradient),
        "update": _at_least(update),
        "gradient_zero": _number(gradient == 0),
        "update_zero": _number(update == 0),
        "sign_pairs": _number(both),
        "sign_changes": _number(changed),
        "cosine": cosine,
        "cosine_count": there.astype(jnp.uint32),
    }


def _at_least(vector: jax.Array) -> jax.Array:
    """How many elements are as large as each bin's lower edge, uint32 ``[NUM_BINS]``.

    One comparison with each edge, which is one pass over vectors: many times faster on CPUs
    than adding to a histogram element by element.
    """
    size = jnp.where(jnp.isfinite(vector), jnp.abs(vector), 0.0)
    edges = (10.0 ** EDGES[1:]).astype(np.float32)
    above = jnp.sum(size[None, :] >= edges[:, None], axis=1, dtype=jnp.uint32)
    return jnp.concatenate([_number(size > 0)[None], above])


def _number(there: jax.Array) -> jax.Array:
    return jnp.sum(there, dtype=jnp.uint32)


def _cosine(one: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosine similarity, 0 where one of the vectors is 0; and whether neither is."""
    norms = jnp.linalg.norm(one), jnp.linalg.norm(other)
    there = (norms[0] > 0) & (norms[1] > 0) & jnp.isfinite(norms[0]) & jnp.isfinite(norms[1])
    # Each is divided by its own norm: the product of two small norms could be 0.
    dot = jnp.sum(one / jnp.maximum(norms[0], _TINY) * (other / jnp.maximum(norms[1], _TINY)))
    return jnp.where(there, dot, 0.0), there


def _by_name(counts: Counts) -> Counts:
    """All counts by name, each a scalar."""
    found: Counts = {}
    for name, value in counts.items():
        if name in QUANTITIES:
            found |= {above(name, index): value[index] for index in range(NUM_BINS)}
        else:
            found[name] = value
    return found


def above(quantity: str, index: int) -> str:
    """The name of a quantity's count from a bin on."""
    return f"{quantity}_above_{index:02d}"


COUNTS = Measure(_init, _of, scalars=_by_name)
