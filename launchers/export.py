"""Exports an agent's experience as an RLDS dataset, for tensorflow-datasets to read.

python launchers/export.py --optimizer=adam --task=breakout --total_timesteps=1e6
    --num_steps=1e5 --out=runs/breakout_experience
"""

from absl import app, flags

from launchers import command_line

OPTIMIZER = flags.DEFINE_string(
    "optimizer",
    "adam",
    "That trains the agent: a handcrafted optimizer (adam: the paper's values for the task), a "
    "preset file, an optimizer file or published weights.",
)
TASK = flags.DEFINE_string("task", None, "An environment, e.g. breakout.")
OUT = flags.DEFINE_string("out", None, "The dataset's folder; must not exist.")
NUM_STEPS = flags.DEFINE_string("num_steps", "1e5", "Environment steps that are recorded.")
TOTAL_TIMESTEPS = flags.DEFINE_string(
    "total_timesteps", "", "Environment steps of the training, e.g. 1e6; empty: the paper's."
)
WHEN = flags.DEFINE_string(
    "when",
    "after",
    "after: what the trained agent does in fresh environments; during: what it learns from, from "
    "its first step on.",
)
SEED = flags.DEFINE_integer("seed", 0, "Of all randomness.")
NUM_ENVS = flags.DEFINE_integer(
    "num_envs", 0, "Environments that are recorded after training; 0: as many as it trains in."
)
FILE_FORMAT = flags.DEFINE_string(
    "file_format",
    "array_record",
    "array_record: for as_data_source(), without TensorFlow; tfrecord: for as_dataset(), with it.",
)
AGENT = flags.DEFINE_string("agent", "ppo", "ppo or a2c, with the paper's settings for the task.")
AGENT_OPTION = flags.DEFINE_multi_string(
    "agent_option", [], "Repeatable: a setting of the agent, e.g. num_envs=16."
)
ENV_OPTION = flags.DEFINE_multi_string(
    "env_option", [], "Repeatable: an argument of the environment, e.g. size=8."
)
command_line.define_flags()


def main(argv: list[str]) -> None:
    command_line.refuse_arguments(argv)
    command_line.start()
    command_line.export(
        OPTIMIZER.value,
        str(TASK.value),
        str(OUT.value),
        num_steps=NUM_STEPS.value,
        total_timesteps=TOTAL_TIMESTEPS.value,
        when=WHEN.value,
        seed=SEED.value,
        num_envs=NUM_ENVS.value,
        file_format=FILE_FORMAT.value,
        agent=AGENT.value,
        agent_options=AGENT_OPTION.value,
        env_options=ENV_OPTION.value,
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["task", "out"])
    command_line.run(app.run, main)
