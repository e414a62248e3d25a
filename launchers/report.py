"""Writes one HTML page, which opens without a network, on one or several workdirs.

python launchers/report.py runs/demo runs/compared --out=report.html
"""

import sys
import warnings

from absl import flags

import meta
from launchers import command_line, values
from launchers.flag_groups import Flag, define, shared

ARGUMENTS = define(
    *shared("reference", "also_as", "seed", seed={"help": "Of these agents."}),
    Flag("out", "report.html", "The HTML file to write."),
    Flag("normalise_by", "adam", "The optimizer whose mean final return is 1; or min_max."),
    Flag(
        "render",
        True,
        "Train agents with the folders' optimizers and show.",
        flags.DEFINE_boolean,
    ),
    Flag(
        "agent_timesteps",
        "2e5",
        "Environment steps to train such an agent, at most the folder's own.",
        read=values.whole_number,
    ),
    Flag(
        "agents_per_task",
        2,
        "How many optimizers' agents to show of a folder on each task.",
        values.define_whole_number,
    ),
)


def main(words: list[str]) -> None:
    from meta.report.writer import Incomplete

    with warnings.catch_warnings(record=True) as told:
        path = meta.write_report(words, **ARGUMENTS())
    print(f"the report is {path}")
    for warning in told:
        print(f"warning: {warning.message}", file=sys.stderr)
    if any(issubclass(warning.category, Incomplete) for warning in told):
        sys.exit(1)


if __name__ == "__main__":
    command_line.run(main, words=True)
