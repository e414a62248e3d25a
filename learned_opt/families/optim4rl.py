"""Optim4RL and the two recurrent baselines of its paper, Linear and L2LGD2.

Lan, Mahmood, Yan, Xu, "Learning to Optimize for Reinforcement Learning", RLC 2024 (arXiv
2302.01470). L2LGD2 is the optimizer of Andrychowicz et al., "Learning to learn by gradient
descent by gradient descent", 2016 (arXiv 1606.04474), with a GRU.

All three run GRUs over the gradients of each parameter, one dense layer on each GRU, and a
formula that makes the update out of gradient and outputs. ``RecurrentNetwork`` is the
definition of the networks, in Flax; optimizers run ``evaluate``, which computes the same
for all D parameters at once.

Meta-gradients see the gradients as constants unless the outer loop says otherwise
(``meta.training.inner_loop``); here every derivative is defined and finite.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from learned_opt import base, flat, kernels
from learned_opt.families import coordinate_network

# Added to the pseudo second moment exp(o) before the reciprocal root: exp(o) underflows to
# 0 for very negative o, and the root and its derivative stay finite.
ROOT_EPSILON = 1e-8
# Added to |g| before the logarithm, which keeps it and its derivative finite at g = 0.
LOG_EPSILON = 1e-8
# p of Andrychowicz et al., appendix A: below exp(-p) a gradient is shown linearly.
LOG_RANGE = 10.0


@dataclasses.dataclass(frozen=True)
class RecurrentConfig:
    """Settings of Optim4RL, Linear and L2LGD2; the defaults are those of the Brax tasks.

    Attributes:
      learning_rate: multiplies the update; > 0. A constant outside the network: 3e-4 for
        Ant and Humanoid, 1e-3 for Catch and the gridworlds.
      hidden_size: H, units of each GRU.
      gradient_clip: gradients are clipped to [-gradient_clip, gradient_clip] element by
        element; > 0, or None for no clipping (Catch and the gridworlds). Without it,
        gradients must stay below 1e19, where their square overflows.
      kernel: ``auto`` (one fused kernel on CPUs, where it can be used and ``hidden_size`` is
        at most 16; XLA's kernels elsewhere), ``xla`` or ``fused``. The fused kernel can be
        differentiated in reverse mode, once, which is what meta-gradients do; XLA's in all
        ways. The results agree to rounding.
    """

    learning_rate: float = 3e-4
    hidden_size: int = 8
    gradient_clip: float | None = 1.0
    kernel: str = "auto"

    def __post_init__(self):
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.hidden_size < 1:
            raise ValueError(f"hidden_size must be at least 1, got {self.hidden_size}")
        if self.gradient_clip is not None and self.gradient_clip <= 0:
            raise ValueError(
                f"gradient_clip must be above 0, or None for none, got {self.gradient_clip}"
            )
        if self.kernel not in kernels.KERNELS:
            raise ValueError(f"kernel must be one of {kernels.KERNELS}, got {self.kernel!r}")


class RecurrentState(NamedTuple):
    """GRU states, ``[H, D]`` each: two for Optim4RL, one for Linear and L2LGD2."""

    hidden: tuple[jax.Array, ...]


class Branch(NamedTuple):
    """A GRU and the dense layer on it.

    Attributes:
      suffix: of their names in theta: ``rnn<suffix>`` and ``mlp<suffix>``.
      num_inputs: F.
      num_outputs: O.
    """

    suffix: str
    num_inputs: int
    num_outputs: int


class RecurrentNetwork(nn.Module):
    """Branches side by side; their names in theta are those of the published weights.

    Attributes:
      hidden_size: H, of each GRU.
      branches: what there is.
    """

    hidden_size: int
    branches: tuple[Branch, ...]

    @nn.compact
    def __call__(
        self, hidden: tuple[jax.Array, ...], inputs: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        """(hidden ``[..., H]``, inputs ``[..., F]``) -> (hidden, outputs ``[..., O]``)."""
        states, outputs = [], []
        for branch, old, x in zip(self.branches, hidden, inputs, strict=True):
            new, _ = nn.GRUCell(self.hidden_size, name=f"rnn{branch.suffix}")(old, x)
            # A sequence of one, for its name: layers_0. It takes the layer over (no parent).
            dense = nn.Dense(branch.num_outputs, parent=None)
            outputs.append(nn.Sequential([dense], name=f"mlp{branch.suffix}")(new))
            states.append(new)
        return tuple(states), tuple(outputs)

    def initial_theta(self, key: jax.Array) -> base.MetaParams:
        """Flax's default initialisation: orthogonal and LeCun normal kernels, no biases."""
        hidden = tuple(jnp.zeros((self.hidden_size,), jnp.float32) for _ in self.branches)
        inputs = tuple(jnp.zeros((b.num_inputs,), jnp.float32) for b in self.branches)
        return self.init(key, hidden, inputs)["params"]


def evaluate(
    theta: base.MetaParams, branch: Branch, hidden: jax.Array, inputs: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One branch of a ``RecurrentNetwork`` for all parameters at once.

    (hidden ``[H, D]``, inputs ``[F, D]``) -> (new hidden ``[H, D]``, outputs ``[O, D]``).
    """
    no_shared_inputs = jnp.zeros((0,), jnp.float32)
    gru = theta[f"rnn{branch.suffix}"]
    hidden = coordinate_network.gru_step(gru, hidden, inputs, no_shared_inputs)
    dense = theta[f"mlp{branch.suffix}"]["layers_0"]
    return hidden, dense["kernel"].T @ hidden + dense["bias"][:, None]


class _Rule(NamedTuple):
    """What tells the three optimizers apart.

    Attributes:
      branches: of the network.
      inputs: gradient ``[D]`` -> an array ``[F, D]`` for each branch.
      direction: gradient ``[D]``, all outputs ``[O, D]`` -> the step to subtract, before
        the learning rate.
    """

    branches: tuple[Branch, ...]
    inputs: Callable[[jax.Array], tuple[jax.Array, ...]]
    direction: Callable[[jax.Array, jax.Array], jax.Array]


def _optim4rl_direction(gradient: jax.Array, outputs: jax.Array) -> jax.Array:
    """m / sqrt(v), with m = sign(g) exp(o1) and v = exp(o2) (section 4 of the paper).

    The derivative of ``sign`` is 0 in JAX, at 0 as well. The outputs are bounded by the
    weights of the dense layer, as GRU states lie in (-1, 1): no overflow at sane theta.
    """
    # The root's argument is at least ROOT_EPSILON.
    return (
        jnp.sign(gradient) * jnp.exp(outputs[0]) * jax.lax.rsqrt(jnp.exp(outputs[1]) + ROOT_EPSILON)
    )


def _linear_direction(gradient: jax.Array, outputs: jax.Array) -> jax.Array:
    """exp(o1) g + exp(o2) o3."""
    return jnp.exp(outputs[0]) * gradient + jnp.exp(outputs[1]) * outputs[2]


def _l2lgd2_direction(gradient: jax.Array, outputs: jax.Array) -> jax.Array:
    """exp(o) g."""
    return jnp.exp(outputs[0]) * gradient


def preprocess(gradient: jax.Array) -> jax.Array:
    """Two channels that show gradients of any size; ``[D]`` to ``[2, D]``.

    (log|g| / p, sign g) where |g| is at least exp(-p), otherwise (-1, exp(p) g); p is
    ``LOG_RANGE`` (Andrychowicz et al. 2016, appendix A). Finite, with finite derivatives,
    for every finite g: ``where`` would pass on a NaN of the side that it leaves out.
    """
    logarithm = jnp.log(jnp.abs(gradient) + LOG_EPSILON) / LOG_RANGE
    large = logarithm >= -1.0
    # Where it is not used, exp(p) g would overflow for huge g, and so could its derivative.
    small_gradient = jnp.where(large, 0.0, gradient)
    return jnp.stack(
        [
            jnp.where(large, logarithm, -1.0),
            jnp.where(large, jnp.sign(gradient), jnp.exp(LOG_RANGE) * small_gradient),
        ]
    )


_RULES = {
    "optim4rl": _Rule(
        (Branch("1", 1, 1), Branch("2", 1, 1)),
        lambda gradient: (gradient[None], jnp.square(gradient)[None]),
        _optim4rl_direction,
    ),
    "linear": _Rule((Branch("", 1, 3),), lambda gradient: (gradient[None],), _linear_direction),
    "l2lgd2": _Rule(
        (Branch("", 2, 1),), lambda gradient: (preprocess(gradient),), _l2lgd2_direction
    ),
}

FAMILIES = tuple(_RULES)


def make_recurrent(family: str, config: RecurrentConfig) -> base.LearnedOptimizer:
    """Optim4RL, Linear or L2LGD2 as a ``LearnedOptimizer``.

    theta is the parameter tree of a ``RecurrentNetwork``. Needs no context and no
    ``params``. Equal to a step of the learning rate times:

    - ``optim4rl``: -m / sqrt(v), m and v from a network of their own, which see the
      gradient and its square;
    - ``linear``: -(exp(o1) g + exp(o2) o3);
    - ``l2lgd2``: -exp(o) g, the network seeing ``preprocess(g)``.
    """
    rule = _RULES[family]
    network = RecurrentNetwork(config.hidden_size, rule.branches)

    def transform(theta: base.MetaParams) -> optax.GradientTransformationExtraArgs:
        return flat.transformation(
            functools.partial(_initial_state, config, rule),
            functools.partial(_update, config, family, theta),
        )

    def stretch() -> kernels.Stretch | None:
        fused = kernels.recurrent_wanted(config.kernel, config.hidden_size)
        return functools.partial(_stretch, config, family) if fused else None

    stretched = kernels.StretchedTransform(transform, stretch)
    return base.LearnedOptimizer(network.initial_theta, stretched)


def clipped(gradient: jax.Array, clip: float | None) -> jax.Array:
    """Gradients of any shape, clipped element by element unless ``clip`` is None."""
    return gradient if clip is None else jnp.clip(gradient, -clip, clip)


def _initial_state(config: RecurrentConfig, rule: _Rule, params: base.Params) -> RecurrentState:
    shape = (config.hidden_size, flat.layout_of(params).num_parameters)
    return RecurrentState(tuple(jnp.zeros(shape, jnp.float32) for _ in rule.branches))


def _update(
    config: RecurrentConfig,
    family: str,
    theta: base.MetaParams,
    grads: base.Params,
    state: RecurrentState,
    params: base.Params = None,
    **context: Any,
) -> tuple[base.Params, RecurrentState]:
    """One inner update."""
    del context
    layout = flat.layout_of(grads if params is None else params)
    gradient = clipped(flat.flatten(grads, layout), config.gradient_clip)
    if kernels.recurrent_wanted(config.kernel, config.hidden_size):
        update = kernels.make_update(*_fused(config, family, theta))
        step, hidden = update(flat.flatten(theta, flat.layout_of(theta)), gradient, state.hidden)
    else:
        step, hidden = _run(family, theta, gradient, state.hidden)
    return flat.unflatten(-config.learning_rate * step, layout), RecurrentState(hidden)


def _run(
    family: str, theta: base.MetaParams, gradient: jax.Array, hidden: tuple[jax.Array, ...]
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """(gradient ``[D]``, hidden states ``[H, D]``) -> (step before the learning rate, states)."""
    rule = _RULES[family]
    results = [
        evaluate(theta, branch, old, inputs)
        for branch, old, inputs in zip(rule.branches, hidden, rule.inputs(gradient), strict=True)
    ]
    outputs = jnp.concatenate([output for _, output in results])
    return rule.direction(gradient, outputs), tuple(new for new, _ in results)


def _stretch(
    config: RecurrentConfig,
    family: str,
    theta: base.MetaParams,
    state: RecurrentState,
    gradients: jax.Array,
    result: kernels.StretchResult,
) -> kernels.StretchResult:
    """See ``kernels.Stretch``."""
    layout = flat.layout_of(result.params)
    gradients = clipped(gradients, config.gradient_clip)
    attach = kernels.make_stretch(*_fused(config, family, theta), factor=-config.learning_rate)
    totals = kernels.Totals(flat.flatten(result.params, layout), result.squared_norm)
    vector = flat.flatten(theta, flat.layout_of(theta))
    totals = attach(vector, gradients, state.hidden, totals)
    return kernels.StretchResult(flat.unflatten(totals.parameters, layout), totals.squared_norms)


def _fused(
    config: RecurrentConfig, family: str, theta: base.MetaParams
) -> tuple[kernels.RecurrentSpec, kernels.Update]:
    """What to compile for a theta of this structure, and what it computes."""
    layout, branches = flat.layout_of(theta), _RULES[family].branches
    spec = kernels.RecurrentSpec(
        family=family,
        branches=len(branches),
        hidden=config.hidden_size,
        inputs=branches[0].num_inputs,
        outputs=branches[0].num_outputs,
        root_epsilon=ROOT_EPSILON,
        log_epsilon=LOG_EPSILON,
        log_range=LOG_RANGE,
    )
    spec.check(theta)

    def definition(vector: jax.Array, gradient: jax.Array, hidden: tuple) -> tuple:
        return _run(family, flat.unflatten(vector, layout), gradient, hidden)

    return spec, definition
