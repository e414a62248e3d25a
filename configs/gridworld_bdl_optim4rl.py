"""Optim4RL meta-trained on the gridworld big_dense_long: 512 agents, an environment each.

Settings: arXiv 2302.01470 and its release (reset intervals tried there: 72, 144, 288, 576; outer
learning rates 1e-5 to 1e-3).

    python launchers/train.py --config=configs/gridworld_bdl_optim4rl.py --workdir=runs/bdl
"""

from ml_collections import ConfigDict

from configs import optim4rl_blocks


def get_config(mode: str = "full") -> ConfigDict:
    task = optim4rl_blocks.gridworld_task("big_dense_long")
    return optim4rl_blocks.gridworlds({"bdl": task}, 0.003, num_meta_steps=600, mode=mode)
