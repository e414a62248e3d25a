"""Optim4RL meta-trained on the gridworld small_dense_long: 512 agents, an environment each.

Settings as ``configs/gridworld_bdl_optim4rl.py``, with this world's learning rate.

    python launchers/train.py --config=configs/gridworld_sdl_optim4rl.py --workdir=runs/sdl
"""

from ml_collections import ConfigDict

from configs import optim4rl_blocks


def get_config(mode: str = "full") -> ConfigDict:
    task = optim4rl_blocks.gridworld_task("small_dense_long")
    return optim4rl_blocks.gridworlds({"sdl": task}, 0.03, num_meta_steps=600, mode=mode)
