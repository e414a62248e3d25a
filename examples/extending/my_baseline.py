"""A handcrafted optimizer of one's own: AdaBelief of optax, to be compared and tuned by name.

Imported before a run (``--import=examples/extending/my_baseline.py``), it is
``--optimizer=adabelief`` for evaluate, tune and analyze, and a baseline in configs.
"""

import optax

import learned_opt

learned_opt.register_handcrafted(
    "adabelief",
    optax.adabelief,
    {"learning_rate": 3e-4, "b1": 0.9, "b2": 0.999, "eps": 1e-16},
)
