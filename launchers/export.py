"""Exports an agent's experience as an RLDS dataset, for tensorflow-datasets to read.

python launchers/export.py --optimizer=adam --task=breakout --total_timesteps=1e6
    --num_steps=1e5 --out=runs/breakout_experience
"""

import meta
from launchers import command_line, values
from launchers.flag_groups import AGENT, ONE, Flag, define, shared

ARGUMENTS = define(
    *shared(
        *AGENT,
        optimizer={
            **ONE,
            "default": "adam",
            "help": "That trains the agent: a handcrafted optimizer (adam: the paper's values for "
            "the task), a preset file, an optimizer file or published weights.",
        },
        task={**ONE, "default": None, "help": "An environment, e.g. breakout."},
        total_timesteps={
            "help": "Environment steps of the training, e.g. 1e6; empty: the paper's."
        },
        env_option={"help": "Repeatable: an argument of the environment, e.g. size=8."},
    ),
    Flag("out", None, "The dataset's folder; must not exist."),
    Flag("num_steps", "1e5", "Environment steps that are recorded.", read=values.whole_number),
    Flag(
        "when",
        "after",
        "after: what the trained agent does in fresh environments; during: what it learns from, "
        "from its first step on.",
    ),
    Flag(
        "num_envs",
        0,
        "Environments that are recorded after training; 0: as many as it trains in.",
        values.define_whole_number,
    ),
    Flag(
        "file_format",
        "array_record",
        "array_record: for as_data_source(), without TensorFlow; tfrecord: for as_dataset(), with "
        "it.",
    ),
)


def main(words: list[str]) -> None:
    del words
    print(meta.export_experience(**ARGUMENTS()))


if __name__ == "__main__":
    command_line.run(main, "task", "out")
