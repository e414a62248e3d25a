"""Tunes a handcrafted optimizer on a task; leaves a preset file that evaluate takes.

python launchers/tune.py --optimizer=adam --task=breakout
    --learning_rate=1e-4,3e-4,1e-3,3e-3,1e-2,3e-2 --anneal=true,false
    --num_seeds=4 --total_timesteps=1e5 --workdir=runs/tuned
python launchers/tune.py --optimizer=adam --task=breakout --search=random --num_samples=40
    --learning_rate=1e-4..1e-1 --b1=0.9..0.999 --anneal=true,false --workdir=runs/drawn
"""

from absl import app, flags

from launchers import command_line

OPTIMIZER = flags.DEFINE_string(
    "optimizer",
    "adam",
    "A handcrafted optimizer; adam:breakout starts from the paper's values for Breakout.",
)
TASK = flags.DEFINE_string("task", "", "An environment, e.g. breakout.")
HYPERPARAMETERS = {
    name: flags.DEFINE_string(name, "", f"Values to try: {text}.")
    for name, text in {
        "learning_rate": "1e-4,1e-3, or in a random search 1e-4..1e-1",
        "anneal": "true,false: whether the learning rate goes linearly to 0",
        "b1": "of adam and lion, e.g. 0.9,0.99 or 0.9..0.999",
        "b2": "of adam and lion",
        "decay": "of rmsprop",
        "eps": "of adam and rmsprop",
        "weight_decay": "of lion",
    }.items()
}
SEARCH = flags.DEFINE_string("search", "grid", "grid: all combinations; random: draws.")
NUM_SAMPLES = flags.DEFINE_integer("num_samples", 32, "Draws of a random search.")
CRITERION = flags.DEFINE_string(
    "criterion", "final_return", "final_return, or area: the mean return over training."
)
AGENT = flags.DEFINE_string("agent", "ppo", "ppo or a2c, with the paper's settings for the task.")
NUM_SEEDS = flags.DEFINE_integer("num_seeds", 4, "Seeds per candidate.")
TOTAL_TIMESTEPS = flags.DEFINE_string(
    "total_timesteps", "", "Environment steps of each run, e.g. 1e5; empty: the paper's."
)
WORKDIR = flags.DEFINE_string("workdir", None, "The folder that keeps everything.")
SEED = flags.DEFINE_integer("seed", 0, "Of all randomness.")
POINTS = flags.DEFINE_integer("points", 20, "Logged points of each learning curve.")
CHUNK = flags.DEFINE_integer("chunk", 0, "Runs that a device does at once; 0: what fits.")
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
    command_line.tune(
        OPTIMIZER.value,
        TASK.value,
        str(WORKDIR.value),
        space={name: flag.value for name, flag in HYPERPARAMETERS.items() if flag.value},
        search=SEARCH.value,
        num_samples=NUM_SAMPLES.value,
        criterion=CRITERION.value,
        agent=AGENT.value,
        num_seeds=NUM_SEEDS.value,
        total_timesteps=TOTAL_TIMESTEPS.value,
        seed=SEED.value,
        points=POINTS.value,
        chunk=CHUNK.value,
        agent_options=AGENT_OPTION.value,
        env_options=ENV_OPTION.value,
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir"])
    command_line.run(app.run, main)
