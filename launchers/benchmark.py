"""Measures speed: inner loops and a generation of ES on Breakout, meta-gradients, or updates.

python launchers/benchmark.py
python launchers/benchmark.py --what=meta_gradient --case=catch
python launchers/benchmark.py --what=updates
"""

from absl import app, flags

from launchers import command_line

WHAT = flags.DEFINE_enum(
    "what", "evolution", ["evolution", "meta_gradient", "updates"], "What to measure."
)
CASE = flags.DEFINE_enum(
    "case", "catch", ["catch", "big_dense_long"], "Of meta-gradients: 64 or 512 agents."
)
REPEATS = flags.DEFINE_integer("repeats", 3, "Repeats, of which the median is shown.", 1)
ITERATIONS = flags.DEFINE_integer("iterations", 10, "Iterations of an inner loop per repeat.", 1)
MEMBERS = flags.DEFINE_integer("members", 8, "Members of the generation.", 1)
TIMESTEPS = flags.DEFINE_integer("timesteps", 49_152, "Environment steps of each member.", 8192)
command_line.define_flags()


def main(argv: list[str]) -> None:
    command_line.refuse_arguments(argv)
    command_line.start()
    if WHAT.value == "meta_gradient":
        command_line.benchmark_meta_gradient(CASE.value, REPEATS.value)
        return
    if WHAT.value == "updates":
        command_line.benchmark_updates(REPEATS.value)
        return
    command_line.benchmark(REPEATS.value, ITERATIONS.value, MEMBERS.value, TIMESTEPS.value)


if __name__ == "__main__":
    command_line.run(app.run, main)
