"""OPEN and No Features: learned optimizers with inputs and noise made for RL.

Goldie et al., "Can Learned Optimization Make Reinforcement Learning Less Difficult?",
2024 (arXiv 2407.07082), sections 5.1 and 5.3, appendix B.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt import base, coordinate_network, flat, random_normal

# Coefficients of the six momenta that are inputs (appendix B.2).
MOMENTUM_DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
# Keeps the logarithm finite at 0.
LOG_EPSILON = 1e-13

FEATURES = (
    "parameter",
    "momentum",
    "gradient",
    "training_proportion",
    "layer_proportion",
    "batch_proportion",
    "dormancy",
)
_CONTEXT_FEATURES = ("training_proportion", "batch_proportion", "dormancy")


@dataclasses.dataclass(frozen=True)
class OpenConfig:
    """What an OPEN optimizer is made of; the defaults are the paper's, single task.

    Attributes:
      hidden_size: units of the GRU (paper: 8, multi-task 16).
      width: units of the dense layers (16, multi-task 32).
      features: the inputs, any of ``FEATURES`` (the paper's ablations leave one out).
      stochastic: whether the third output scales noise.
      noise_on: names of the top-level entries of ``params`` whose updates get noise.
      direction_multiplier, magnitude_multiplier, noise_multiplier: alpha 1, 2, 3 of
        equations 7 and 8 (0.001 each). They set the size of a step; 0.001 suits runs of
        ten thousand updates and more, short runs need larger ones.
      zero_mean: subtract the mean update over all parameters (equation 9).
      initial_theta: ``zeros`` (as the paper trains by ES) or ``random`` (Flax's default
        initialisers; at zero all gradients with respect to theta but the last bias's are
        zero, so meta-gradients need this).
    """

    hidden_size: int = 8
    width: int = 16
    features: tuple[str, ...] = FEATURES
    stochastic: bool = True
    noise_on: tuple[str, ...] = ("actor",)
    direction_multiplier: float = 0.001
    magnitude_multiplier: float = 0.001
    noise_multiplier: float = 0.001
    zero_mean: bool = True
    initial_theta: str = "zeros"

    def __post_init__(self):
        unknown = [name for name in self.features if name not in FEATURES]
        if unknown or not self.features:
            raise ValueError(f"features must be chosen from {FEATURES}, got {self.features}")
        if self.initial_theta not in ("zeros", "random"):
            raise ValueError(
                f"initial_theta must be 'zeros' or 'random', got {self.initial_theta!r}"
            )
        if min(self.hidden_size, self.width) < 1:
            raise ValueError("hidden_size and width must be at least 1")

    @property
    def num_inputs(self) -> int:
        """F: two channels (sign and log) for a gradient or momentum, one for the others."""
        channels = {"momentum": 2 * len(MOMENTUM_DECAYS), "gradient": 2}
        return sum(channels.get(name, 1) for name in self.features)

    @property
    def num_outputs(self) -> int:
        return 3 if self.stochastic else 2

    @property
    def context(self) -> tuple[str, ...]:
        """What ``update`` must be told."""
        needed = tuple(name for name in _CONTEXT_FEATURES if name in self.features)
        return (*needed, "key") if self.stochastic else needed


LARGE = {"hidden_size": 16, "width": 32}
NO_FEATURES = {"features": ("momentum", "gradient"), "stochastic": False}


class OpenState(NamedTuple):
    """State for D parameters: momenta ``[6, D]`` and GRU state ``[H, D]``."""

    momenta: jax.Array
    hidden: jax.Array


def make_open(config: OpenConfig, name: str = "open") -> base.LearnedOptimizer:
    """OPEN as a ``LearnedOptimizer``; No Features is ``OpenConfig(**NO_FEATURES)``.

    theta is the parameter tree of a ``CoordinateNetwork``; its sorted leaves, flattened,
    are the published weight vectors. Needs ``params`` and ``config.context``.
    """
    network = coordinate_network.CoordinateNetwork(
        config.hidden_size, config.width, config.num_outputs
    )

    def init(key: jax.Array) -> base.MetaParams:
        theta = network.initial_theta(key, config.num_inputs)
        return theta if config.initial_theta == "random" else jax.tree.map(jnp.zeros_like, theta)

    def transform(theta: base.MetaParams) -> optax.GradientTransformationExtraArgs:
        return optax.GradientTransformationExtraArgs(
            functools.partial(_initial_state, config),
            functools.partial(_update, config, name, theta),
        )

    return base.LearnedOptimizer(init, transform)


def _initial_state(config: OpenConfig, params: base.Params) -> OpenState:
    num_parameters = flat.layout_of(params).num_parameters
    return OpenState(
        momenta=jnp.zeros((len(MOMENTUM_DECAYS), num_parameters), jnp.float32),
        hidden=jnp.zeros((config.hidden_size, num_parameters), jnp.float32),
    )


def _update(
    config: OpenConfig,
    name: str,
    theta: base.MetaParams,
    grads: base.Params,
    state: OpenState,
    params: base.Params = None,
    **context: Any,
) -> tuple[base.Params, OpenState]:
    """One inner update; algorithm 1 of the paper."""
    base.require_params(name, params)
    needed = [item for item in config.context if item != "key" or context.get("noise") is None]
    base.require_context(name, tuple(needed), context)
    layout = flat.layout_of(params)
    gradient = flat.flatten(grads, layout)
    decays = jnp.array(MOMENTUM_DECAYS, jnp.float32)[:, None]
    momenta = decays * state.momenta + (1 - decays) * gradient
    inputs, shared, order = _inputs(config, layout, gradient, momenta, params, context)
    theta = _reorder_inputs(theta, order)
    hidden, outputs = coordinate_network.evaluate(theta, state.hidden, inputs, shared)
    step = config.direction_multiplier * outputs[0]
    step = step * jnp.exp(config.magnitude_multiplier * outputs[1])
    if config.stochastic:
        step = step + config.noise_multiplier * outputs[2] * _noise(config, layout, params, context)
    if config.zero_mean:
        step = step - jnp.mean(step)
    # The paper subtracts the step from the parameters; optax adds updates.
    return flat.unflatten(-step, layout), OpenState(momenta, hidden)


def _inputs(
    config: OpenConfig,
    layout: flat.Layout,
    gradient: jax.Array,
    momenta: jax.Array,
    params: base.Params,
    context: dict[str, Any],
) -> tuple[jax.Array, jax.Array, list[str]]:
    """Builds the network's inputs (appendix B.2).

    Returns:
      ``[R, D]`` inputs that differ between parameters, ``[F - R]`` inputs that do not,
      and the names of the F channels in the order in which these two hold them.
    """
    used = set(config.features)
    rows: list[jax.Array] = []
    names: list[str] = []
    if "parameter" in used:
        rows.append(flat.flatten(params, layout)[None])
        names.append("parameter")
    signals = [momenta] if "momentum" in used else []
    signals += [gradient[None]] if "gradient" in used else []
    if signals:
        signal = jnp.concatenate(signals)
        rows += [jnp.sign(signal), jnp.log(jnp.abs(signal) + LOG_EPSILON)]
        kinds = ["momentum"] * (len(MOMENTUM_DECAYS) * ("momentum" in used))
        kinds += ["gradient"] * ("gradient" in used)
        names += [f"sign {kind}" for kind in kinds] + [f"log {kind}" for kind in kinds]
    normalised: list[jax.Array] = []
    if rows:
        raw = jnp.concatenate(rows)
        normalised = [raw * flat.spread(flat.second_moment_scale(raw, layout), layout)]
    if "layer_proportion" in used:
        proportions = jax.tree.leaves(base.layer_proportions(params))
        normalised.append(flat.spread(proportions, layout)[None])
        names.append("layer_proportion")
    if "dormancy" in used:
        normalised.append(flat.flatten(context["dormancy"], layout)[None])
        names.append("dormancy")
    shared_names = [n for n in ("training_proportion", "batch_proportion") if n in used]
    shared = [jnp.asarray(context[n], jnp.float32).reshape(1) for n in shared_names]
    inputs = jnp.concatenate(normalised) if normalised else jnp.zeros((0, layout.num_parameters))
    return inputs, jnp.concatenate([jnp.zeros((0,)), *shared]), names + shared_names


def _channel_order(features: tuple[str, ...]) -> list[str]:
    """The channels of the published weights, in their order (facts of the release)."""
    count = len(MOMENTUM_DECAYS)
    channels = {
        "momentum": ["sign momentum"] * count + ["log momentum"] * count,
        "gradient": ["sign gradient", "log gradient"],
    }
    return [c for name in FEATURES if name in features for c in channels.get(name, [name])]


def _reorder_inputs(theta: base.MetaParams, order: list[str]) -> base.MetaParams:
    """Permutes the input weights from the published channel order to ``order``."""
    features = {name.removeprefix("sign ").removeprefix("log ") for name in order}
    published = _channel_order(tuple(features))
    # Equal names (the six momenta) keep their relative order: a stable sort does that.
    taken: dict[str, int] = {}
    permutation = []
    for name in order:
        start = taken.get(name, 0)
        permutation.append([i for i, other in enumerate(published) if other == name][start])
        taken[name] = start + 1
    index = jnp.array(permutation)
    gru = dict(theta["gru"])
    for gate in ("ir", "iz", "in"):
        gru[gate] = {**gru[gate], "kernel": gru[gate]["kernel"][index]}
    return {**theta, "gru": gru}


def _noise(
    config: OpenConfig, layout: flat.Layout, params: base.Params, context: dict[str, Any]
) -> jax.Array:
    """N(0, 1) draws ``[D]`` for the networks in ``noise_on``, 0 for the others."""
    paths, _ = jax.tree_util.tree_flatten_with_path(params)
    networks = [base.key_names(path)[:1] for path, _ in paths]
    noisy = [bool(network) and network[0] in config.noise_on for network in networks]
    if not any(noisy):
        found = sorted({network[0] for network in networks if network})
        raise ValueError(
            f"noise goes to the networks {config.noise_on}, but params has the top-level "
            f"entries {found}: put the actor's parameters under params[{config.noise_on[0]!r}], "
            "or name the right ones with noise_on=(...)"
        )
    sizes = [part.stop - part.start for part in layout.slices()]
    total = sum(size for size, on in zip(sizes, noisy, strict=True) if on)
    if context.get("noise") is not None:
        given = flat.flatten(context["noise"], layout)
        parts = zip(layout.slices(), noisy, strict=True)
        draws = jnp.concatenate([given[part] for part, on in parts if on])
    else:
        draws = random_normal.standard_normal(context["key"], total)
    pieces, used = [], 0
    for size, on in zip(sizes, noisy, strict=True):
        pieces.append(draws[used : used + size] if on else jnp.zeros((size,)))
        used += size if on else 0
    return jnp.concatenate(pieces)
