"""Acting in B parallel environments for T steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agents import losses, networks, normalization
from agents.base import TrainState
from agents.config import AgentConfig
from agents.environments.base import Environment, TaskEnvironment, TimeStep, reset_parallel
from agents.networks import ActorCritic, Distribution


class Batch(NamedTuple):
    """What the updates of an iteration learn from; axes ``[T, B]`` or ``[T * B]``."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array

    @property
    def target(self) -> jax.Array:
        """The value function's regression target."""
        return self.advantage + self.value


class _Step(NamedTuple):
    """One step of all environments, axes ``[B]`` (stacked by scan to ``[T, B]``)."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    terminated: jax.Array
    ended: jax.Array
    next_value: jax.Array | None


def flatten_observation(observation: jax.Array) -> jax.Array:
    """``[B, ...]`` of any shape to float32 ``[B, features]``."""
    return observation.reshape(observation.shape[0], -1).astype(jnp.float32)


def seen(statistics: normalization.Statistics | None, observation: jax.Array) -> jax.Array:
    """``[B, ...]`` as networks take it: ``[B, features]``, normalised if there are statistics."""
    flat = flatten_observation(observation)
    return flat if statistics is None else normalization.normalize(statistics, flat)


def act(
    env: Environment,
    network: ActorCritic,
    params: Any,
    env_state: Any,
    observation: jax.Array,
    noise: jax.Array,
    keys: jax.Array,
) -> tuple[Any, Distribution, jax.Array, TimeStep]:
    """One step of all environments with actions drawn from the policy.

    Args:
      env_state: ``[B]``; ``env`` itself is unbatched.
      observation: ``[B, features]``, as ``seen`` gives it.
      noise: what the actions are drawn with, see ``networks.draw_noise``.
      keys: of the environments' steps, ``[B]``.

    Returns:
      (states, policy, actions, outcomes), axes ``[B]``.
    """
    policy, _ = network.policy(params, observation)
    action = policy.sample(noise)
    env_state, outcome = jax.vmap(env.step)(keys, env_state, action)
    return env_state, policy, action, outcome


def reset_as_trained(
    env: Environment, state: TrainState, key: jax.Array, num_envs: int
) -> tuple[Any, jax.Array]:
    """Fresh environments to watch a trained agent in: states and first observations ``[B]``.

    Rules that are drawn (``TaskEnvironment``) are those that the agent was trained with.
    """
    if not isinstance(env, TaskEnvironment):
        return reset_parallel(env, key, num_envs)
    task = jax.tree.map(lambda leaf: leaf[0], state.env_state.task)
    return jax.vmap(env.reset_in, in_axes=(None, 0))(task, jax.random.split(key, num_envs))


def collect(
    config: AgentConfig,
    env: Environment,
    network: ActorCritic,
    params: Any,
    state: TrainState,
    key: jax.Array,
) -> tuple[TrainState, Batch]:
    """Runs one rollout, acting with ``params``, and estimates advantages.

    Returns:
      The state with moved environments and statistics (its own ``params`` and ``opt_state``
      pass through), and a batch ``[T, B]``.
    """
    noise_key, env_key = jax.random.split(key)
    size = (config.num_steps, config.num_envs)
    noise = networks.draw_noise(noise_key, env.spec.action, size)
    env_keys = jax.random.split(env_key, size)

    def step(state: TrainState, inputs: tuple) -> tuple[TrainState, _Step]:
        return _advance(config, env, network, params, state, *inputs)

    state, steps = jax.lax.scan(step, state, (noise, env_keys))
    last_value, _ = network.value(params, state.observation)
    next_values = jnp.concatenate([steps.value[1:], last_value[None]])
    terminated = steps.ended  # `terminate`: the time limit counts as a death
    if steps.next_value is not None:
        next_values = jnp.where(steps.ended, steps.next_value, next_values)
        terminated = steps.terminated
    advantage = losses.generalized_advantages(
        steps.reward,
        steps.value,
        next_values,
        terminated,
        steps.ended,
        config.discount,
        config.gae_lambda,
    )
    return state, Batch(steps.observation, steps.action, steps.log_prob, steps.value, advantage)


def _advance(
    config: AgentConfig,
    env: Environment,
    network: ActorCritic,
    params: Any,
    state: TrainState,
    noise: jax.Array,
    env_keys: jax.Array,
) -> tuple[TrainState, _Step]:
    """One step of all environments, with noise ``[B, A]`` and keys ``[B]``."""
    env_state, policy, action, outcome = act(
        env, network, params, state.env_state, state.observation, noise, env_keys
    )
    value, _ = network.value(params, state.observation)
    ended = outcome.terminated | outcome.truncated
    next_value = None
    statistics = state.observation_statistics
    if statistics is not None:
        flat = flatten_observation(outcome.observation)
        statistics = normalization.update_statistics(statistics, flat)
    if config.truncation == "bootstrap":
        next_value, _ = network.value(params, seen(statistics, outcome.final_observation))
    reward, scaler = config.reward_scale * outcome.reward, state.reward_scaler
    if scaler is not None:
        scaler, reward = normalization.scale_rewards(scaler, reward, ended, config.discount)
    step = _Step(
        observation=state.observation,
        action=action,
        log_prob=policy.log_prob(action),
        value=value,
        reward=reward,
        terminated=outcome.terminated,
        ended=ended,
        next_value=next_value,
    )
    state = state._replace(
        env_state=env_state,
        observation=seen(statistics, outcome.observation),
        observation_statistics=statistics,
        reward_scaler=scaler,
        episode_return=jnp.where(outcome.episode_length > 0, outcome.episode_return, jnp.nan),
        episode_length=outcome.episode_length,
    )
    return state, step
