"""Trains the variants of an experiment at one budget and compares them.

python launchers/compare.py --config=configs/compare_es_meta_gradient.py --workdir=runs/compare
"""

from absl import flags

import meta
from launchers import command_line, values
from launchers.flag_groups import define, shared

CONFIG = values.define_config(
    "The study: a name (compare_es_meta_gradient, or ...:smoke) or a file."
)
WORKDIR = flags.DEFINE_string("workdir", None, "The study's folder; one begun there goes on.")
ARGUMENTS = define(*shared("also_as"))


def main(words: list[str]) -> None:
    del words
    meta.compare(CONFIG.value, WORKDIR.value, **ARGUMENTS())
    command_line.show(WORKDIR.value, "report.md")


if __name__ == "__main__":
    command_line.run(main, "config", "workdir")
