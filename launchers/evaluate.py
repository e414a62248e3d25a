"""Compares optimizers on tasks, or adds what is missing to a comparison.

python launchers/evaluate.py --optimizer=adam --optimizer=optimizer.npz --task=breakout
    --num_seeds=8 --total_timesteps=2e5 --workdir=runs/compared
"""

from absl import app, flags

from launchers import command_line

OPTIMIZER = flags.DEFINE_multi_string(
    "optimizer",
    [],
    "Repeatable: a handcrafted optimizer (adam: the paper's values for each task; "
    "adam:breakout: those for Breakout), a preset file, an optimizer file or published weights; "
    "LABEL=... names it in the results.",
)
TASK = flags.DEFINE_multi_string("task", [], "Repeatable: an environment, e.g. breakout.")
AGENT = flags.DEFINE_string("agent", "ppo", "ppo or a2c, with the paper's settings for the task.")
NUM_SEEDS = flags.DEFINE_integer("num_seeds", 8, "Seeds per optimizer and task.")
TOTAL_TIMESTEPS = flags.DEFINE_string(
    "total_timesteps", "", "Environment steps of each run, e.g. 2e5; empty: the paper's."
)
WORKDIR = flags.DEFINE_string("workdir", None, "The folder that keeps everything.")
UNTRAINED = flags.DEFINE_boolean("untrained", True, "Run untrained controls of learned optimizers.")
NEUTRAL_DORMANCY = flags.DEFINE_boolean(
    "neutral_dormancy",
    False,
    "Run learned optimizers also with a dormancy of 1 everywhere, as in standalone use.",
)
NORMALISE_BY = flags.DEFINE_string(
    "normalise_by", "", "The optimizer whose mean return is 1; empty: adam, if it is there."
)
REFERENCE = flags.DEFINE_multi_string(
    "reference", [], "Repeatable: draw published values beside one's own: open, optim4rl."
)
SEED = flags.DEFINE_integer("seed", 0, "Of all randomness.")
POINTS = flags.DEFINE_integer("points", 40, "Logged points of each learning curve.")
CHUNK = flags.DEFINE_integer("chunk", 0, "Seeds that a device runs at once; 0: what fits.")
AGENT_OPTION = flags.DEFINE_multi_string(
    "agent_option", [], "Repeatable: a setting of the agent, e.g. num_envs=16."
)
ENV_OPTION = flags.DEFINE_multi_string(
    "env_option", [], "Repeatable: an argument of the environments, e.g. size=8."
)
command_line.define_flags()


def main(argv: list[str]) -> None:
    command_line.refuse_arguments(argv)
    command_line.start()
    command_line.evaluate(
        OPTIMIZER.value,
        TASK.value,
        str(WORKDIR.value),
        agent=AGENT.value,
        num_seeds=NUM_SEEDS.value,
        total_timesteps=TOTAL_TIMESTEPS.value,
        untrained=UNTRAINED.value,
        neutral_dormancy=NEUTRAL_DORMANCY.value,
        normalise_by=NORMALISE_BY.value,
        references=REFERENCE.value,
        seed=SEED.value,
        points=POINTS.value,
        chunk=CHUNK.value,
        agent_options=AGENT_OPTION.value,
        env_options=ENV_OPTION.value,
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir"])
    command_line.run(app.run, main)
