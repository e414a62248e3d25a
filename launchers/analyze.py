"""What optimizers do during training: dormancy, direction, size and noise of their updates.

Or, with ``--what=gradients``, how gradients and updates are distributed over training, which
shows in one figure what supervised learning (``--task=digits``) and RL give an optimizer.

python launchers/analyze.py --optimizer=adam --optimizer=optimizer.npz --task=breakout
    --num_seeds=4 --total_timesteps=2e5 --workdir=runs/analyzed
python launchers/analyze.py --what=gradients --optimizer=adam --task=digits --task=breakout
    --total_timesteps=2e5 --workdir=runs/gradients
"""

from absl import app, flags

from launchers import command_line

WHAT = flags.DEFINE_enum(
    "what",
    "updates",
    ("updates", "gradients"),
    "updates: what they do to a network; gradients: how both are distributed, as one figure.",
)
OPTIMIZER = flags.DEFINE_multi_string(
    "optimizer",
    [],
    "Repeatable: a handcrafted optimizer (adam: the paper's values for each task; "
    "adam:breakout: those for Breakout), a preset file, an optimizer file or published weights; "
    "LABEL=... names it in the results.",
)
TASK = flags.DEFINE_multi_string(
    "task", [], "Repeatable: an environment, e.g. breakout; or a dataset: digits or tfds/NAME."
)
AGENT = flags.DEFINE_string(
    "agent", "ppo", "ppo or a2c, with the paper's settings; datasets are learned by supervised."
)
NUM_SEEDS = flags.DEFINE_integer("num_seeds", 4, "Seeds per optimizer and task.")
TOTAL_TIMESTEPS = flags.DEFINE_string(
    "total_timesteps", "", "Environment steps of each run, e.g. 2e5; empty: the paper's."
)
WORKDIR = flags.DEFINE_string("workdir", None, "The folder that keeps everything.")
UNTRAINED = flags.DEFINE_boolean("untrained", False, "Analyse untrained controls, too.")
TAU = flags.DEFINE_list(
    "tau", ["0", "0.025", "0.1"], "Of updates: scores up to which a neuron counts as dormant."
)
SEED = flags.DEFINE_integer("seed", 0, "Of all randomness.")
POINTS = flags.DEFINE_integer("points", 40, "Logged points of each curve.")
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
    command_line.analyze(
        OPTIMIZER.value,
        TASK.value,
        str(WORKDIR.value),
        what=WHAT.value,
        agent=AGENT.value,
        num_seeds=NUM_SEEDS.value,
        total_timesteps=TOTAL_TIMESTEPS.value,
        untrained=UNTRAINED.value,
        taus=TAU.value,
        seed=SEED.value,
        points=POINTS.value,
        chunk=CHUNK.value,
        agent_options=AGENT_OPTION.value,
        env_options=ENV_OPTION.value,
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir"])
    command_line.run(app.run, main)
