"""OPEN for CartPole, to be taken elsewhere: it sees only what any training loop gives it.

Other codes tell an optimizer nothing of dormant neurons, and often give actor and critic an
optimizer each. So this one has neither dormancy as an input nor a mean over both networks
taken out of its updates (``features``, ``zero_mean``): what it is here it is there. PPO with
two layers of 16, 40,960 environment steps. examples/ holds the optimizer that this run leaves,
at work in other codes.

    python launchers/train.py --config=configs/cartpole_open.py --workdir=runs/cartpole_open
"""

from ml_collections import ConfigDict

from configs import blocks


def get_config(mode: str = "full") -> ConfigDict:
    task = blocks.short_task("gymnax/CartPole-v1", 40_960)
    task.agent.activation = "tanh"
    config = blocks.experiment({"cartpole": task}, num_generations=120)
    config.optimizer.options.features = (
        "parameter",
        "momentum",
        "gradient",
        "training_proportion",
        "layer_proportion",
        "batch_proportion",
    )
    config.optimizer.options.zero_mean = False
    blocks.search_short_runs(config)
    return blocks.in_mode(config, mode)
