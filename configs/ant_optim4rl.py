"""Optim4RL meta-trained on Brax Ant by meta-gradients with pipeline training.

Settings: arXiv 2302.01470 and its release (outer learning rate 1e-5 and reset interval 512 are
those of the published optimizer that reached 5591 on Ant, third_party/optim4rl). The release
has as many agents as devices; here there are 8 on any number of devices. ``:smoke`` takes
minutes on two CPU cores and learns nothing. Without pipeline training:
``--config.outer.pipeline=False``.

    python launchers/train.py --config=configs/ant_optim4rl.py --workdir=runs/ant_optim4rl
"""

from ml_collections import ConfigDict

from configs import optim4rl_blocks


def get_config(mode: str = "full") -> ConfigDict:
    return optim4rl_blocks.brax("ant", entropy_coefficient=1e-2, reward_scale=10.0, mode=mode)
