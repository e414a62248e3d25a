"""Trains the variants of an experiment at one budget and compares them.

python launchers/compare.py --config=configs/compare_es_meta_gradient.py --workdir=runs/compare
"""

from absl import app, flags
from ml_collections import config_flags

from launchers import command_line

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The study, e.g. configs/compare_es_meta_gradient.py (or ...py:smoke)."
)
WORKDIR = flags.DEFINE_string("workdir", None, "The study's folder; one begun there goes on.")
command_line.define_flags()


def main(argv: list[str]) -> None:
    command_line.refuse_arguments(argv)
    command_line.start()
    command_line.compare(CONFIG.value, str(WORKDIR.value))


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    command_line.run(app.run, main)
