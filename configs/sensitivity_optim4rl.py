"""How sensitive Optim4RL's meta-training is: outer learning rate x reset interval, on Catch.

Both ranges are those of arXiv 2302.01470's release, and so every environment is an agent. One
meta-training for each point of the grid, each in a folder of its own, at one budget of
environment steps; it goes on where it was stopped, and ends with a heat map of the final return
of agents trained with each result.

    python launchers/compare.py --config=configs/sensitivity_optim4rl.py --workdir=runs/sensitivity
"""

from ml_collections import ConfigDict

from configs import blocks, catch_optim4rl


def get_config(mode: str = "full") -> ConfigDict:
    smoke = blocks.check_mode(mode)
    rates = (1e-5, 1e-3) if smoke else (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
    intervals = (1, 2) if smoke else (32, 64, 128, 256, 512)
    base = catch_optim4rl.get_config(mode)
    base.outer.num_envs = 1
    return ConfigDict(
        {
            "base": base,
            "budget": 1_000 if smoke else 4_000_000,  # environment steps of each variant
            "validations": 1,
            "variants": ConfigDict(),
            # Lists of pairs, as the names of a ConfigDict cannot have dots.
            "grid": (("outer.learning_rate", rates), ("outer.reset_interval", intervals)),
        }
    )
