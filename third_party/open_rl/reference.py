"""Published numbers of OPEN (arXiv 2407.07082), to hold results against."""

# Final return of Adam used by the authors to normalise multi-task fitness: 1e7 steps on
# MinAtar, 5e7 on Ant.
ADAM_RETURNS = {
    "asterix": 15.0353,
    "freeway": 61.8369,
    "breakout": 50.0822,
    "spaceinvaders": 167.0913,
    "ant": 6517.31,
}
