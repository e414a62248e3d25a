"""OPEN meta-trained on Brax Humanoid by evolution strategies.

Not in the paper: the settings are Ant's, with networks of width 256, which is what the
comparison project trains Humanoid with (its Adam with these ends at 6889). The baseline is
Adam at 3e-4.

    python launchers/train.py --config=configs/humanoid_open.py --workdir=runs/humanoid_open
"""

from ml_collections import ConfigDict

from configs import blocks


def get_config(mode: str = "full") -> ConfigDict:
    smoke = blocks.check_mode(mode)
    task = blocks.task("humanoid", 5e7, blocks.brax_agent())
    task.env_options = ConfigDict({"backend": "positional"})
    task.agent.widths = (256, 256)
    task.baselines = ConfigDict({"adam": {"learning_rate": 3e-4, "anneal": True}})
    config = blocks.experiment({"humanoid": task}, num_generations=700)
    config.outer.population_size = 32
    config.outer.sigma = 0.01
    config.outer.learning_rate = 0.01
    return blocks.shrink(config) if smoke else config
