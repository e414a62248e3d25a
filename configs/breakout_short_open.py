"""OPEN meta-trained on Breakout cut to 2e5 steps, the setting of the paper's ablations.

Settings: arXiv 2407.07082, section 7 and appendix I: as on Breakout, but 2e5 environment
steps per inner run and 250 generations (about 60 minutes of a GPU). Expected: a final
return of about 12.5 (figure 5, read off; No Features about 10).

    python launchers/train.py --config=configs/breakout_short_open.py --workdir=runs/short
"""

from ml_collections import ConfigDict

from configs import blocks


def get_config(mode: str = "full") -> ConfigDict:
    config = blocks.experiment({"breakout": blocks.task("breakout", 2e5)}, num_generations=250)
    return blocks.in_mode(config, mode)
