"""Advantage estimation and the losses of PPO and A2C, as pure functions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class LossTerms(NamedTuple):
    """Scalars of one loss evaluation; ``total`` is what is minimised."""

    total: jax.Array
    policy: jax.Array
    value: jax.Array
    entropy: jax.Array


def generalized_advantages(
    rewards: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
    terminated: jax.Array,
    ended: jax.Array,
    discount: float,
    lam: float,
) -> jax.Array:
    """Generalised advantage estimates (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

    delta_t = r_t + discount (1 - terminated_t) v(s'_t) - v(s_t)
    A_t     = delta_t + discount lam (1 - ended_t) A_{t+1}

    Args:
      rewards: ``[T, ...]``, r_t for acting in s_t.
      values: ``[T, ...]``, v(s_t).
      next_values: ``[T, ...]``, v of the state s'_t that the step led to, before a reset.
      terminated: ``[T, ...]`` bool, nothing follows s'_t: its value counts as 0.
      ended: ``[T, ...]`` bool, step t was the last of its episode (terminated or truncated).
      discount: in [0, 1].
      lam: lambda, in [0, 1].

    Returns:
      Advantages ``[T, ...]``.
    """
    deltas = rewards + discount * jnp.where(terminated, 0.0, next_values) - values
    decays = discount * lam * (1.0 - ended)

    def step(advantage, inputs):
        delta, decay = inputs
        advantage = delta + decay * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(
        step, jnp.zeros_like(values[0]), (deltas, decays), reverse=True, unroll=8
    )
    return advantages


def standardize(x: jax.Array) -> jax.Array:
    """Zero mean and unit standard deviation; 1e-8 keeps constant input finite."""
    return (x - jnp.mean(x)) / (jnp.std(x) + 1e-8)


def ppo_policy_loss(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, clip_epsilon: float
) -> jax.Array:
    """The clipped surrogate, negated (Schulman et al. 2017, arXiv 1707.06347, eq. 7).

    All arguments ``[batch]``; returns a scalar.
    """
    ratio = jnp.exp(log_prob - old_log_prob)
    clipped = jnp.clip(ratio, 1.0 - clip_epsilon, 1.0 + clip_epsilon)
    return -jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))


def ppo_value_loss(
    value: jax.Array, old_value: jax.Array, target: jax.Array, clip_epsilon: float
) -> jax.Array:
    """Half the larger of the plain and the clipped squared error, averaged.

    The prediction may move at most ``clip_epsilon`` from the old value (as in the PPO
    code of Baselines and PureJaxRL). All arguments ``[batch]``; returns a scalar.
    """
    clipped = old_value + jnp.clip(value - old_value, -clip_epsilon, clip_epsilon)
    worse = jnp.maximum(jnp.square(value - target), jnp.square(clipped - target))
    return 0.5 * jnp.mean(worse)


def a2c_policy_loss(log_prob: jax.Array, advantage: jax.Array) -> jax.Array:
    """The policy-gradient surrogate, negated (Mnih et al. 2016, arXiv 1602.01783)."""
    return -jnp.mean(log_prob * advantage)


def a2c_value_loss(value: jax.Array, target: jax.Array) -> jax.Array:
    """Half the mean squared error. Arguments ``[batch]``; returns a scalar."""
    return 0.5 * jnp.mean(jnp.square(value - target))
