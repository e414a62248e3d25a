"""Environments with known answers, for tests."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from agents.environments.base import Continuous, Discrete, EnvironmentSpec, TimeStep


class ProbeState(NamedTuple):
    time: jax.Array
    previous_return: jax.Array


class Probe:
    """Episodes of ``length`` steps; the reward is a function of the action.

    The observation is the step within the episode. With ``truncates`` the end is a time
    limit, else a death.
    """

    def __init__(self, reward, action=None, length=1, truncates=False):
        action = action or Discrete(2)
        self.spec = EnvironmentSpec("probe", (1,), action, length)
        self.reward, self.length, self.truncates = reward, length, truncates

    def reset(self, key):
        del key
        return ProbeState(jnp.int32(0), jnp.float32(0)), jnp.zeros(1)

    def step(self, key, state, action):
        del key
        reward = jnp.asarray(self.reward(action), jnp.float32)
        time = state.time + 1
        ended = time >= self.length
        reached = jnp.full((1,), time / self.length, jnp.float32)
        last = jnp.where(ended, reward, state.previous_return)
        return ProbeState(jnp.where(ended, 0, time), last), TimeStep(
            observation=jnp.where(ended, 0.0, reached),
            reward=reward,
            terminated=ended & (not self.truncates),
            truncated=ended & self.truncates,
            final_observation=reached,
            episode_return=last,
            episode_length=jnp.int32(self.length),
        )


def prefer_one(action):
    """Discrete: action 1 is right."""
    return action == 1


def near_half(action):
    """Continuous: 0.5 is right."""
    return -jnp.sum(jnp.square(jnp.clip(action, -1, 1) - 0.5))


CONTINUOUS = Continuous(1)
