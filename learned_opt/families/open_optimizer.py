"""OPEN and No Features: learned optimizers with inputs and noise made for RL.

Goldie et al., "Can Learned Optimization Make Reinforcement Learning Less Difficult?",
2024 (arXiv 2407.07082), sections 5.1 and 5.3, appendix B.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt import base, flat, kernels
from learned_opt.families import coordinate_network, masked_noise
from learned_opt.kernels import Operands, Plan

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
      kernel: ``auto`` (one fused kernel on CPUs, where it can be used; XLA's kernels
        elsewhere and for derivatives), ``xla`` or ``fused`` (an error where it cannot).
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
    kernel: str = "auto"

    def __post_init__(self):
        # Hashable, however it was written down.
        for field in ("features", "noise_on"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        unknown = [name for name in self.features if name not in FEATURES]
        if unknown or not self.features:
            raise ValueError(f"features must be chosen from {FEATURES}, got {self.features}")
        if self.initial_theta not in ("zeros", "random"):
            raise ValueError(
                f"initial_theta must be 'zeros' or 'random', got {self.initial_theta!r}"
            )
        if self.kernel not in kernels.KERNELS:
            raise ValueError(f"kernel must be one of {kernels.KERNELS}, got {self.kernel!r}")
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
        packed = None
        if kernels.wanted(config.kernel):
            # Packed here and not in the update, which runs in loops.
            packed = kernels.pack_open(_spec(config, "none"), _reorder_inputs(config, theta))
            packed = jax.lax.stop_gradient(packed)
        return flat.transformation(
            functools.partial(_initial_state, config),
            functools.partial(_update, config, name, theta, packed),
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
    packed: jax.Array | None,
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
    plan = Plan(
        layout,
        tuple(float(p) for p in jax.tree.leaves(base.layer_proportions(params))),
        masked_noise.noisy_tensors(config.noise_on, params)
        if config.stochastic
        else (False,) * layout.num_tensors,
    )
    none = jnp.zeros((0,), jnp.float32)
    shared = [jnp.asarray(context[n], jnp.float32).reshape(1) for n in _shared(config)]
    operands = Operands(
        gradient=flat.flatten(grads, layout),
        parameter=flat.flatten(params, layout),
        momenta=state.momenta,
        hidden=state.hidden,
        dormancy=flat.flatten(context["dormancy"], layout)
        if "dormancy" in config.features
        else none,
        shared=jnp.concatenate([none, *shared]),
        noise=masked_noise.operand(plan, context) if config.stochastic else none,
    )
    if packed is None:
        update, new_state = _definition(config, plan, theta, operands)
    else:
        varied = kernels.vary_alike((theta, packed, operands))
        update, new_state = _fused(config, plan, *varied)
    return flat.unflatten(update, layout), new_state


def _definition(
    config: OpenConfig, plan: Plan, theta: base.MetaParams, operands: Operands
) -> tuple[jax.Array, OpenState]:
    """What an update is, in JAX: (updates ``[D]``, new state)."""
    decays = jnp.array(MOMENTUM_DECAYS, jnp.float32)[:, None]
    momenta = decays * operands.momenta + (1 - decays) * operands.gradient[None]
    inputs = _inputs(config, plan, operands._replace(momenta=momenta))
    theta = _reorder_inputs(config, theta)
    hidden, outputs = coordinate_network.evaluate(theta, operands.hidden, inputs, operands.shared)
    step = config.direction_multiplier * outputs[0]
    step = step * jnp.exp(config.magnitude_multiplier * outputs[1])
    if config.stochastic:
        step = step + config.noise_multiplier * outputs[2] * masked_noise.draws(
            plan, operands.noise
        )
    if config.zero_mean:
        step = step - jnp.mean(step)
    # The paper subtracts the step from the parameters; optax adds updates.
    return -step, OpenState(momenta, hidden)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _fused(
    config: OpenConfig, plan: Plan, theta: base.MetaParams, packed: jax.Array, operands: Operands
) -> tuple[jax.Array, OpenState]:
    """``_definition``, by the fused kernel where a program runs on a CPU."""

    def on_cpu(theta: base.MetaParams, packed: jax.Array, operands: Operands) -> Any:
        del theta
        noise = "threefry" if operands.noise.dtype == jnp.uint32 else "given"
        spec = _spec(config, noise if config.stochastic else "none")
        update, momenta, hidden = kernels.run_open(spec, plan, packed, operands)
        return update, OpenState(momenta, hidden)

    def elsewhere(theta: base.MetaParams, packed: jax.Array, operands: Operands) -> Any:
        del packed
        return _definition(config, plan, theta, operands)

    return jax.lax.platform_dependent(theta, packed, operands, cpu=on_cpu, default=elsewhere)


@_fused.defjvp
def _fused_jvp(config: OpenConfig, plan: Plan, primals: Any, tangents: Any) -> Any:
    """Derivatives are those of the definition; ``packed`` depends on theta, so it has none."""
    return jax.jvp(
        functools.partial(_definition, config, plan),
        (primals[0], primals[2]),
        (tangents[0], tangents[2]),
    )


def _spec(config: OpenConfig, noise: str) -> kernels.OpenSpec:
    used = set(config.features)
    return kernels.OpenSpec(
        hidden=config.hidden_size,
        width=config.width,
        outputs=config.num_outputs,
        decays=MOMENTUM_DECAYS,
        **{
            f"use_{name}": name in used
            for name in ("parameter", "momentum", "gradient", "dormancy")
        },
        use_layer="layer_proportion" in used,
        shared=len(_shared(config)),
        noise=noise,
        multipliers=(
            config.direction_multiplier,
            config.magnitude_multiplier,
            config.noise_multiplier,
        ),
        zero_mean=config.zero_mean,
        log_epsilon=LOG_EPSILON,
        moment_epsilon=flat.MOMENT_EPSILON,
        norm_epsilon=coordinate_network.LAYER_NORM_EPSILON,
    )


def _shared(config: OpenConfig) -> list[str]:
    """The inputs that are the same for all parameters."""
    return [n for n in ("training_proportion", "batch_proportion") if n in config.features]


def _input_order(config: OpenConfig) -> list[str]:
    """Names of the F channels in the order in which both implementations hold them."""
    used = set(config.features)
    kinds = ["momentum"] * len(MOMENTUM_DECAYS) if "momentum" in used else []
    kinds += ["gradient"] if "gradient" in used else []
    return [
        *(["parameter"] if "parameter" in used else []),
        *(f"sign {kind}" for kind in kinds),
        *(f"log {kind}" for kind in kinds),
        *(name for name in ("dormancy", "layer_proportion") if name in used),
        *_shared(config),
    ]


def _inputs(config: OpenConfig, plan: Plan, operands: Operands) -> jax.Array:
    """The network's inputs (appendix B.2) that differ between parameters: ``[R, D]``."""
    used = set(config.features)
    rows = [operands.parameter[None]] if "parameter" in used else []
    signals = [operands.momenta] if "momentum" in used else []
    signals += [operands.gradient[None]] if "gradient" in used else []
    if signals:
        signal = jnp.concatenate(signals)
        rows += [jnp.sign(signal), jnp.log(jnp.abs(signal) + LOG_EPSILON)]
    parts = [jnp.zeros((0, plan.layout.num_parameters), jnp.float32)]
    if rows:
        raw = jnp.concatenate(rows)
        scales = flat.second_moment_scale(raw, plan.layout)
        parts.append(raw * flat.spread(scales, plan.layout))
    if "dormancy" in used:
        parts.append(operands.dormancy[None])
    if "layer_proportion" in used:
        parts.append(flat.spread(plan.proportions, plan.layout)[None])
    return jnp.concatenate(parts)


def _published_order(config: OpenConfig) -> list[str]:
    """The same names in the order of the published weights (facts of the release)."""
    count = len(MOMENTUM_DECAYS)
    channels = {
        "momentum": ["sign momentum"] * count + ["log momentum"] * count,
        "gradient": ["sign gradient", "log gradient"],
    }
    used = [name for name in FEATURES if name in config.features]
    return [channel for name in used for channel in channels.get(name, [name])]


def _reorder_inputs(config: OpenConfig, theta: base.MetaParams) -> base.MetaParams:
    """Permutes the input weights from ``_published_order`` to ``_input_order``."""
    # Equal names (the six momenta) keep their relative order: stable sorts do that.
    ours = np.argsort(_input_order(config), kind="stable")
    index = np.empty_like(ours)
    index[ours] = np.argsort(_published_order(config), kind="stable")
    gru = dict(theta["gru"])
    for gate in ("ir", "iz", "in"):
        gru[gate] = {**gru[gate], "kernel": gru[gate]["kernel"][index]}
    return {**theta, "gru": gru}
