"""The parts that experiments share.

Every experiment is a ``ConfigDict`` with the same fields; ``experiment`` makes them, with
what each means. Any field can be overridden on the command line, for example
``--config.outer.population_size=32 --config.tasks.ant.agent.name=a2c``.
"""

from ml_collections import ConfigDict

from agents import task_presets

MODES = ("full", "smoke")

# What Adam reaches (final return), by which OPEN's authors divide fitness in multi-task
# training: OPEN release, see third_party/open_rl/reference.py.
ADAM_RETURNS = {
    "asterix": 15.0353,
    "freeway": 61.8369,
    "breakout": 50.0822,
    "spaceinvaders": 167.0913,
}


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


def supervised_agent() -> ConfigDict:
    """An inner loop: supervised learning of a dataset."""
    return ConfigDict(task_presets.supervised_agent())


def brax_agent() -> ConfigDict:
    """PPO on Brax as in the OPEN paper, table 3 (Ant)."""
    return ConfigDict(task_presets.brax_agent())


def task(env: str, total_timesteps: float, agent_block: ConfigDict | None = None) -> ConfigDict:
    """A task: an environment, an agent and a horizon.

    Adam with the paper's tuned values is the baseline where there are such values.
    """
    return ConfigDict(
        {
            "env": env,  # a name that agents.environments.make takes, or tfds/DATASET
            "env_options": ConfigDict(),  # its keyword arguments; data_dir of a dataset
            "total_timesteps": int(total_timesteps),  # of one inner run; examples of a dataset
            "normalizer": 1.0,  # fitness is return / normalizer
            "agent": agent_block or agent(),
            "baselines": ConfigDict(
                {"adam": ConfigDict({"preset": env.rsplit("/", maxsplit=1)[-1]})}
            ),
        }
    )


def evolution(num_generations: int) -> ConfigDict:
    """The outer loop by ES: OPEN paper, table 7, MinAtar."""
    return ConfigDict(
        {
            "name": "es",
            "num_generations": num_generations,
            "strategy": "Open_ES",  # any evosax strategy
            "population_size": 64,
            "sigma": 0.03,
            "sigma_decay": 0.999,
            "learning_rate": 0.03,
            "learning_rate_decay": 0.999,
            "adam_b1": 0.99,
            "adam_b2": 0.999,
            "fitness_shaping": "centered_rank",  # or pairwise, standardize, none
            "num_rollouts": 1,  # inner runs per member, averaged
            "keys_per": "generation",  # or pair, member: what shares its randomness
            "strategy_options": ConfigDict(),
            "checkpoint_every": 4,  # generations
            "validate_every": 24,  # generations between validations of the mean theta
            "validation_seeds": 8,
        }
    )


def meta_gradient(num_meta_steps: int) -> ConfigDict:
    """The outer loop by truncated meta-gradients with pipeline training, as Optim4RL's."""
    return ConfigDict(
        {
            "name": "meta_gradient",
            "num_meta_steps": num_meta_steps,
            "num_agents": 64,
            "agents_per_device": 0,  # taken on at once; 0: automatic
            "inner_updates": 4,  # iterations of the agents per meta-step
            "pipeline": True,  # False: agents are never reset
            "reset_interval": 64,  # meta-steps of an agent's life
            "num_envs": 0,  # of each agent in meta-training; 0: as its task says
            "optimizer": "adam",  # any of optax
            "optimizer_options": ConfigDict(),
            "learning_rate": 1e-4,
            "learning_rate_decay": 1.0,
            "clip": "norm",  # or value, none
            "clip_size": 0.5,
            "regularization": 0.0,  # of the squared norm of inner updates
            "second_order": False,
            "remat": "update",  # recomputed in the backward pass: none, update, iteration
            "checkpoint_every": 50,  # meta-steps
            "validate_every": 0,  # 0: never, the last theta is the result
            "validation_seeds": 8,
        }
    )


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
    config = ConfigDict(
        {
            "seed": 0,
            "optimizer": {"name": optimizer, "options": ConfigDict()},  # learned_opt.make
            "initial_theta": "",  # an optimizer file to start from; empty: the family's own
            "members_per_device": 0,  # inner runs batched on a device; 0: automatic
            "tasks": ConfigDict(tasks),
            "outer": outer or evolution(num_generations),
            "evaluation": {
                "num_seeds": 16,  # held out
                "points": 40,  # of each return curve
                "criterion": "final_return",  # or area; what baselines are tuned by
                "learning_rates": (),  # of baselines, to tune over; empty: as the task says
                "tuning_seeds": 8,
            },
            "logging": {"tensorboard": True, "wandb_project": ""},
        }
    )
    return config


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
    config.evaluation.num_seeds = 32
    config.evaluation.points = 20
    config.evaluation.criterion = "final_return"
    config.evaluation.learning_rates = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1)
    config.evaluation.tuning_seeds = 16


def shrink(config: ConfigDict) -> ConfigDict:
    """Makes an experiment small enough for minutes on two CPU cores.

    The same code paths and environments, far too little training to learn anything.
    """
    if config.outer.name == "es":
        config.outer.num_generations = 3
        config.outer.population_size = 4
        config.outer.validate_every = 2
    else:
        config.outer.num_meta_steps = 4
        config.outer.num_agents = 4
        config.outer.inner_updates = 2
        config.outer.reset_interval = 2
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
    smoke = check_mode(mode)
    config = experiment({name: task(name, 1e7)}, num_generations)
    return shrink(config) if smoke else config
