"""Optim4RL meta-trained on supervised learning by meta-gradients, in minutes on two CPU cores.

The task is that of ``digits_open.py``. 16 networks at all stages of their training; the outer
loss is their cross-entropy on validation examples after one iteration (16 updates). Compared at
the end as there: the final accuracy on test examples, over 32 seeds, with the untrained
optimizer, which already steps by its step size against the gradient's sign, and with Adam at the
best of six learning rates. Expected: the untrained one near 0.66, the learned one near 0.91,
tuned Adam near 0.95.

So short a horizon is greedy: after some hundred meta-steps the updates grow too large for the
rest of a training, so the theta that validates best is the result, and not the last one. Five
iterations (``inner_updates=5``, ``reset_interval=2``) keep it steady at five times the cost.

    python launchers/train.py --config=configs/digits_optim4rl.py --workdir=runs/digits_optim4rl
"""

from ml_collections import ConfigDict

from configs import blocks, digits_open, optim4rl_blocks


def get_config(mode: str = "full") -> ConfigDict:
    outer = blocks.meta_gradient(num_meta_steps=500)
    outer.num_agents = 16
    outer.inner_updates = 1
    outer.reset_interval = 10
    # At 1e-2 theta overshoots within 100 meta-steps and the networks die.
    outer.learning_rate = 3e-3
    outer.learning_rate_decay = 0.995
    outer.validate_every = 50
    outer.validation_seeds = 16
    config = blocks.experiment({"digits": digits_open.digits_task()}, outer=outer)
    config = optim4rl_blocks.optim4rl(config, 1e-3, None)
    blocks.evaluate_short_runs(config, points=10)
    return blocks.in_mode(config, mode)
