"""Trains an optimizer, or goes on where a run was stopped.

python launchers/train.py --config=configs/demo.py --workdir=runs/demo
"""

from absl import app, flags
from ml_collections import config_flags

from launchers import command_line

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment, e.g. configs/ant_open.py or configs/ant_open.py:smoke."
)
WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; a run begun there goes on.")
command_line.define_flags()


def main(argv: list[str]) -> None:
    command_line.refuse_arguments(argv)
    command_line.start()
    command_line.train(CONFIG.value, str(WORKDIR.value))


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    command_line.run(app.run, main)
