"""OPEN meta-trained on spaceinvaders by evolution strategies, as in the OPEN paper.

Settings: arXiv 2407.07082, tables 3 and 7: 64 members, 1e7 environment steps per inner run,
about 450 generations (the paper's result is of generation 144). Expected after all of it: a
final return of about 170 (figure 2, read off). That is 16 to 32 days of one GPU of 2020; try
``:smoke`` first, which takes minutes on two CPU cores and learns nothing.

    python launchers/train.py --config=configs/spaceinvaders_open.py --workdir=runs/invaders
"""

from ml_collections import ConfigDict

from configs import blocks


def get_config(mode: str = "full") -> ConfigDict:
    return blocks.minatar("spaceinvaders", num_generations=450, mode=mode)
