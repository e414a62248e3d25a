"""Lists what can be named: environments, agents, optimizers, strategies, outer loops, configs.

Or says what an optimizer file or the folder of a run holds.

python launchers/list.py
python launchers/list.py environments
python launchers/list.py runs/demo/optimizer.npz
"""

from launchers import command_line


def main(words: list[str]) -> None:
    from meta import listing

    print(listing.describe(words))


if __name__ == "__main__":
    command_line.run(main, words=True)
