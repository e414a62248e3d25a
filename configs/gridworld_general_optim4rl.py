"""Optim4RL meta-trained on six gridworlds at once: the general optimizer of its paper.

The meta-gradient is the mean over the worlds; each has its own scale of rewards (arXiv
2302.01470 and its release).

    python launchers/train.py --config=configs/gridworld_general_optim4rl.py --workdir=runs/general
"""

from ml_collections import ConfigDict

from configs import optim4rl_blocks

REWARD_SCALES = {
    "small_dense_short": 1e2,
    "small_dense_long": 1e3,
    "big_sparse_short": 1e2,
    "big_sparse_long": 1e1,
    "big_dense_short": 1e1,
    "big_dense_long": 1.0,
}


def get_config(mode: str = "full") -> ConfigDict:
    tasks = {
        name: optim4rl_blocks.gridworld_task(name, scale) for name, scale in REWARD_SCALES.items()
    }
    return optim4rl_blocks.gridworlds(tasks, 3e-4, num_meta_steps=600, mode=mode)
