"""A true meta-training in minutes on two CPU cores: OPEN learns to train CartPole agents.

python launchers/train.py --config=configs/demo.py --workdir=runs/demo
"""

from ml_collections import ConfigDict

from configs import blocks


def get_config(mode: str = "full") -> ConfigDict:
    smoke = blocks.check_mode(mode)
    task = blocks.task("cartpole", 32_768)
    task.agent.num_envs = 16
    task.agent.num_steps = 32
    task.agent.widths = (16, 16)
    task.agent.ppo.num_minibatches = 4
    task.agent.ppo.num_epochs = 2
    task.baselines = ConfigDict({"adam": {"anneal": True}})
    config = blocks.experiment({"cartpole": task}, num_generations=40)
    # Short runs need larger steps than the paper's multipliers of 0.001 give.
    config.optimizer.options.direction_multiplier = 0.01
    config.optimizer.options.noise_multiplier = 0.01
    config.outer.population_size = 32
    config.outer.sigma = 0.1
    config.outer.learning_rate = 0.05
    config.outer.validate_every = 10
    config.evaluation.num_seeds = 32
    config.evaluation.learning_rates = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
    return blocks.shrink(config) if smoke else config
