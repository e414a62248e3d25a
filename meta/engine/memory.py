"""How much memory inner loops take, and how many fit at once."""

import math
import os
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from agents.base import Agent, TrainState
from learned_opt.base import LearnedOptimizer

# A member's temporaries (gradients, activations, the optimizer's inputs) are estimated as
# this many times its state and rollout. Measured between 1.5 and 3 on MinAtar and Ant.
_TEMPORARIES = 3.0
# The share of a device's memory that members may take.
_SHARE = 0.6
# On CPUs a wide vmap only helps until its arrays leave the cache; more members than this
# were never faster than two waves of fewer.
_CPU_MEMBERS = 8
_CPU_BYTES = 64 * 2**20


class MemberCost(NamedTuple):
    """Bytes that one member takes.

    Attributes:
      state: what is carried between iterations: parameters, optimizer, environments.
      rollout: one iteration's data.
    """

    state: int
    rollout: int

    @property
    def total(self) -> int:
        """With temporaries, estimated."""
        return int(_TEMPORARIES * (self.state + self.rollout))


def tree_bytes(tree: object) -> int:
    """The bytes of a tree of arrays or of their shapes."""
    return sum(_leaf_bytes(leaf) for leaf in jax.tree.leaves(tree))


def _leaf_bytes(leaf: jax.Array | jax.ShapeDtypeStruct) -> int:
    size = math.prod(leaf.shape)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return size * 8  # two words of Threefry
    return size * np.dtype(leaf.dtype).itemsize


def member_cost(optimizer: LearnedOptimizer, agent: Agent) -> MemberCost:
    """The memory of one member, from shapes alone: nothing is compiled or run."""

    def start(key: jax.Array) -> TrainState:
        return agent.init(key, optimizer.transform(optimizer.init(key)))

    state = jax.eval_shape(start, jax.random.key(0))
    per_env = math.prod(state.observation.shape) // state.observation.shape[0]
    # Observation, action, log-probability, value, advantage, reward and the ends of steps.
    rollout = agent.steps_per_iteration * (per_env + 8) * 4
    return MemberCost(tree_bytes(state), rollout)


def device_memory(device: jax.Device) -> int:
    """Bytes that a device can give: its own limit, or the free memory of the host."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def share_of(population: int, mesh: Mesh) -> int:
    """Members of a population that each device would run at once if memory were no matter.

    On CPUs half of them, so that two devices share a small population; elsewhere as many as
    share it out evenly.
    """
    if mesh.devices.flat[0].platform == "cpu":
        return max(1, population // 2)
    return math.ceil(population / mesh.devices.size)


def members_that_fit(optimizer: LearnedOptimizer, agent: Agent, wanted: int, mesh: Mesh) -> int:
    """How many members each device should run at once: at most ``wanted``.

    On CPUs the number depends on the inner loop and ``wanted`` alone, so that any number of
    (simulated) devices gives the same result to the last bit.

    Raises:
      ValueError: not even one member fits; names both sizes.
    """
    cost = member_cost(optimizer, agent).total
    device = mesh.devices.flat[0]
    budget = _SHARE * device_memory(device)
    on_cpu = device.platform == "cpu"
    if on_cpu:
        budget /= mesh.devices.size  # simulated devices share the host's memory
        wanted = max(1, min(wanted, _CPU_MEMBERS, _CPU_BYTES // cost))
    if cost > budget:
        raise ValueError(
            f"one inner loop needs about {cost / 2**30:.1f} GiB, but only "
            f"{budget / 2**30:.1f} GiB may be used: reduce num_envs, num_steps or the "
            "network's widths"
        )
    return min(wanted, int(budget // cost))
