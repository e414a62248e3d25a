"""OPEN's large network meta-trained on four MinAtar games at once, as in the OPEN paper.

Settings: arXiv 2407.07082, tables 2, 3 and 7. A member's fitness is the mean over games of
its return divided by Adam's. Expected: an Adam-normalised score of about 1.2 (figure 3,
mean, read off). About 60 days of one GPU of 2020.

    python launchers/train.py --config=configs/multi_open.py --workdir=runs/multi_open
"""

from ml_collections import ConfigDict

from configs import blocks
from third_party.open_rl.reference import ADAM_RETURNS


def get_config(mode: str = "full") -> ConfigDict:
    games = ("asterix", "freeway", "breakout", "spaceinvaders")
    tasks = {name: blocks.task(name, 1e7) for name in games}
    for name, task in tasks.items():
        task.normalizer = ADAM_RETURNS[name]  # by which OPEN's authors divide fitness
    config = blocks.experiment(tasks, num_generations=300, optimizer="open_large")
    config.outer.sigma_decay = 0.998
    config.outer.learning_rate_decay = 0.998
    config.outer.validate_every = 9
    return blocks.in_mode(config, mode)
