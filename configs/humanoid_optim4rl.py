"""Optim4RL meta-trained on Brax Humanoid by meta-gradients with pipeline training.

Settings as ``configs/ant_optim4rl.py``, with Humanoid's entropy and reward scale (arXiv
2302.01470). A published optimizer reached 7274, RMSprop 8352 (third_party/optim4rl).

    python launchers/train.py --config=configs/humanoid_optim4rl.py --workdir=runs/humanoid
"""

from ml_collections import ConfigDict

from configs import optim4rl_blocks


def get_config(mode: str = "full") -> ConfigDict:
    return optim4rl_blocks.brax("humanoid", entropy_coefficient=1e-3, reward_scale=0.1, mode=mode)
