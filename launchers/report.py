"""Writes one HTML page, which opens without a network, on one or several workdirs.

python launchers/report.py runs/demo runs/compared --out=report.html
"""

from absl import app, flags

from launchers import command_line

OUT = flags.DEFINE_string("out", "report.html", "The HTML file to write.")
NORMALISE_BY = flags.DEFINE_string(
    "normalise_by", "adam", "The optimizer whose mean final return is 1."
)
REFERENCE = flags.DEFINE_multi_string(
    "reference", [], "Repeatable: draw published values beside one's own: open, optim4rl."
)
RENDER = flags.DEFINE_boolean("render", True, "Train agents with the folders' optimizers and show.")
AGENT_TIMESTEPS = flags.DEFINE_string(
    "agent_timesteps", "2e5", "Environment steps to train such an agent, at most the folder's own."
)
AGENTS_PER_TASK = flags.DEFINE_integer(
    "agents_per_task", 2, "How many optimizers' agents to show of a folder on each task."
)
SEED = flags.DEFINE_integer("seed", 0, "Of these agents.")
command_line.define_flags()


def main(argv: list[str]) -> None:
    command_line.start()
    from meta.report import writer

    out = writer.write(
        writer.Request(
            tuple(argv[1:]),
            OUT.value,
            normalise_by=NORMALISE_BY.value,
            references=tuple(REFERENCE.value),
            render=RENDER.value,
            agent_timesteps=command_line.whole_number("agent_timesteps", AGENT_TIMESTEPS.value)
            or 200_000,
            agents_per_task=AGENTS_PER_TASK.value,
            seed=SEED.value,
        )
    )
    print(f"the report is {out}")


if __name__ == "__main__":
    command_line.run(app.run, main)
