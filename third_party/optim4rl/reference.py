"""Published numbers of Optim4RL on Brax, to hold results against.

Source: the comparison project's runs (arseniykan/meta-optim-eval, commit bcc9b10).
"""

from third_party.published import Published

# Final return of the published optimizers where they were tested: 1e8 environment steps of
# the task in the name. Those for Ant were meta-trained with these (meta learning rate, reset
# interval): (1e-5, 32), (1e-5, 512), (1e-3, 64).
RETURNS = {"ant_1": 3184.0, "ant_5": 5591.0, "ant_22": 1276.0, "humanoid_1": 7274.0}

# Final return of handcrafted optimizers at a learning rate of 3e-4 on the same task.
HUMANOID_BASELINES = {"Adam": 5043.0, "RMSprop": 8352.0}


def _published(task: str, optimizer: str, value: float) -> Published:
    source = "Optim4RL, comparison project"
    return Published(task, optimizer, value, 100_000_000, "mean", 1, True, source)


PUBLISHED = (
    *(_published(name.split("_")[0], f"Optim4RL ({name})", v) for name, v in RETURNS.items()),
    *(_published("humanoid", name, value) for name, value in HUMANOID_BASELINES.items()),
)
