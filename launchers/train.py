"""Trains an optimizer, or goes on where a run was stopped.

python launchers/train.py --config=configs/demo.py --workdir=runs/demo
"""

from absl import flags

import meta
from launchers import command_line, values
from launchers.flag_groups import define, shared

CONFIG = values.define_config("The experiment: a name (ant_open, ant_open:smoke) or a file.")
WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; a run begun there goes on.")
ARGUMENTS = define(*shared("also_as"))


def main(words: list[str]) -> None:
    del words
    meta.train(CONFIG.value, WORKDIR.value, **ARGUMENTS())
    command_line.show(WORKDIR.value)


if __name__ == "__main__":
    command_line.run(main, "config", "workdir")
