"""How much memory inner loops take, and how many fit at once."""

import math
import os
from collections.abc import Sequence

import jax

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


def tree_bytes(tree: object) -> int:
    """The bytes of a tree of arrays or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def rollout_bytes(agent: Agent, state: TrainState) -> int:
    """The bytes of one iteration's data, of an agent with this state (or its shapes)."""
    per_env = math.prod(state.observation.shape) // state.observation.shape[0]
    # Observation, action, log-probability, value, advantage, reward and the ends of steps.
    return agent.steps_per_iteration * (per_env + 8) * 4


def member_cost(optimizer: LearnedOptimizer, agent: Agent) -> int:
    """The bytes that one member takes, from shapes alone: nothing is compiled or run."""

    def start(key: jax.Array) -> TrainState:
        return agent.init(key, optimizer.transform(optimizer.init(key)))

    state = jax.eval_shape(start, jax.random.key(0))
    return int(_TEMPORARIES * (tree_bytes(state) + rollout_bytes(agent, state)))


def device_memory(device: jax.Device) -> int:
    """Bytes that a device can give: its own limit, or the free memory of the host."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def budget(devices: Sequence[jax.Device]) -> float:
    """Bytes that inner loops may take on each of some devices."""
    total = _SHARE * device_memory(devices[0])
    # Simulated devices share the host's memory.
    return total / len(devices) if devices[0].platform == "cpu" else total


def share_of(population: int, devices: Sequence[jax.Device]) -> int:
    """Members of a population that each device would run at once if memory were no matter.

    On CPUs half of them, so that two devices share a small population; elsewhere as many as
    share it out evenly.
    """
    if devices[0].platform == "cpu":
        return max(1, population // 2)
    return math.ceil(population / len(devices))


def members_that_fit(
    optimizer: LearnedOptimizer, agent: Agent, wanted: int, devices: Sequence[jax.Device]
) -> int:
    """How many members each device should run at once: at most ``wanted``.

    On CPUs the number depends on the inner loop and ``wanted`` alone, so that any number of
    (simulated) devices gives the same result to the last bit.

    Raises:
      ValueError: not even one member fits; names both sizes.
    """
    cost, most = member_cost(optimizer, agent), budget(devices)
    if devices[0].platform == "cpu":
        wanted = max(1, min(wanted, _CPU_MEMBERS, _CPU_BYTES // cost))
    if cost > most:
        raise ValueError(
            f"one inner loop needs about {cost / 2**30:.1f} GiB, but only {most / 2**30:.1f} GiB "
            "may be used: reduce num_envs, num_steps or the network's widths"
        )
    return min(wanted, int(most // cost))
