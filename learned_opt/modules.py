"""Users' own networks as learned optimizers, written in Flax or in Haiku.

A network is applied to every parameter at once: it sees an array of features
``[D, F]`` and gives ``[D, 1]``, ``[D, 2]`` or ``[D, 3]``: direction, log-magnitude and
noise scale, which make the update as in OPEN (equations 7 and 8).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from learned_opt import base, flat, random_normal


class HaikuTransformed(Protocol):
    """What ``haiku.without_apply_rng(haiku.transform(f))`` returns."""

    init: Callable[..., Any]
    apply: Callable[..., Any]


class UpdateRule(NamedTuple):
    """How a network's inputs and outputs become an update.

    Attributes:
      features: any of ``gradient``, ``parameter``, ``momentum`` (three decays), each
        normalised to a second moment of 1 over its tensor, and ``training_proportion``,
        ``batch_proportion``, ``layer_proportion``, ``dormancy``.
      step_size: multiplies the direction (and the noise).
      magnitude_multiplier: multiplies the log-magnitude before the exponential.
    """

    features: tuple[str, ...] = ("gradient", "momentum", "parameter")
    step_size: float = 0.01
    magnitude_multiplier: float = 0.1


_DECAYS = (0.9, 0.99, 0.999)
_NORMALISED = ("gradient", "momentum", "parameter")
_CONTEXT = ("training_proportion", "batch_proportion", "dormancy")
_KNOWN = (*_NORMALISED, *_CONTEXT, "layer_proportion")


class ModuleState(NamedTuple):
    """Momenta ``[3, D]``."""

    momenta: jax.Array


def from_flax(module: Any, rule: UpdateRule | None = None) -> base.LearnedOptimizer:
    """A Flax (linen) module ``[D, F] -> [D, 1..3]`` as a learned optimizer.

    It sees the features of every parameter as a row.

    Raises:
      ValueError: unknown features, or the module's output has another shape.

    Example:
      >>> import flax.linen as nn
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import learned_opt
      >>> rule = learned_opt.UpdateRule(features=("gradient", "momentum"), step_size=0.01)
      >>> optimizer = learned_opt.from_flax(nn.Dense(2), rule)
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
      >>> params = {"layer": {"kernel": jnp.ones((3, 5))}}
      >>> updates, _ = tx.update(params, tx.init(params), params)
      >>> updates["layer"]["kernel"].shape
      (3, 5)
    """
    return _from_functions(module.init, module.apply, rule, type(module).__name__)


def from_haiku(
    transformed: HaikuTransformed, rule: UpdateRule | None = None
) -> base.LearnedOptimizer:
    """A Haiku network as a learned optimizer.

    It is ``hk.without_apply_rng(hk.transform(f))`` with f: ``[D, F] -> [D, 1..3]``.
    """
    return _from_functions(transformed.init, transformed.apply, rule, "haiku network")


def _from_functions(
    init: Callable, apply: Callable, rule: UpdateRule | None, name: str
) -> base.LearnedOptimizer:
    rule = rule or UpdateRule()
    unknown = [feature for feature in rule.features if feature not in _KNOWN]
    if unknown or not rule.features:
        raise ValueError(f"features must be chosen from {_KNOWN}, got {rule.features}")
    num_features = sum(len(_DECAYS) if f == "momentum" else 1 for f in rule.features)
    probe = jax.ShapeDtypeStruct((2, num_features), jnp.float32)
    theta_shape = jax.eval_shape(init, jax.random.key(0), probe)
    output = jax.eval_shape(apply, theta_shape, probe)
    if output.shape not in ((2, 1), (2, 2), (2, 3)):
        raise ValueError(
            f"{name} must map [D, {num_features}] to [D, 1], [D, 2] or [D, 3] (direction, "
            f"log-magnitude, noise scale), but maps [2, {num_features}] to {list(output.shape)}"
        )
    needed = tuple(f for f in rule.features if f in _CONTEXT)
    needed += ("key",) if output.shape[1] == 3 else ()

    def transform(theta: base.MetaParams) -> optax.GradientTransformationExtraArgs:
        update = functools.partial(_update, apply, rule, name, needed, theta)
        return flat.transformation(_initial_state, update)

    return base.LearnedOptimizer(
        lambda key: init(key, jnp.zeros(probe.shape, probe.dtype)), transform
    )


def _initial_state(params: base.Params) -> ModuleState:
    shape = (len(_DECAYS), flat.layout_of(params).num_parameters)
    return ModuleState(jnp.zeros(shape, jnp.float32))


def _update(apply, rule, name, needed, theta, grads, state, params=None, **context):
    base.require_params(name, params)
    base.require_context(name, needed, context)
    layout = flat.layout_of(params)
    gradient = flat.flatten(grads, layout)
    decays = jnp.array(_DECAYS, jnp.float32)[:, None]
    momenta = decays * state.momenta + (1 - decays) * gradient[None]
    rows = {
        "gradient": gradient[None],
        "momentum": momenta,
        "parameter": flat.flatten(params, layout)[None],
    }
    columns = []
    for feature in rule.features:
        if feature in _NORMALISED:
            row = rows[feature]
            row = row * flat.spread(flat.second_moment_scale(row, layout), layout)
        elif feature == "layer_proportion":
            row = flat.spread(jax.tree.leaves(base.layer_proportions(params)), layout)[None]
        elif feature == "dormancy":
            row = flat.flatten(context["dormancy"], layout)[None]
        else:
            row = jnp.full((1, layout.num_parameters), context[feature], jnp.float32)
        columns.append(row)
    outputs = apply(theta, jnp.concatenate(columns).T).T
    step = outputs[0]
    if outputs.shape[0] > 1:
        step = step * jnp.exp(rule.magnitude_multiplier * outputs[1])
    if outputs.shape[0] > 2:
        draws = random_normal.standard_normal(context["key"], layout.num_parameters)
        step = step + outputs[2] * draws
    return flat.unflatten(-rule.step_size * step, layout), ModuleState(momenta)
