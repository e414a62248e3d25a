"""What optimizers do during training: dormancy, direction, size and noise of their updates.

Or, with ``--what=gradients``, how gradients and updates are distributed over training, which
shows in one figure what supervised learning (``--task=digits``) and RL give an optimizer.

python launchers/analyze.py --optimizer=adam --optimizer=optimizer.npz --task=breakout
    --num_seeds=4 --total_timesteps=2e5 --workdir=runs/analyzed
python launchers/analyze.py --what=gradients --optimizer=adam --task=digits --task=breakout
    --total_timesteps=2e5 --workdir=runs/gradients
"""

import functools

from absl import flags

import meta
from launchers import command_line, values
from launchers.flag_groups import RUNS, Flag, define, shared

ARGUMENTS = define(
    *shared(
        *RUNS,
        "untrained",
        "like",
        task={
            "help": "Repeatable: an environment, e.g. breakout; or a dataset: digits or tfds/NAME."
        },
        agent={
            "help": "ppo (if empty) or a2c, with the paper's settings; datasets are learned by "
            "supervised."
        },
        num_seeds={"default": 4},
        untrained={"default": False, "help": "Analyse untrained controls, too."},
        points={"help": "Logged points of each curve."},
    ),
    Flag(
        "what",
        "updates",
        "updates: what they do to a network; gradients: how both are distributed, as one figure.",
        functools.partial(flags.DEFINE_enum, enum_values=["updates", "gradients"]),
    ),
    Flag(
        "tau",
        ["0", "0.025", "0.1"],
        "Of updates: scores up to which a neuron counts as dormant.",
        flags.DEFINE_list,
        "taus",
        values.numbers,
    ),
)


def main(words: list[str]) -> None:
    del words
    command_line.show(meta.analyze(**ARGUMENTS()).attrs["workdir"])


if __name__ == "__main__":
    command_line.run(main, "workdir")
