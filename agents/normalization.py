"""Running statistics of observations and returns, as part of an agent's state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

EPSILON = 1e-8


class Statistics(NamedTuple):
    """Running mean and variance of a stream of batches.

    Attributes:
      mean, variance: of the items seen, in the items' shape.
      num_items: float32 scalar, how many items; starts just above 0 so that the first batch
        replaces the initial mean 0 and variance 1.
    """

    mean: jax.Array
    variance: jax.Array
    num_items: jax.Array


def initial_statistics(shape: tuple[int, ...]) -> Statistics:
    """Mean 0, variance 1, for items of a shape."""
    return Statistics(jnp.zeros(shape), jnp.ones(shape), jnp.float32(1e-4))


def update_statistics(statistics: Statistics, batch: jax.Array) -> Statistics:
    """Merges a batch ``[B, *shape]`` in (Chan et al. 1979, pairwise variance)."""
    size = batch.shape[0]
    mean, variance = jnp.mean(batch, axis=0), jnp.var(batch, axis=0)
    count = statistics.num_items + size  # at least the batch's size, so division is safe
    delta = mean - statistics.mean
    squares = statistics.variance * statistics.num_items + variance * size
    squares = squares + jnp.square(delta) * statistics.num_items * size / count
    return Statistics(statistics.mean + delta * size / count, squares / count, count)


def normalize(statistics: Statistics, x: jax.Array) -> jax.Array:
    """(x - mean) / standard deviation, for ``[..., *shape]``."""
    return (x - statistics.mean) * jax.lax.rsqrt(statistics.variance + EPSILON)


class RewardScaler(NamedTuple):
    """Scales rewards by the standard deviation of the running discounted return.

    Attributes:
      statistics: of the discounted return, scalar items.
      discounted_return: ``[B]``, of the episode under way in each environment.
    """

    statistics: Statistics
    discounted_return: jax.Array


def initial_reward_scaler(num_envs: int) -> RewardScaler:
    """A scaler that has seen nothing, for B environments."""
    return RewardScaler(initial_statistics(()), jnp.zeros((num_envs,)))


def scale_rewards(
    scaler: RewardScaler, rewards: jax.Array, ended: jax.Array, discount: float
) -> tuple[RewardScaler, jax.Array]:
    """One step: rewards ``[B]`` and episode ends ``[B]`` -> (scaler, scaled rewards).

    The discounted return starts anew after an end.
    """
    returns = scaler.discounted_return * discount + rewards
    statistics = update_statistics(scaler.statistics, returns)
    scaled = rewards * jax.lax.rsqrt(statistics.variance + EPSILON)
    return RewardScaler(statistics, jnp.where(ended, 0.0, returns)), scaled
