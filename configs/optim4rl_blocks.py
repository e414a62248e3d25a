"""The parts that Optim4RL's experiments share: arXiv 2302.01470 and its release."""

from ml_collections import ConfigDict

from configs import blocks

# Networks of the paper by size of the gridworld: (convolutions, widths).
_SMALL = ((), (32,))
_BIG = (((16, 2),), (32,))


def optim4rl(config: ConfigDict, learning_rate: float, gradient_clip: float | None) -> ConfigDict:
    """Sets the optimizer to train: its constant learning rate and element-wise clipping."""
    config.optimizer.name = "optim4rl"
    config.optimizer.options = ConfigDict(
        {"learning_rate": learning_rate, "gradient_clip": gradient_clip}
    )
    return config


def gridworld_task(name: str, reward_scale: float = 1.0) -> ConfigDict:
    """A gridworld with A2C: evaluated with one agent in 512 environments over 3e7 steps."""
    agent = blocks.a2c_agent(num_envs=512, discount=0.995)
    agent.convolutions, agent.widths = _SMALL if name.startswith("small") else _BIG
    agent.reward_scale = reward_scale
    task = blocks.task(f"gridworld/{name}", 3e7, agent)
    task.baselines = ConfigDict({"adam": {"learning_rate": 1e-3}})
    return task


def gridworlds(
    tasks: dict[str, ConfigDict], learning_rate: float, num_meta_steps: int, mode: str
) -> ConfigDict:
    """Optim4RL on gridworlds: in meta-training every environment is an agent of its own."""
    outer = blocks.meta_gradient(num_meta_steps)
    outer.num_agents = 512
    outer.num_envs = 1
    outer.reset_interval = 72
    config = optim4rl(blocks.experiment(tasks, outer=outer), learning_rate, None)
    return blocks.in_mode(config, mode)


def brax(env: str, entropy_coefficient: float, reward_scale: float, mode: str) -> ConfigDict:
    """Optim4RL on a Brax environment, spring backend, with the paper's PPO."""
    agent = blocks.brax_optim4rl_agent(entropy_coefficient, reward_scale)
    task = blocks.task(f"brax/{env}", 1e8, agent)
    task.env_options = ConfigDict({"backend": "spring"})
    task.baselines = ConfigDict({"adam": {"learning_rate": 3e-4}})
    config = blocks.experiment({env: task}, outer=blocks.brax_meta_gradient())
    optim4rl(config, 3e-4, 1.0)
    return blocks.in_mode(config, mode)
