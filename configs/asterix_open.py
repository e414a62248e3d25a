"""OPEN meta-trained on asterix by evolution strategies, as in the OPEN paper.

Settings: arXiv 2407.07082, tables 3 and 7: 64 members, 1e7 environment steps per inner run,
about 350 generations (the paper's result is of generation 336). Expected after all of it: a
final return of about 37 (figure 2, read off). That is 16 to 32 days of one GPU of 2020; try
``:smoke`` first, which takes minutes on two CPU cores and learns nothing.

    python launchers/train.py --config=configs/asterix_open.py --workdir=runs/asterix_open
"""

from ml_collections import ConfigDict

from configs import blocks


def get_config(mode: str = "full") -> ConfigDict:
    return blocks.minatar("asterix", num_generations=350, mode=mode)
