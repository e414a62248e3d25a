"""What updates do, measured inside the inner loop: section 7 and appendix F of the OPEN paper.

Signs: everything is said of the step u that is *subtracted* from the parameters, as the paper
writes it; optax adds updates, so u is the negative update, and plain gradient descent has a
cosine similarity of 1 with the gradient.

Names are ``STATISTIC/NETWORK``, where the network is a top-level entry of ``params`` or
``all``. g is the gradient that the optimizer sees (so after clipping), p the parameters before
the update, u0 the step without noise, and |.| the Euclidean norm:

======================  ==============================================================
cos_gradient            cosine of u and g, in [-1, 1] (F.2), over updates where neither is 0
cos_momentum_B          cosine of u and m <- B m + (1 - B) g, this g included (F.2)
relative_update         |u0| / |p|
update_over_parameter   mean of |u0_i / p_i| where p_i is not 0 (F.3)
relative_noise          |u - u0| / |u0|; 0 for optimizers without noise
noise_over_parameter    mean of s_i / |p_i| where p_i is not 0, s_i the noise's standard
                        deviation (F.4)
dormant_T               share of the hidden neurons with a dormancy score <= T, in [0, 1]
                        (equation 6, F.1)
parameter_norm, gradient_norm, update_norm
                        |p|, |g|, |u|
======================  ==============================================================
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt import base, flat
from learned_opt.families.open_optimizer import MOMENTUM_DECAYS
from meta.engine.population import Series
from meta.engine.watching import Measure, Update, WatchedState

TAUS = (0.0, 0.025, 0.1)
ALL = "all"
_COUNT = "updates"
# Counts the updates that have a direction: an annealed learning rate ends at 0.
_DEFINED = "defined"
# A neuron that is never active scores epsilon over its layer's mean activity (see
# agents.actor_critic.DORMANCY_EPSILON) and not exactly 0: below this it counts as 0.
_SILENT = 1e-6
# Smaller than any norm of interest, in float32 still far from its least number.
_TINY = 1e-30
# The mean of |x| is this often the standard deviation of a normal x of mean 0.
_MEAN_ABSOLUTE = float(np.sqrt(2 / np.pi))

Statistics = dict[str, jax.Array]


def make_measure(taus: Sequence[float] = TAUS) -> Measure:
    """The measure, whose statistics are means over updates; see the module for what.

    Args:
      taus: thresholds of dormancy, >= 0.
    """

    def init(params: base.Params) -> tuple[Statistics, jax.Array]:
        momenta = jnp.zeros((len(MOMENTUM_DECAYS), flat.layout_of(params).num_parameters))
        ones = {"dormancy": jax.tree.map(jnp.ones_like, params)}
        update = Update(optax.identity(), params, params, params, ones)
        # Shapes alone: which statistics there are.
        names = jax.eval_shape(lambda: _statistics(update, params, momenta, taus))
        return {name: jnp.float32(0.0) for name in names}, momenta

    def of(update: Update, state: WatchedState) -> tuple[Statistics, jax.Array]:
        base.require_params("an optimizer that is analysed", update.params)
        base.require_context("an optimizer that is analysed", ("dormancy",), update.context)
        quiet = _without_noise(update, state.inner)
        decays = jnp.array(MOMENTUM_DECAYS, jnp.float32)[:, None]
        gradient = flat.flatten(update.grads, flat.layout_of(update.params))
        momenta = decays * state.gradients + (1 - decays) * gradient  # [6, D]
        return _statistics(update, quiet, momenta, taus), momenta

    return Measure(init, of, series=_means)


def _without_noise(update: Update, state: optax.OptState) -> base.Params:
    """The same update with noise of 0; NaN where an optimizer draws but takes no noise."""
    tx, grads, params = update.tx, update.grads, update.params
    plain = {name: value for name, value in update.context.items() if name not in ("key", "noise")}
    try:  # an optimizer that needs no key has no noise: nothing is computed here
        jax.eval_shape(lambda: tx.update(grads, state, params, **plain))
    except (ValueError, KeyError, TypeError):
        silence = jax.tree.map(jnp.zeros_like, params)
        try:
            quiet, _ = tx.update(grads, state, params, **plain, noise=silence)
        except (ValueError, KeyError, TypeError):
            return jax.tree.map(lambda u: jnp.full_like(u, jnp.nan), update.updates)
        return quiet
    return update.updates


def _statistics(
    update: Update, quiet: base.Params, momenta: jax.Array, taus: Sequence[float]
) -> Statistics:
    """The statistics of one update, by name."""
    _, grads, updates, params, context = update
    layout = flat.layout_of(params)
    gradient, parameter = flat.flatten(grads, layout), flat.flatten(params, layout)
    step, calm = -flat.flatten(updates, layout), -flat.flatten(quiet, layout)
    found = {_COUNT: jnp.float32(1.0), **_dormant_shares(params, grads, context["dormancy"], taus)}
    for network, part in _networks(params, layout).items():
        values = {
            "parameter_norm": jnp.linalg.norm(parameter[part]),
            "gradient_norm": jnp.linalg.norm(gradient[part]),
            "update_norm": jnp.linalg.norm(step[part]),
            "cos_gradient": _cosine(step[part], gradient[part]),
            **_sizes(parameter[part], step[part], calm[part]),
        }
        there = (values["update_norm"] > 0) & (values["gradient_norm"] > 0)
        values[_DEFINED] = there.astype(jnp.float32)
        for decay, momentum in zip(MOMENTUM_DECAYS, momenta, strict=True):
            values[f"cos_momentum_{decay}"] = _cosine(step[part], momentum[part])
        found |= {f"{name}/{network}": value for name, value in values.items()}
    return found


def _sizes(parameter: jax.Array, step: jax.Array, calm: jax.Array) -> Statistics:
    """Of a step with and without noise, relative to the parameters."""
    noise = step - calm
    there = parameter != 0
    # Biases begin at 0, where nothing is relative to them; 1 stands in for these.
    size = jnp.where(there, jnp.abs(parameter), 1.0)
    count = jnp.maximum(jnp.sum(there), 1)
    return {
        "relative_update": jnp.linalg.norm(calm) / jnp.maximum(jnp.linalg.norm(parameter), _TINY),
        "update_over_parameter": jnp.sum(jnp.where(there, jnp.abs(calm) / size, 0.0)) / count,
        "relative_noise": jnp.linalg.norm(noise) / jnp.maximum(jnp.linalg.norm(calm), _TINY),
        "noise_over_parameter": jnp.sum(jnp.where(there, jnp.abs(noise) / size, 0.0))
        / (count * _MEAN_ABSOLUTE),
    }


def _cosine(one: jax.Array, other: jax.Array) -> jax.Array:
    """Cosine similarity, and 0 where one of them is 0."""
    # Each is divided by its own norm: the product of two small norms could be 0.
    dot = jnp.sum((one / jnp.maximum(jnp.linalg.norm(one), _TINY)) * other)
    return dot / jnp.maximum(jnp.linalg.norm(other), _TINY)


def _networks(params: base.Params, layout: flat.Layout) -> dict[str, slice]:
    """Where each network lies in the flattened parameters, and all of them.

    A top-level entry's leaves follow each other in every tree.
    """
    paths, _ = jax.tree_util.tree_flatten_with_path(params)
    found = {ALL: slice(0, layout.num_parameters)}
    for (path, _), part in zip(paths, layout.slices(), strict=True):
        name = base.key_names(path)[0]
        found[name] = slice(found.get(name, part).start, part.stop)
    return found


def _dormant_shares(
    params: base.Params, grads: base.Params, dormancy: base.Params, taus: Sequence[float]
) -> Statistics:
    """Shares of dormant neurons; a network without hidden layers has none."""
    layers = _hidden_layers(params, grads, dormancy)
    networks = list(dict.fromkeys(network for network, _ in layers))
    found: Statistics = {}
    for name in [ALL, *networks] if networks else []:
        scores = jnp.concatenate([s for network, s in layers if name in (ALL, network)])
        for tau in taus:
            dormant = jnp.mean((scores <= max(tau, _SILENT)).astype(jnp.float32))
            found[f"dormant_{tau:g}/{name}"] = dormant
    return found


def _hidden_layers(
    params: base.Params, grads: base.Params, dormancy: base.Params
) -> list[tuple[str, jax.Array]]:
    """(network, scores ``[neurons]``) of each hidden layer."""
    proportions = base.layer_proportions(params)
    kernels: dict[str, list[tuple[float, jax.Array]]] = {}
    rows = zip(
        jax.tree_util.tree_flatten_with_path(params)[0],
        *(jax.tree.leaves(tree) for tree in (proportions, grads, dormancy)),
        strict=True,
    )
    for (path, leaf), proportion, gradient, score in rows:
        if leaf.ndim >= 2:  # each layer once, by its kernel
            scores = jnp.broadcast_to(score, leaf.shape)[(0,) * (leaf.ndim - 1)]
            # Where a whole layer is silent, epsilon over epsilon gives every neuron 1: such a
            # layer is told from an evenly active one by its gradient, which is exactly 0.
            even = jnp.all(jnp.abs(scores - 1.0) < _SILENT) & (len(scores) > 1)
            silent = even & jnp.all(gradient == 0)
            layer = proportion, jnp.where(silent, 0.0, scores)
            kernels.setdefault(base.key_names(path)[0], []).append(layer)
    return [
        (network, scores)
        for network, layers in kernels.items()
        # The last one is the output, whose values are no activations.
        for _, scores in sorted(layers, key=lambda layer: layer[0])[:-1]
    ]


def _means(sums: Series) -> Series:
    """Sums over updates as means, NaN for cosines where no update had a direction."""
    found = {}
    for name, values in sums.items():
        statistic, _, network = name.partition("/")
        if statistic not in (_COUNT, _DEFINED):
            directed = statistic.startswith("cos_")
            count = sums[f"{_DEFINED}/{network}" if directed else _COUNT]
            # At least one update lies between points, but maybe none with a direction.
            found[name] = ratio(values, count)
    return found


def ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Means from sums and whole numbers of what was summed; NaN where there was nothing."""
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
