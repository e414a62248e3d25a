"""What every suite does alike: bookkeeping of episodes, automatic resets, clipped actions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agents.environments import base


class EpisodeLog(NamedTuple):
    """The running episode and the last finished one of a single environment.

    Attributes:
      running_return: float32 scalar; undiscounted sum of this episode's rewards so far.
      running_length: int32 scalar; this episode's steps so far.
      last_return: float32 scalar; return of the last finished episode, 0 before the first (agents
        take it for none, as its length is 0).
      last_length: int32 scalar; its steps, 0 before the first.
    """

    running_return: jax.Array
    running_length: jax.Array
    last_return: jax.Array
    last_length: jax.Array


class Moment(NamedTuple):
    """A simulator's state, and the float32 observation of it."""

    inner: Any
    observation: jax.Array


def new_log() -> EpisodeLog:
    """The log of an environment that has not taken a step."""
    return EpisodeLog(jnp.float32(0), jnp.int32(0), jnp.float32(0), jnp.int32(0))


def finish_step(
    log: EpisodeLog,
    reached: Moment,
    restart: Moment,
    reward: jax.Array,
    terminated: jax.Array,
    out_of_time: jax.Array,
) -> tuple[Any, EpisodeLog, base.TimeStep]:
    """Does the accounts of one step, and goes to ``restart`` where it ended the episode.

    Args:
      log: the accounts before the step.
      reached: where the step led.
      restart: where the next episode begins; the same tree as ``reached``, with the same
        shapes and dtypes.
      reward: real scalar.
      terminated: bool scalar; the task's own end.
      out_of_time: bool scalar; the time limit is reached. A step that does both has
        terminated: nothing would have followed it.

    Returns:
      The simulator's state to go on from, the accounts after the step, and its
      ``TimeStep``.
    """
    reward = jnp.asarray(reward, jnp.float32)
    terminated = jnp.asarray(terminated, jnp.bool_)
    truncated = jnp.asarray(out_of_time, jnp.bool_) & ~terminated
    done = terminated | truncated

    episode_return = log.running_return + reward
    episode_length = log.running_length + 1
    log = EpisodeLog(
        running_return=jnp.where(done, jnp.float32(0), episode_return),
        running_length=jnp.where(done, jnp.int32(0), episode_length),
        last_return=jnp.where(done, episode_return, log.last_return),
        last_length=jnp.where(done, episode_length, log.last_length),
    )
    following = select(done, restart, reached)
    timestep = base.TimeStep(
        observation=following.observation,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        final_observation=reached.observation,
        episode_return=log.last_return,
        episode_length=log.last_length,
    )
    return following.inner, log, timestep


def select(condition: jax.Array, if_true: Any, if_false: Any) -> Any:
    """One of two equal trees, by a bool scalar; strict about shapes and dtypes."""
    return jax.tree.map(lambda x, y: jax.lax.select(condition, x, y), if_true, if_false)


def strong(tree: Any) -> Any:
    """The tree with every leaf an array whose dtype no longer adapts to its neighbours.

    Simulators build first states of Python numbers and later ones of arrays; such weakly
    typed leaves change their type from one step to the next, which ``lax.scan`` refuses.
    """

    def leaf(x):
        x = jnp.asarray(x)
        if jnp.issubdtype(x.dtype, jax.dtypes.extended):  # A typed key: always strong.
            return x
        return jax.lax.convert_element_type(x, x.dtype)

    return jax.tree.map(leaf, tree)


def clip_action(action: jax.Array, size: int) -> jax.Array:
    """A continuous action ``[size]``, clipped to [-1, 1].

    Raises:
      ValueError: the action has another shape.
    """
    check_action_shape(action, (size,))
    return jnp.clip(jnp.asarray(action, jnp.float32), -1.0, 1.0)


def check_action_shape(action: jax.Array, shape: tuple[int, ...]) -> None:
    """Checks the shape of a single action.

    Raises:
      ValueError: it is not ``shape``; without this, simulators broadcast and go on.
    """
    if jnp.shape(action) != shape:
        raise ValueError(
            f"an action must have shape {shape}, got {jnp.shape(action)}: step takes one "
            "environment's action, vmap it over parallel environments"
        )
