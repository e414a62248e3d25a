"""Tasks: an environment, an agent and a horizon; what fitness is measured on."""

import dataclasses
from typing import Any, NamedTuple

from agents import ActorCriticAgent, AgentConfig, environments, make_agent
from learned_opt.registry import did_you_mean


class Task(NamedTuple):
    """One inner loop to train on.

    Attributes:
      name: for results.
      agent_name: ``ppo`` or ``a2c``.
      agent: the inner loop.
      normalizer: fitness is divided by this; in multi-task training the return that Adam
        reaches, which brings tasks to one scale.
    """

    name: str
    agent_name: str
    agent: ActorCriticAgent
    normalizer: float

    @property
    def env_steps(self) -> int:
        """Environment steps of one inner loop."""
        return self.agent.num_iterations * self.agent.steps_per_iteration

    @property
    def inner_updates(self) -> int:
        """Optimizer updates of one inner loop."""
        return self.agent.num_iterations * self.agent.config.updates_per_iteration


def make_agent_config(block: dict[str, Any], total_timesteps: int) -> AgentConfig:
    """An ``AgentConfig`` from a config's agent block.

    The block holds ``name`` and what PPO and A2C share, and under ``ppo`` and ``a2c`` what
    each has of its own; changing ``name`` swaps the algorithm with its own counts.

    Raises:
      ValueError: unknown algorithm or field.
    """
    common = {k: v for k, v in block.items() if k not in ("name", "ppo", "a2c")}
    name = block["name"]
    if name not in ("ppo", "a2c"):
        raise ValueError(
            f"unknown agent {name!r}{did_you_mean(name, ['a2c', 'ppo'])}; known: a2c, ppo"
        )
    values = {**common, **block.get(name, {}), "algorithm": name}
    known = list(AgentConfig.__dataclass_fields__)
    for key in values:
        if key not in known:
            raise ValueError(f"an agent has no field {key!r}{did_you_mean(key, known)}")
    return AgentConfig(**values, total_timesteps=int(total_timesteps))


def make_task(name: str, block: dict[str, Any]) -> Task:
    """A task from its config block.

    The block holds ``env``, ``env_options``, ``total_timesteps``, ``normalizer`` and ``agent``.

    Raises:
      ValueError: anything in it is unknown or does not fit; names the task.
    """
    try:
        config = make_agent_config(block["agent"], block["total_timesteps"])
        env = environments.make(block["env"], **block.get("env_options", {}))
        if block["normalizer"] <= 0:
            raise ValueError(f"normalizer must be above 0, got {block['normalizer']}")
    except ValueError as error:
        raise ValueError(f"task {name!r}: {error}") from error
    agent = make_agent(config, env)
    return Task(name, config.algorithm, agent, float(block["normalizer"]))


def with_lifetime(agent: ActorCriticAgent, num_envs: int, num_iterations: int) -> ActorCriticAgent:
    """The same agent with another number of parallel environments and another horizon.

    Args:
      agent: the inner loop.
      num_envs: B, or 0 for the agent's own.
      num_iterations: of its life.
    """
    envs = num_envs or agent.config.num_envs
    steps = envs * agent.config.num_steps
    config = dataclasses.replace(
        agent.config, num_envs=envs, total_timesteps=steps * num_iterations
    )
    return make_agent(config, agent.env)
