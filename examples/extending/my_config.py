"""An experiment of one's own, which may lie anywhere: my_optimizer trained on my/corridor.

python launchers/train.py --import=my_optimizer.py --import=my_environment.py
    --import=my_baseline.py --config=my_config.py --workdir=runs/mine
"""

from ml_collections import ConfigDict

from lopt_rl.configs import blocks


def get_config(mode: str = "full") -> ConfigDict:
    smoke = blocks.check_mode(mode)
    task = blocks.task("my/corridor", total_timesteps=2_048)
    task.env_options = ConfigDict({"length": 4})
    task.agent.num_envs = 8
    task.agent.num_steps = 16
    task.agent.widths = (16,)
    task.agent.ppo.num_minibatches = 2
    task.agent.ppo.num_epochs = 2
    task.baselines = ConfigDict({"adabelief": {"learning_rate": 0.01}})
    config = blocks.experiment({"corridor": task}, num_generations=20, optimizer="my_optimizer")
    config.outer.population_size = 16
    config.outer.sigma = 0.3
    config.outer.learning_rate = 0.1
    return blocks.shrink(config) if smoke else config
