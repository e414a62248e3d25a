"""The one environment protocol that every suite is adapted to.

An environment is a pair of pure functions over single (unbatched) states; agents
``vmap`` them over their parallel environments (axis B). Steps reset themselves:
the observation that a step returns is always one to act on, and what the episode
really ended with is kept beside it.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax


class Discrete(NamedTuple):
    """Actions ``0 .. num_actions - 1``, as int32 scalars."""

    num_actions: int


class Continuous(NamedTuple):
    """Real vectors of shape ``[size]``, acted in the range [-1, 1].

    An environment clips what it is given to [-1, 1] and rescales it to the range of
    its own, so that agents need not know that range.
    """

    size: int


class EnvironmentSpec(NamedTuple):
    """What an agent must know to act in an environment.

    Attributes:
      name: the name that resolves to this environment, e.g. ``brax/ant``.
      observation_shape: shape of one observation, without batch axes.
      action: the action space.
      max_episode_steps: the time limit; an episode that reaches it is truncated.
    """

    name: str
    observation_shape: tuple[int, ...]
    action: Discrete | Continuous
    max_episode_steps: int


class TimeStep(NamedTuple):
    """The result of one step of one environment.

    Attributes:
      observation: what to act on next; after an episode's end, the first observation
        of the next episode. float32, ``spec.observation_shape``.
      reward: float32 scalar.
      terminated: bool scalar; the episode ended by the task's own rules, so nothing
        would follow.
      truncated: bool scalar; the episode was cut by the time limit, so its last
        state has a value. Never true together with ``terminated``.
      final_observation: the observation that this step led to, before any reset.
      episode_return: float32 scalar; undiscounted return of the last *finished*
        episode, of no meaning before the first has finished.
      episode_length: int32 scalar; its number of steps, 0 before the first has finished.
    """

    observation: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    final_observation: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array


class Environment(Protocol):
    """A Markov decision process with automatic resets, for single states.

    Implementations hold nothing but constants; all state is the pytree that ``reset``
    and ``step`` pass around, so an environment can be closed over by jitted code.
    """

    @property
    def spec(self) -> EnvironmentSpec: ...

    def reset(self, key: jax.Array) -> tuple[Any, jax.Array]:
        """Starts an episode: key -> (state, first observation)."""
        ...

    def step(self, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, TimeStep]:
        """Takes one step, and starts the next episode where this one ended.

        Args:
          key: for the step's chance and for the next episode's start.
          state: as ``reset`` or ``step`` returned it.
          action: int32 scalar (``Discrete``), or float32 ``[size]`` in [-1, 1] (``Continuous``).

        Raises:
          ValueError: the action has another shape.
        """
        ...


@runtime_checkable
class TaskEnvironment(Environment, Protocol):
    """An environment whose rules are themselves drawn, once in an agent's life.

    All parallel environments of an agent then have one task, and its later episodes too.
    ``reset`` draws a task for a single environment.
    """

    def sample_task(self, key: jax.Array) -> Any:
        """Draws a task: key -> task, a pytree."""
        ...

    def reset_in(self, task: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        """Starts an episode in a task: (task, key) -> (state, first observation)."""
        ...


def reset_parallel(env: Environment, key: jax.Array, num_envs: int) -> tuple[Any, jax.Array]:
    """Starts the parallel environments of one agent, in one task if the task is drawn.

    Returns:
      States and first observations, axes ``[B]``, B being ``num_envs``.
    """
    if not isinstance(env, TaskEnvironment):
        return jax.vmap(env.reset)(jax.random.split(key, num_envs))
    task_key, key = jax.random.split(key)
    task = env.sample_task(task_key)
    return jax.vmap(env.reset_in, in_axes=(None, 0))(task, jax.random.split(key, num_envs))
