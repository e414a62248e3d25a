"""OPEN meta-trained on Brax Humanoid by evolution strategies.

Not in the paper: the settings are Ant's, with networks of width 256, which is what the
comparison project trains Humanoid with (its Adam with these ends at 6889). The baseline is
Adam at 3e-4.

    python launchers/train.py --config=configs/humanoid_open.py --workdir=runs/humanoid_open
"""

from ml_collections import ConfigDict

from configs import blocks


def get_config(mode: str = "full") -> ConfigDict:
    task = blocks.task("humanoid", 5e7)
    task.baselines = ConfigDict({"adam": {"learning_rate": 3e-4, "anneal": True}})
    config = blocks.experiment({"humanoid": task}, outer=blocks.brax_evolution())
    return blocks.in_mode(config, mode)
