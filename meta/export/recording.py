"""What agents live through: recording environment steps and cutting them into episodes.

Observations are the environment's own, not what an agent's normalisation makes of them, and
actions are what the agent gave the environment. Axes: T steps, B parallel environments.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents import ActorCriticAgent, networks, rollout
from agents.base import TrainState
from agents.environments import Discrete, TaskEnvironment
from agents.environments.base import EnvironmentSpec, TimeStep
from learned_opt.base import LearnedOptimizer, MetaParams

_CHUNK_BYTES = 32 * 2**20  # that are taken from the device at once
_MOST_STEPS = 128  # T of a chunk


class Steps(NamedTuple):
    """Steps of environments, axes ``[T, B]``.

    Attributes:
      observation: float32, what was acted on.
      action: int32, or float32 ``[T, B, size]``.
      reward: float32.
      terminated, truncated: bool, as ``agents.environments.base.TimeStep`` has them.
      final_observation: float32, what the step led to, before any reset.
    """

    observation: Any
    action: Any
    reward: Any
    terminated: Any
    truncated: Any
    final_observation: Any


class Episode(NamedTuple):
    """An episode of n steps, or as much of it as was recorded.

    Attributes:
      observation: float32 ``[n + 1, ...]``; the last one is what the last step led to.
      action: ``[n, ...]``.
      reward: float32 ``[n]``.
      terminated: it ended by the task's own rules.
      truncated: it was cut by the time limit. If neither, recording ended within it.
      environment: which of the B environments it is of.
      iteration: of the agent's training when the episode began.
    """

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: bool
    truncated: bool
    environment: int
    iteration: int


def bytes_per_step(spec: EnvironmentSpec) -> int:
    """Of what is recorded of one step of one environment."""
    action = 1 if isinstance(spec.action, Discrete) else spec.action.size
    return 4 * (2 * int(np.prod(spec.observation_shape)) + action + 1) + 2


def of_policy(
    agent: ActorCriticAgent, state: TrainState, key: jax.Array, num_envs: int
) -> Iterator[Steps]:
    """Lets an agent act, without end, in fresh environments; it does not learn any more.

    Actions are drawn from the policy, as in training; running statistics of observations stay
    as they are. If the environment's rules are drawn (``TaskEnvironment``), they are those
    that the agent was trained with.

    Args:
      key: of the environments and actions. Each step's randomness is folded from it by the
        step's number, so steps do not depend on how many are taken at once.
      num_envs: B.
    """
    env = agent.env
    reset_key, step_key = jax.random.split(key)
    length = _CHUNK_BYTES // (num_envs * bytes_per_step(env.spec))
    length = min(max(length, 1), _MOST_STEPS)

    @jax.jit
    def chunk(state: TrainState, moment: tuple, first: jax.Array) -> tuple[tuple, Steps]:
        def step(moment: tuple, number: jax.Array) -> tuple[tuple, Steps]:
            keys = jax.random.fold_in(step_key, number)
            return _act(agent, state, moment, keys, num_envs)

        return jax.lax.scan(step, moment, first + jnp.arange(length))

    reset = jax.jit(rollout.reset_as_trained, static_argnums=(0, 3))
    moment = reset(env, state, reset_key, num_envs)
    first = 0
    while True:
        moment, steps = chunk(state, moment, jnp.int32(first))
        yield jax.tree.map(np.array, steps)
        first += length


def _act(
    agent: ActorCriticAgent, state: TrainState, moment: tuple, key: jax.Array, num_envs: int
) -> tuple[tuple, Steps]:
    """One step of all environments."""
    env_state, observation = moment
    noise_key, env_key = jax.random.split(key)
    noise = networks.draw_noise(noise_key, agent.env.spec.action, (num_envs,))
    keys = jax.random.split(env_key, num_envs)
    flat = rollout.seen(state.observation_statistics, observation)
    env_state, _, action, outcome = rollout.act(
        agent.env, agent.network, state.params, env_state, flat, noise, keys
    )
    return (env_state, outcome.observation), _steps(observation, action, outcome)


def _steps(observation: jax.Array, action: jax.Array, outcome: TimeStep) -> Steps:
    return Steps(
        observation,
        action,
        outcome.reward,
        outcome.terminated,
        outcome.truncated,
        outcome.final_observation,
    )


def of_training(
    agent: ActorCriticAgent, optimizer: LearnedOptimizer, theta: MetaParams, key: jax.Array
) -> Iterator[Steps]:
    """Trains an agent to its horizon, and gives what it learns from, iteration by iteration.

    The training is the one that the same key gives without recording.
    """
    kind = _TaskRecording if isinstance(agent.env, TaskEnvironment) else _Recording
    recording = dataclasses.replace(agent, env=kind(agent.env, agent.config.num_steps))
    start = jax.jit(lambda theta, key: recording.init(key, optimizer.transform(theta)))
    go_on = jax.jit(lambda theta, state: recording.train_step(optimizer.transform(theta), state)[0])
    state = start(theta, key)
    for _ in range(agent.num_iterations):
        state = go_on(theta, state)
        yield jax.tree.map(lambda leaf: np.array(leaf.swapaxes(0, 1)), state.env_state.steps)


class _Memory(NamedTuple):
    """A recorded environment's state.

    Attributes:
      inner: the environment's own state.
      observation: to act on next.
      steps: the last steps, each leaf ``[T, ...]``.
      num_taken: int32 scalar, steps taken.
    """

    inner: Any
    observation: jax.Array
    steps: Steps
    num_taken: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class _Recording:
    """An environment that keeps its last ``num_steps`` steps in its state."""

    env: Any
    num_steps: int

    @property
    def spec(self) -> EnvironmentSpec:
        return self.env.spec

    def reset(self, key: jax.Array) -> tuple[_Memory, jax.Array]:
        return self._begin(*self.env.reset(key))

    def step(self, key: jax.Array, state: _Memory, action: jax.Array) -> tuple[_Memory, TimeStep]:
        inner, outcome = self.env.step(key, state.inner, action)
        new = _steps(state.observation, action, outcome)
        place = state.num_taken % self.num_steps
        steps = jax.tree.map(lambda all_, one: all_.at[place].set(one), state.steps, new)
        return _Memory(inner, outcome.observation, steps, state.num_taken + 1), outcome

    def _begin(self, inner: Any, observation: jax.Array) -> tuple[_Memory, jax.Array]:
        action = self.spec.action
        blank = jnp.zeros((self.num_steps, *observation.shape), observation.dtype)
        scalar, flag = jnp.zeros(self.num_steps), jnp.zeros(self.num_steps, jnp.bool_)
        taken = (
            jnp.zeros(self.num_steps, jnp.int32)
            if isinstance(action, Discrete)
            else jnp.zeros((self.num_steps, action.size))
        )
        steps = Steps(blank, taken, scalar, flag, flag, blank)
        return _Memory(inner, observation, steps, jnp.int32(0)), observation


class _TaskRecording(_Recording):
    """The same for an environment whose rules are drawn."""

    def sample_task(self, key: jax.Array) -> Any:
        return self.env.sample_task(key)

    def reset_in(self, task: Any, key: jax.Array) -> tuple[_Memory, jax.Array]:
        return self._begin(*self.env.reset_in(task, key))


class _Piece(NamedTuple):
    """Consecutive steps of one environment, and what the last of them led to."""

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    final_observation: np.ndarray


class Episodes:
    """Cuts the steps of B environments, as they come, into episodes.

    Holds the episodes under way and nothing else. Episodes come in the order in which they
    end, those that end together in the order of their environments; how many steps are given
    at once changes nothing.
    """

    def __init__(self, num_envs: int):
        self._open: list[list[_Piece]] = [[] for _ in range(num_envs)]
        self._began = [0] * num_envs  # iteration

    def add(self, steps: Steps, iteration: int, limit: int) -> Iterator[Episode]:
        """Takes steps in, and gives the episodes that end in them.

        Args:
          steps: NumPy arrays ``[T, B, ...]``; they are copied.
          iteration: of the agent's training.
          limit: how many to take of the T * B steps, counted by time and then by environment.
        """
        num_steps, num_envs = steps.reward.shape
        lengths = np.clip((limit - np.arange(num_envs) + num_envs - 1) // num_envs, 0, num_steps)
        ended = (steps.terminated | steps.truncated) & (np.arange(num_steps)[:, None] < lengths)
        begin = [0] * num_envs
        for time, environment in np.argwhere(ended).tolist():
            self._take(steps, iteration, environment, begin[environment], time + 1)
            begin[environment] = time + 1
            ends = (bool(flag[time, environment]) for flag in (steps.terminated, steps.truncated))
            yield self._close(environment, *ends)
        for environment, length in enumerate(lengths.tolist()):
            self._take(steps, iteration, environment, begin[environment], length)

    def finish(self) -> Iterator[Episode]:
        """Gives the episodes within which recording ended."""
        for environment, pieces in enumerate(self._open):
            if pieces:
                yield self._close(environment, False, False)

    def _take(self, steps: Steps, iteration: int, environment: int, begin: int, end: int) -> None:
        if begin == end:
            return
        if not self._open[environment]:
            self._began[environment] = iteration
        part = slice(begin, end), environment
        self._open[environment].append(
            _Piece(
                steps.observation[part].copy(),
                steps.action[part].copy(),
                steps.reward[part].copy(),
                steps.final_observation[end - 1, environment].copy(),
            )
        )

    def _close(self, environment: int, terminated: bool, truncated: bool) -> Episode:
        pieces = self._open[environment]
        self._open[environment] = []
        observations = [piece.observation for piece in pieces]
        return Episode(
            np.concatenate([*observations, pieces[-1].final_observation[None]]),
            np.concatenate([piece.action for piece in pieces]),
            np.concatenate([piece.reward for piece in pieces]),
            terminated,
            truncated,
            environment,
            self._began[environment],
        )
