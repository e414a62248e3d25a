"""Measures speed: inner loops and a generation of ES on Breakout, meta-gradients, or updates.

python launchers/benchmark.py
python launchers/benchmark.py --what=meta_gradient --case=catch
python launchers/benchmark.py --what=updates
"""

from absl import flags

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


def main(words: list[str]) -> None:
    del words
    from meta.benchmarks import inner_loops, meta_gradient, updates

    if WHAT.value == "meta_gradient":
        print(meta_gradient.report(CASE.value, REPEATS.value))
    elif WHAT.value == "updates":
        print(updates.report(REPEATS.value))
    else:
        print(inner_loops.report(REPEATS.value, ITERATIONS.value, MEMBERS.value, TIMESTEPS.value))


if __name__ == "__main__":
    command_line.run(main)
