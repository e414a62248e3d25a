"""A true meta-training in minutes on two CPU cores: OPEN learns to train Catch agents.

The task: a falling ball is to be caught (return 1) or is missed (-1); PPO with networks of two
layers of 16 has 10,240 environment steps to learn it in, which is short enough that the
optimizer matters. The learned optimizer starts from theta = 0, which changes nothing in an
agent, and is trained by OPEN's evolution strategy for the return at the end of training.

What is compared, said before looking: the final return's IQM over 32 seeds and keys that
training never saw, against the untrained optimizer and against Adam, annealed, with the best
of six learning rates by the same measure on seeds of their own. Expected: the untrained one
near -0.6, tuned Adam near 0.9, the learned one at least there.

    python launchers/train.py --config=configs/demo.py --workdir=runs/demo
"""

from ml_collections import ConfigDict

from configs import blocks


def get_config(mode: str = "full") -> ConfigDict:
    config = blocks.experiment({"catch": blocks.short_task("catch", 10_240)}, num_generations=90)
    blocks.search_short_runs(config)
    return blocks.in_mode(config, mode)
