"""Optim4RL meta-trained on Catch by meta-gradients, in minutes on two CPU cores.

64 A2C agents at all stages of their training. Compared at the end, over 8 held-out seeds: one
agent in 64 environments for 5e5 steps, with the result, with the untrained optimizer and with
Adam at the best of four learning rates; by the area under the return curve, said before looking.
Expected: returns above 0.95, and an area near 0.85 where the untrained optimizer has 0.4.

Settings: arXiv 2302.01470 and its release; the outer learning rate is the largest of its sweep,
as the smaller ones leave theta nearly where it began. One is other: there every environment is
an agent of its own (``outer.num_envs=1``), here each agent has 16. With one, most gradients are
0 and agents hardly learn before they are reset, and an optimizer trained on these learns sooner
than the untrained one (area 0.6), but ends hardly higher (0.94 to 0.97).

    python launchers/train.py --config=configs/catch_optim4rl.py --workdir=runs/catch_optim4rl
"""

from ml_collections import ConfigDict

from configs import blocks, optim4rl_blocks


def get_config(mode: str = "full") -> ConfigDict:
    agent = blocks.a2c_agent(num_envs=64, discount=0.995)
    agent.widths = (256,)
    task = blocks.task("catch", 5e5, agent)
    task.baselines = ConfigDict({"adam": {"learning_rate": 1e-3}})
    outer = blocks.meta_gradient(num_meta_steps=120)
    outer.num_envs = 16
    outer.reset_interval = 32
    outer.learning_rate = 1e-3
    outer.checkpoint_every = 20
    config = blocks.experiment({"catch": task}, outer=outer)
    config = optim4rl_blocks.optim4rl(config, 1e-3, None)
    config.evaluation.num_seeds = 8
    config.evaluation.criterion = "area"
    config.evaluation.learning_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    config.evaluation.tuning_seeds = 4
    return blocks.in_mode(config, mode)
