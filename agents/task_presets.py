"""The settings that the papers train agents with, by environment: plain dicts.

What a config file and the evaluation of an environment by name share. Everything here is
data, and nothing is imported, so that configs may read it.
"""

from typing import Any

_MINATAR = ("asterix", "breakout", "freeway", "spaceinvaders")
_BRAX = (
    "ant", "halfcheetah", "hopper", "humanoid", "humanoidstandup", "inverted_double_pendulum",
    "inverted_pendulum", "pusher", "reacher", "swimmer", "walker2d",
)  # fmt: skip
_OPEN_GRIDWORLDS = (
    "labyrinth", "rand_all", "rand_dense", "rand_long", "rand_sparse", "sixteen_rooms",
    "standard_maze",
)  # fmt: skip

# Datasets that go by a short name; others are ``tfds/NAME``.
_DATASETS = ("digits",)

# Horizons in environment steps: OPEN paper, table 3; Humanoid as Ant, see
# configs/humanoid_open.py.
HORIZONS = {
    **dict.fromkeys(_MINATAR, 10_000_000),
    **dict.fromkeys(("ant", "humanoid"), 50_000_000),
    **dict.fromkeys(_OPEN_GRIDWORLDS, 30_000_000),
    # No paper's: training examples, 800 minibatches of 64.
    "digits": 51_200,
}


def is_dataset(env: str) -> bool:
    """Whether a task's ``env`` names a dataset and not an environment."""
    return env.startswith("tfds/") or env in _DATASETS


def agent_for(env: str, asked: str) -> str:
    """Who learns a task: datasets have an agent of their own, whatever was asked for.

    Raises:
      ValueError: it was asked for supervised learning of an environment.
    """
    if is_dataset(env):
        return "supervised"
    if asked == "supervised":
        raise ValueError(
            f"--agent=supervised learns datasets, and {env!r} is not known as one: give "
            "--task=digits or --task=tfds/NAME, or --agent=ppo"
        )
    return asked


def short_name(env: str) -> str:
    """What presets know an environment by: ``breakout`` for ``gymnax/Breakout-MinAtar``."""
    name = env.rsplit("/", maxsplit=1)[-1].lower()
    for ending in ("-minatar", "-bsuite", "-v0", "-v1"):
        name = name.removesuffix(ending)
    return name


def optimizer_preset(env: str) -> str:
    """The name under which handcrafted optimizers would have values tuned on an environment."""
    name = short_name(env)
    return "gridworld" if name in _OPEN_GRIDWORLDS else name


def minatar_agent() -> dict[str, Any]:
    """An inner loop: PPO on MinAtar as in the OPEN paper, table 3.

    What PPO and A2C share stands at the top; ``ppo`` and ``a2c`` hold what each has of its
    own, so that changing ``name`` swaps the algorithm with its own counts.
    """
    return {
        "name": "ppo",
        "num_envs": 64,
        "num_steps": 128,  # steps of each environment per iteration
        "discount": 0.99,
        "gae_lambda": 0.95,
        "value_coefficient": 0.5,
        "entropy_coefficient": 0.01,
        "max_grad_norm": 0.5,  # of actor and critic apart; 0: no clipping
        "network": "separate",  # or shared: one trunk with two heads
        "widths": (64, 64),
        "activation": "relu",
        "reward_scale": 1.0,
        "normalize_observations": False,
        "normalize_rewards": False,
        "truncation": "terminate",  # as the paper; "bootstrap" is the correct treatment
        "equal_hidden": True,  # actor and critic start with equal hidden layers
        "ppo": {
            "num_epochs": 4,
            "num_minibatches": 8,
            "clip_epsilon": 0.2,
            "normalize_advantages": True,
        },
        "a2c": {"num_epochs": 1, "num_minibatches": 1, "normalize_advantages": False},
    }


def brax_agent() -> dict[str, Any]:
    """PPO on Brax as in the OPEN paper, table 3 (Ant)."""
    block = minatar_agent()
    block.update(
        num_envs=2048,
        num_steps=10,
        entropy_coefficient=0.0,
        activation="tanh",
        normalize_observations=True,
        normalize_rewards=True,
    )
    block["ppo"]["num_minibatches"] = 32
    return block


def gridworld_agent() -> dict[str, Any]:
    """PPO on OPEN's gridworlds as in its paper, table 3."""
    block = minatar_agent()
    block.update(num_envs=1024, num_steps=20, widths=(16, 16), activation="tanh")
    block["ppo"].update(num_epochs=2, num_minibatches=16)
    return block


def supervised_agent() -> dict[str, Any]:
    """Supervised learning of a dataset, with networks as large as those of PPO on MinAtar."""
    return {
        "name": "supervised",
        "batch_size": 64,
        "num_minibatches": 16,  # in an iteration, after which the accuracy is measured
        "widths": (64, 64),
        "activation": "relu",
        "l2": 0.0,  # weight of half the squared norm of the kernels in the loss
        "max_grad_norm": 0.0,  # 0: no clipping
    }


def task(env: str) -> dict[str, Any]:
    """The task of an environment, without what only an experiment says.

    Args:
      env: a name that ``agents.environments.make`` takes. One that no paper has settings for
        gets those of MinAtar. Or a dataset, ``digits`` or ``tfds/NAME``, with the agent
        ``supervised``.

    Returns:
      ``env``, ``env_options`` (keyword arguments of the environment), ``agent`` (the block of
      its settings) and ``total_timesteps``: environment steps, or None without a published
      horizon.
    """
    name = short_name(env)
    options: dict[str, Any] = {}
    if is_dataset(env):
        block = supervised_agent()
    elif name in _BRAX:
        block = brax_agent()
        if name in ("ant", "humanoid"):
            options = {"backend": "positional"}
        if name == "humanoid":  # the comparison project's width
            block["widths"] = (256, 256)
    else:
        block = gridworld_agent() if name in _OPEN_GRIDWORLDS else minatar_agent()
    return {
        "env": env,
        "env_options": options,
        "agent": block,
        "total_timesteps": HORIZONS.get(name),
    }
