"""Compares optimizers on tasks, or adds what is missing to a comparison.

python launchers/evaluate.py --optimizer=adam --optimizer=optimizer.npz --task=breakout
    --num_seeds=8 --total_timesteps=2e5 --workdir=runs/compared
"""

from absl import flags

import meta
from launchers import command_line
from launchers.flag_groups import RUNS, Flag, define, shared

ARGUMENTS = define(
    *shared(*RUNS, "untrained", "reference", "like"),
    Flag(
        "tune_baselines",
        False,
        "First tune handcrafted optimizers where no tuned values are known: six learning rates "
        "with and without annealing, four seeds each; kept in tuning/ of the folder.",
        flags.DEFINE_boolean,
    ),
    Flag(
        "neutral_dormancy",
        False,
        "Run learned optimizers also with a dormancy of 1 everywhere, as in standalone use.",
        flags.DEFINE_boolean,
    ),
    Flag(
        "normalise_by",
        "",
        "The optimizer whose mean return is 1; empty: adam, if it is there. min_max: reference "
        "values instead, also where returns are negative.",
    ),
)


def main(words: list[str]) -> None:
    del words
    command_line.show(meta.evaluate(**ARGUMENTS()).attrs["workdir"])


if __name__ == "__main__":
    command_line.run(main, "workdir")
