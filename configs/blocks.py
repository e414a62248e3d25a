"""The parts that experiments share.

Every experiment is a ``ConfigDict`` with the same fields; ``experiment`` makes them. What each
means, and its default, stands at the settings that it becomes: ``AgentConfig``,
``SupervisedConfig``, ``EvolutionConfig``, ``MetaGradientConfig``, ``Schedule``,
``EvaluationSettings``, ``LogSettings``. Any field can be overridden on the command line, for
example ``--config.outer.population_size=32 --config.tasks.ant.agent.name=a2c``.
"""

import dataclasses

from ml_collections import ConfigDict

from agents import task_presets
from learned_opt.handcrafted import PRESETS
from meta.runs.logs import LogSettings
from meta.training import outer_loop
from meta.training.experiment import EvaluationSettings

MODES = ("full", "smoke")


def check_mode(mode: str) -> bool:
    """Whether a config's mode (after the colon) is ``smoke``; ValueError if unknown."""
    if mode not in MODES:
        raise ValueError(
            f"unknown mode {mode!r} after the config's colon; known: {', '.join(MODES)}"
        )
    return mode == "smoke"


def agent() -> ConfigDict:
    """An inner loop: PPO on MinAtar as in the OPEN paper, table 3."""
    return ConfigDict(task_presets.minatar_agent())


def task(env: str, total_timesteps: float, agent_block: ConfigDict | None = None) -> ConfigDict:
    """A task: an environment, an agent and a horizon.

    The agent is the papers' for the environment, unless another is given (``task_presets``).
    Adam is the baseline: with the paper's tuned values where there are such, else with its
    defaults, over whose learning rate ``evaluation.learning_rates`` goes.
    """
    name = env.rsplit("/", maxsplit=1)[-1]
    preset = task_presets.task(env)
    tuned = {"preset": name} if name in PRESETS["adam"] else {}
    return ConfigDict(
        {
            "env": env,  # a name that agents.environments.make takes, or tfds/DATASET
            "env_options": preset["env_options"],  # its keyword arguments; data_dir of a dataset
            "total_timesteps": int(total_timesteps),  # of one inner run; examples of a dataset
            "normalizer": 1.0,  # fitness is return / normalizer
            "agent": agent_block or preset["agent"],
            "baselines": ConfigDict({"adam": ConfigDict(tuned)}),
        }
    )


def short_task(env: str, total_timesteps: int) -> ConfigDict:
    """A task of hundreds of updates: PPO with layers of 16, and Adam annealed as the baseline."""
    block = task(env, total_timesteps)
    block.agent.num_envs = 16
    block.agent.num_steps = 32
    block.agent.widths = (16, 16)
    block.agent.ppo.num_minibatches = 4
    block.agent.ppo.num_epochs = 2
    block.baselines = ConfigDict({"adam": {"anneal": True}})
    return block


def evolution(num_generations: int) -> ConfigDict:
    """The outer loop by ES: OPEN paper, table 7, MinAtar. Fields: ``EvolutionConfig``."""
    return ConfigDict(outer_loop.block("es", num_generations))


def brax_evolution() -> ConfigDict:
    """The outer loop by ES as the OPEN paper has it on Ant: table 7."""
    outer = evolution(num_generations=700)
    outer.population_size = 32
    outer.sigma = 0.01
    outer.learning_rate = 0.01
    return outer


def meta_gradient(num_meta_steps: int) -> ConfigDict:
    """Truncated meta-gradients with pipeline training, as Optim4RL's: ``MetaGradientConfig``."""
    return ConfigDict(outer_loop.block("meta_gradient", num_meta_steps))


def brax_meta_gradient() -> ConfigDict:
    """The outer loop by meta-gradients as the Optim4RL paper has it on Brax."""
    outer = meta_gradient(num_meta_steps=600)
    outer.num_agents = 8
    outer.reset_interval = 512
    outer.learning_rate = 1e-5
    outer.remat = "iteration"
    outer.checkpoint_every = 10
    return outer


def brax_optim4rl_agent(entropy_coefficient: float, reward_scale: float) -> ConfigDict:
    """PPO on Brax as the Optim4RL paper meta-trains with.

    Its 40,960 steps of data per iteration are four rollouts of 5 steps; here they are one of 20.
    """
    config = agent()
    config.num_envs = 2048
    config.num_steps = 20
    config.discount = 0.97
    config.entropy_coefficient = entropy_coefficient
    config.reward_scale = reward_scale
    config.max_grad_norm = 0.0
    config.widths = (32, 32, 32, 32)
    config.activation = "swish"
    config.critic_widths = (64, 64, 64, 64, 64)
    config.equal_hidden = False
    config.normalize_observations = True
    config.truncation = "bootstrap"
    config.ppo.clip_epsilon = 0.3
    return config


def a2c_agent(num_envs: int, discount: float) -> ConfigDict:
    """A2C as in the Optim4RL paper: rollouts of 20 steps, one update each."""
    config = agent()
    config.name = "a2c"
    config.num_envs = num_envs  # when it is evaluated; see outer.num_envs
    config.num_steps = 20
    config.discount = discount
    config.network = "shared"
    config.equal_hidden = False
    config.max_grad_norm = 0.0
    return config


def experiment(
    tasks: dict[str, ConfigDict],
    num_generations: int = 1,
    optimizer: str = "open",
    outer: ConfigDict | None = None,
) -> ConfigDict:
    """A whole experiment: by evolution, unless another outer loop is given."""
    return ConfigDict(
        {
            "seed": 0,
            "optimizer": {"name": optimizer, "options": ConfigDict()},  # learned_opt.make
            "initial_theta": "",  # an optimizer file to start from; empty: the family's own
            "members_per_device": 0,  # inner runs batched on a device; 0: automatic
            "tasks": ConfigDict(tasks),
            "outer": outer or evolution(num_generations),
            "evaluation": dataclasses.asdict(EvaluationSettings()),
            "logging": dataclasses.asdict(LogSettings()),
        }
    )


def search_short_runs(config: ConfigDict) -> None:
    """Evolution and evaluation of OPEN where an inner run has hundreds of updates.

    These need larger steps than the paper's multipliers of 0.001, which suit tens of thousands,
    and a wider search. Compared by the final return, with Adam at the best of six rates.
    """
    config.optimizer.options.direction_multiplier = 0.01
    config.optimizer.options.noise_multiplier = 0.01
    config.outer.population_size = 32
    config.outer.sigma = 0.1
    config.outer.sigma_decay = 0.99
    config.outer.learning_rate = 0.05
    config.outer.learning_rate_decay = 0.99
    config.outer.checkpoint_every = 5
    config.outer.validate_every = 10
    config.outer.validation_seeds = 32
    evaluate_short_runs(config, points=20)


def evaluate_short_runs(config: ConfigDict, points: int) -> None:
    """Held-out seeds enough for close results, and baselines at the best of six rates."""
    config.evaluation.num_seeds = 32
    config.evaluation.points = points
    config.evaluation.learning_rates = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1)
    config.evaluation.tuning_seeds = 16


def in_mode(config: ConfigDict, mode: str) -> ConfigDict:
    """The experiment as it is, or shrunk if the mode is ``smoke``; ValueError if unknown."""
    return shrink(config) if check_mode(mode) else config


def shrink(config: ConfigDict) -> ConfigDict:
    """Makes an experiment small enough for minutes on two CPU cores.

    The same code paths and environments, far too little training to learn anything.
    """
    config.mode = "smoke"  # which tables, plots and reports tell
    config.outer.update(outer_loop.get(config.outer.name).smoke)
    if "num_envs" in config.outer:
        config.outer.num_envs = min(config.outer.num_envs, 8)
    config.outer.checkpoint_every = 1
    config.outer.validation_seeds = 2
    config.evaluation.num_seeds = 2
    config.evaluation.points = 3
    config.evaluation.tuning_seeds = 2
    for block in config.tasks.values():
        if block.agent.name == "supervised":
            block.agent.batch_size, block.agent.num_minibatches = 16, 4
            block.agent.widths = (16, 16)
            block.total_timesteps = 4 * 16 * 4
            continue
        block.agent.num_envs = 8
        block.agent.num_steps = 16
        block.agent.widths = (16, 16)
        block.agent.ppo.num_minibatches = 4
        block.agent.ppo.num_epochs = 2
        block.total_timesteps = 4 * 8 * 16
    return config


def minatar(name: str, num_generations: int, mode: str) -> ConfigDict:
    """OPEN trained on one MinAtar game: tables 3 and 7."""
    return in_mode(experiment({name: task(name, 1e7)}, num_generations), mode)
