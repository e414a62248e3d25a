"""Measures the inner loop with Adam and with OPEN, and one generation of ES, on Breakout.

python launchers/benchmark.py
"""

from absl import app, flags

from meta import command_line

REPEATS = flags.DEFINE_integer("repeats", 3, "Repeats, of which the median is shown.", 1)
ITERATIONS = flags.DEFINE_integer("iterations", 10, "Iterations of an inner loop per repeat.", 1)
MEMBERS = flags.DEFINE_integer("members", 8, "Members of the generation.", 1)
TIMESTEPS = flags.DEFINE_integer("timesteps", 49_152, "Environment steps of each member.", 8192)
command_line.define_flags()


def main(argv: list[str]) -> None:
    command_line.refuse_arguments(argv)
    command_line.start()
    command_line.benchmark(REPEATS.value, ITERATIONS.value, MEMBERS.value, TIMESTEPS.value)


if __name__ == "__main__":
    command_line.run(app.run, main)
