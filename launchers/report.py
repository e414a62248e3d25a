"""Writes one HTML page, which opens without a network, on one or several workdirs.

python launchers/report.py runs/demo runs/compared --out=report.html
"""

from absl import flags

import meta
from launchers import command_line, values
from launchers.flag_groups import Flag, define, shared

ARGUMENTS = define(
    *shared("reference", "seed", seed={"help": "Of these agents."}),
    Flag("out", "report.html", "The HTML file to write."),
    Flag("normalise_by", "adam", "The optimizer whose mean final return is 1."),
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
    print(f"the report is {meta.write_report(words, **ARGUMENTS())}")


if __name__ == "__main__":
    command_line.run(main, words=True)
