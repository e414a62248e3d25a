"""OPEN meta-trained on Brax Ant by meta-gradients with pipeline training.

Optimizer and inner loop as ``configs/ant_open.py``, outer loop as ``configs/ant_optim4rl.py``.
OPEN begins at random weights here: at its theta of zeros all meta-gradients but the last bias's
are zero.

    python launchers/train.py --config=configs/ant_open_meta_gradient.py --workdir=runs/ant_open_mg
"""

from ml_collections import ConfigDict

from configs import blocks


def get_config(mode: str = "full") -> ConfigDict:
    tasks = {"ant": blocks.task("ant", 5e7)}
    config = blocks.experiment(tasks, outer=blocks.brax_meta_gradient())
    config.optimizer.options.initial_theta = "random"
    return blocks.in_mode(config, mode)
