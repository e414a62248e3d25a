"""OPEN meta-trained on Brax Ant by evolution strategies, as in the OPEN paper.

Settings: arXiv 2407.07082, tables 3 and 7: 32 members, 5e7 environment steps per inner run,
about 700 generations (the paper's result is of generation 168), Brax' positional backend.
Expected after all of it: a final return of about 6600, Adam's being 6517 (figure 2, read
off). ``:smoke`` takes minutes on two CPU cores and learns nothing.

    python launchers/train.py --config=configs/ant_open.py --workdir=runs/ant_open
"""

from ml_collections import ConfigDict

from configs import blocks


def get_config(mode: str = "full") -> ConfigDict:
    tasks = {"ant": blocks.task("ant", 5e7)}
    config = blocks.experiment(tasks, outer=blocks.brax_evolution())
    return blocks.in_mode(config, mode)
