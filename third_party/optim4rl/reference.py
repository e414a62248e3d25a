"""Published numbers of Optim4RL on Brax, to hold results against.

Source: the comparison project's runs (arseniykan/meta-optim-eval, commit bcc9b10).
"""

from third_party.published import Published

# Final return of the published optimizers where they were tested: 1e8 environment steps of
# the task in the name.
RETURNS = {"ant_1": 3184.0, "ant_5": 5591.0, "ant_22": 1276.0, "humanoid_1": 7274.0}

# Final return of handcrafted optimizers at a learning rate of 3e-4 on the same task.
HUMANOID_BASELINES = {"adam": 5043.0, "rmsprop": 8352.0}

# (meta learning rate, reset interval) with which those for Ant were meta-trained.
ANT_META_TRAINING = {"ant_1": (1e-5, 32), "ant_5": (1e-5, 512), "ant_22": (1e-3, 64)}

_HORIZON = 100_000_000
_SOURCE = "Optim4RL, comparison project"
PUBLISHED = (
    *(
        Published(
            name.split("_")[0],
            f"Optim4RL ({name})",
            value,
            _HORIZON,
            "mean",
            1,
            True,
            _SOURCE,
        )
        for name, value in RETURNS.items()
    ),
    *(
        Published("humanoid", label, HUMANOID_BASELINES[name], _HORIZON, "mean", 1, True, _SOURCE)
        for name, label in (("adam", "Adam"), ("rmsprop", "RMSprop"))
    ),
)
