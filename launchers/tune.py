"""Tunes a handcrafted optimizer on a task; leaves a preset file that evaluate takes.

python launchers/tune.py --optimizer=adam --task=breakout
    --learning_rate=1e-4,3e-4,1e-3,3e-3,1e-2,3e-2 --anneal=true,false
    --num_seeds=4 --total_timesteps=1e5 --workdir=runs/tuned
python launchers/tune.py --optimizer=adam --task=breakout --search=random --num_samples=40
    --learning_rate=1e-4..1e-1 --b1=0.9..0.999 --anneal=true,false --workdir=runs/drawn
"""

from absl import flags

import meta
from launchers import command_line, values
from launchers.flag_groups import ONE, RUNS, Flag, define, shared

ARGUMENTS = define(
    *shared(
        *RUNS,
        optimizer={
            **ONE,
            "default": "adam",
            "help": "A handcrafted optimizer; adam:breakout starts from the paper's values for "
            "Breakout.",
        },
        task={**ONE, "default": "", "help": "An environment, e.g. breakout."},
        num_seeds={"default": 4, "help": "Seeds per candidate."},
        total_timesteps={"help": "Environment steps of each run, e.g. 1e5; empty: the paper's."},
        points={"default": 20},
        chunk={"help": "Runs that a device does at once; 0: what fits."},
    ),
    Flag("search", "grid", "grid: all combinations; random: draws."),
    Flag("num_samples", 32, "Draws of a random search.", values.define_whole_number),
    Flag("criterion", "final_return", "final_return, or area: the mean return over training."),
)
SPACE = define(
    *(
        Flag(name, "", f"Values to try: {text}.", read=lambda name, value: value or None)
        for name, text in {
            "learning_rate": "1e-4,1e-3, or in a random search 1e-4..1e-1",
            "anneal": "true,false: whether the learning rate goes linearly to 0",
            "b1": "of adam and lion, e.g. 0.9,0.99 or 0.9..0.999",
            "b2": "of adam and lion",
            "decay": "of rmsprop",
            "eps": "of adam and rmsprop",
            "weight_decay": "of lion",
        }.items()
    )
)


OTHERS = flags.DEFINE_multi_string(
    "hyperparameter", [], "Repeatable: another one and its values, e.g. momentum=0.5,0.9."
)


def main(words: list[str]) -> None:
    del words
    arguments = ARGUMENTS()
    others = values.texts_by_name("hyperparameter", OTHERS.value)
    meta.tune(space={**SPACE(), **others}, **arguments)
    command_line.show(arguments["workdir"])


if __name__ == "__main__":
    command_line.run(main, "workdir")
