"""OPEN meta-trained on supervised learning in minutes on two CPU cores: handwritten digits.

The task: a network of two layers of 16 sees 5,120 examples of scikit-learn's digits, 4.4 for
each of the 1,154 that there are to learn from, in 160 minibatches of 32. The learned optimizer
starts from theta = 0, which changes nothing in a network, and is trained by OPEN's evolution
strategy for the accuracy on 288 validation examples in the end.

What is compared, said before looking: the final accuracy's IQM on 355 test examples, which
neither training nor tuning saw, over 32 seeds, against the untrained optimizer and against
Adam, annealed, with the best of six learning rates by the validation accuracy on seeds of
their own. Expected: the untrained one near 0.1, tuned Adam near 0.94, the learned one near it.
In its tables an environment step is a training example, and the return is the accuracy.

    python launchers/train.py --config=configs/digits_open.py --workdir=runs/digits_open
"""

from ml_collections import ConfigDict

from configs import blocks


def digits_task() -> ConfigDict:
    task = blocks.task("tfds/digits", 5_120)
    task.agent.batch_size = 32
    task.agent.widths = (16, 16)
    task.baselines = ConfigDict({"adam": {"anneal": True}})
    return task


def get_config(mode: str = "full") -> ConfigDict:
    config = blocks.experiment({"digits": digits_task()}, num_generations=120)
    blocks.search_short_runs(config)
    config.outer.validation_seeds = 16
    config.evaluation.points = 10
    return blocks.in_mode(config, mode)
