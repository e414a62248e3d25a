"""An environment of one's own: a corridor, whose right end pays 1.

Imported before a run (``--import=examples/extending/my_environment.py``), it is
``--task=my/corridor``; ``--env_option=length=8`` makes it longer.
"""

import jax
import jax.numpy as jnp

from lopt_rl.agents import environments
from lopt_rl.agents.environments import episodes


class Corridor:
    """Steps of 1 to the left (action 0) or the right (action 1); 4 times its length is enough."""

    def __init__(self, length):
        self.length = length
        self.spec = environments.EnvironmentSpec(
            "my/corridor", (length,), environments.Discrete(2), max_episode_steps=4 * length
        )

    def reset(self, key):
        """Key -> (state, observation); the state is the place and the log of the episode."""
        del key  # every episode begins at the left
        return (jnp.int32(0), episodes.new_log()), self._observe(jnp.int32(0))

    def step(self, key, state, action):
        """One step, and the next episode's start where this one ended."""
        place, log = state
        place = jnp.clip(place + 2 * action - 1, 0, self.length - 1)
        (_, _), first = self.reset(key)
        at_end = place == self.length - 1
        place, log, timestep = episodes.finish_step(
            log,
            reached=episodes.Moment(place, self._observe(place)),
            restart=episodes.Moment(jnp.int32(0), first),
            reward=at_end,
            terminated=at_end,
            out_of_time=log.running_length + 1 >= self.spec.max_episode_steps,
        )
        return (place, log), timestep

    def _observe(self, place):
        return jax.nn.one_hot(place, self.length)


def make(name, *, length=4):
    """``my/corridor`` is the only one, so the name says nothing."""
    del name
    if length < 2:
        raise ValueError(f"a corridor's length must be at least 2, got {length}")
    return Corridor(length)


environments.register_suite("my", make, lambda: ["corridor"])
