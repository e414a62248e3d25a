"""Optim4RL meta-trained on MinAtar Breakout by evolution strategies, as the OPEN paper does it.

The same outer loop and budget as ``configs/breakout_open.py``, with Optim4RL's networks.

    python launchers/train.py --config=configs/breakout_optim4rl_es.py --workdir=runs/breakout_o4
"""

from ml_collections import ConfigDict

from configs import blocks, optim4rl_blocks


def get_config(mode: str = "full") -> ConfigDict:
    config = blocks.minatar("breakout", num_generations=500, mode=mode)
    return optim4rl_blocks.optim4rl(config, 3e-4, None)
