"""Tasks: an environment or a dataset, an agent and a horizon; what fitness is measured on."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from agents import (
    ActorCriticAgent,
    AgentConfig,
    SupervisedAgent,
    SupervisedConfig,
    datasets,
    environments,
    make_agent,
    make_supervised,
    task_presets,
)
from learned_opt import settings
from learned_opt.names import did_you_mean

AnyAgent = ActorCriticAgent | SupervisedAgent
AnyConfig = AgentConfig | SupervisedConfig
_Agents = tuple[AnyAgent, AnyAgent | None]  # to train, and for final comparisons


class Task(NamedTuple):
    """One inner loop to train on.

    Attributes:
      name: for results.
      agent_name: ``ppo``, ``a2c`` or ``supervised``.
      agent: the inner loop.
      normalizer: fitness is divided by this; in multi-task training the return that Adam
        reaches, which brings tasks to one scale.
      final_agent: the inner loop as finished optimizers are compared on it, where that is
        another: supervised learning measured on test examples. None: ``agent`` itself.
    """

    name: str
    agent_name: str
    agent: AnyAgent
    normalizer: float
    final_agent: AnyAgent | None = None

    @property
    def env_steps(self) -> int:
        """Environment steps of one inner loop; training examples seen in supervised learning."""
        return self.agent.num_iterations * self.agent.steps_per_iteration

    @property
    def step_name(self) -> str:
        """What ``env_steps`` are, in words."""
        return "training examples" if self.agent_name == "supervised" else "environment steps"

    @property
    def inner_updates(self) -> int:
        """Optimizer updates of one inner loop."""
        return self.agent.num_iterations * self.agent.updates_per_iteration

    @property
    def actor_critic(self) -> ActorCriticAgent:
        """The agent, where there is an environment; ``ValueError`` for supervised learning."""
        if isinstance(self.agent, SupervisedAgent):
            raise ValueError(f"task {self.name!r} is supervised learning: nothing acts there")
        return self.agent

    @property
    def final(self) -> "Task":
        """The task as finished optimizers are compared on it.

        Meta-training, validation and the tuning of baselines use the task itself.
        """
        return self if self.final_agent is None else self._replace(agent=self.final_agent)


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """A task as configs write it.

    Attributes:
      env: an environment, or a dataset (``tfds/digits``) for the agent ``supervised``.
      total_timesteps: environment steps of one inner run; training examples of a dataset.
      agent: the block of the agent's settings, see ``make_agent_config``.
      env_options: keyword arguments of the environment; ``data_dir`` of a dataset.
      normalizer: fitness is divided by this, > 0.
      baselines: handcrafted optimizers to compare with: name -> options.
    """

    env: str
    total_timesteps: int
    agent: dict[str, Any]
    env_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    normalizer: float = 1.0
    baselines: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.normalizer <= 0:
            raise ValueError(f"normalizer must be above 0, got {self.normalizer}")


class _Kind(NamedTuple):
    """What an agent's name stands for.

    Attributes:
      config: its settings.
      make: (settings, env, env_options) -> (agent, agent for final comparisons or None).
    """

    config: type[AgentConfig] | type[SupervisedConfig]
    make: Callable[[Any, str, dict[str, Any]], _Agents]


def _actor_critic(config: AgentConfig, env: str, options: dict[str, Any]) -> _Agents:
    if task_presets.is_dataset(env):
        raise ValueError(
            f"{env!r} is a dataset, and {config.algorithm} needs an environment; give the agent "
            "'supervised'"
        )
    return make_agent(config, environments.make(env, **options)), None


def _supervised(config: SupervisedConfig, env: str, options: dict[str, Any]) -> _Agents:
    if not task_presets.is_dataset(env):
        raise ValueError(
            f"{env!r} is an environment, and the agent 'supervised' needs a dataset: give "
            f"{datasets.PREFIX}{datasets.OWN} or {datasets.PREFIX}NAME, or the agent 'ppo'"
        )
    unknown = [name for name in options if name != "data_dir"]
    if unknown:
        raise ValueError(
            f"a dataset has no option {unknown[0]!r}{did_you_mean(unknown[0], ['data_dir'])}; "
            "known: data_dir"
        )
    agent = make_supervised(config, datasets.load(env, options.get("data_dir", "")))
    return agent, agent.on_test()


AGENTS: dict[str, _Kind] = {
    "a2c": _Kind(AgentConfig, _actor_critic),
    "ppo": _Kind(AgentConfig, _actor_critic),
    "supervised": _Kind(SupervisedConfig, _supervised),
}


def make_agent_config(block: dict[str, Any], total_timesteps: int) -> AnyConfig:
    """An agent's settings from a config's agent block.

    The block holds ``name`` and what agents of its kind share, and under ``ppo`` and ``a2c``
    what each has of its own; changing ``name`` between these swaps the algorithm with its own
    counts.

    Raises:
      ValueError: unknown algorithm or field.
    """
    common = {k: v for k, v in block.items() if k != "name" and k not in AGENTS}
    name = settings.value(str, block.get("name"), "the agent's name")
    if name not in AGENTS:
        hint = did_you_mean(name, list(AGENTS))
        raise ValueError(f"unknown agent {name!r}{hint}; known: {', '.join(AGENTS)}")
    own = settings.value(dict, block.get(name, {}), f"agent.{name}")
    values = {**common, **own, "algorithm": name, "total_timesteps": total_timesteps}
    return settings.read(AGENTS[name].config, values, f"the agent {name!r}")


def make_task(name: str, block: dict[str, Any]) -> Task:
    """A task from its config block, whose fields are those of ``TaskSettings``.

    Raises:
      ValueError: anything in it is unknown or does not fit; names the task.
    """
    try:
        task = settings.read(TaskSettings, block, "a task")
        config = make_agent_config(task.agent, task.total_timesteps)
        options = dict(task.env_options)
        agent, final = AGENTS[config.algorithm].make(config, task.env, options)
    except ValueError as error:
        raise ValueError(f"task {name!r}: {error}") from error
    return Task(name, config.algorithm, agent, float(task.normalizer), final)


def with_lifetime(agent: AnyAgent, num_envs: int, num_iterations: int) -> AnyAgent:
    """The same agent with another number of parallel environments and another horizon.

    Args:
      agent: the inner loop.
      num_envs: B, or 0 for the agent's own; supervised learning has none and ignores it.
      num_iterations: of its life.
    """
    if isinstance(agent, SupervisedAgent):
        return agent.with_horizon(num_iterations)
    envs = num_envs or agent.config.num_envs
    steps = envs * agent.config.num_steps
    config = dataclasses.replace(
        agent.config, num_envs=envs, total_timesteps=steps * num_iterations
    )
    return make_agent(config, agent.env)
