"""Published numbers of OPEN (arXiv 2407.07082), to hold results against."""

from third_party.published import Published

# Final return of Adam used by the authors to normalise multi-task fitness: 1e7 steps on
# MinAtar, 5e7 on Ant.
ADAM_RETURNS = {
    "asterix": 15.0353,
    "freeway": 61.8369,
    "breakout": 50.0822,
    "spaceinvaders": 167.0913,
    "ant": 6517.31,
}

# OPEN trained on the task itself; IQM over 16 seeds, read off figure 2.
OPEN_RETURNS = {
    "asterix": 37.0,
    "freeway": 63.0,
    "breakout": 57.0,
    "spaceinvaders": 170.0,
    "ant": 6600.0,
}

# Breakout cut to 2e5 steps (ablations); IQM over optimizers and their 64 seeds, read off
# figure 5.
SHORT_BREAKOUT_RETURNS = {"OPEN": 12.5, "No Features": 10.0}


def _horizon(task: str) -> int:
    return 50_000_000 if task == "ant" else 10_000_000


PUBLISHED = (
    *(
        Published(
            task, "Adam", value, _horizon(task), "not said", 16, True, "OPEN, authors' normaliser"
        )
        for task, value in ADAM_RETURNS.items()
    ),
    *(
        Published(task, "OPEN", value, _horizon(task), "iqm", 16, False, "OPEN, figure 2")
        for task, value in OPEN_RETURNS.items()
    ),
    *(
        Published("breakout", name, value, 200_000, "iqm", 64, False, "OPEN, figure 5")
        for name, value in SHORT_BREAKOUT_RETURNS.items()
    ),
)
