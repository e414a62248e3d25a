"""The settings that the papers train agents with, by environment: plain dicts.

What a config file and the evaluation of an environment by name share. What each setting means
stands at ``AgentConfig`` and ``SupervisedConfig``, whose defaults are the first of them.
"""

import dataclasses
from typing import Any

from agents.config import AgentConfig
from agents.datasets import OWN, PREFIX
from agents.environments.registry import BRAX, OPEN_GRIDWORLDS
from agents.supervised import SupervisedConfig

# Horizons in environment steps: OPEN paper, table 3; Humanoid as Ant, see
# configs/humanoid_open.py.
HORIZONS = {
    **dict.fromkeys(("asterix", "breakout", "freeway", "spaceinvaders"), 10_000_000),
    **dict.fromkeys(("ant", "humanoid"), 50_000_000),
    **dict.fromkeys(OPEN_GRIDWORLDS, 30_000_000),
    # No paper's: training examples, 800 minibatches of 64.
    OWN: 51_200,
}

# Reference values of the last return, (score 0, score 1) of ``--normalise_by=min_max``, at the
# environments' own time limits. Users' modules may add to them.
RETURN_RANGES: dict[str, tuple[float, float]] = {
    # The worst return, and gymnasium's ``reward_threshold``, from which a task is solved.
    "acrobot": (-500.0, -100.0),
    "cartpole": (0.0, 475.0),
    "mountaincar": (-200.0, -110.0),
    # The least and the greatest return that there can be; pendulum's costs at most
    # pi^2 + 0.1 * 8^2 + 0.001 * 2^2 in each of 200 steps.
    "catch": (-1.0, 1.0),
    "pendulum": (-3254.7, 0.0),
}


def is_dataset(env: str) -> bool:
    """Whether a task's ``env`` names a dataset and not an environment."""
    return env.startswith(PREFIX) or env == OWN


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
    return "gridworld" if name in OPEN_GRIDWORLDS else name


# The horizon is the task's; a block that needs one of the others adds it.
_NOT_LISTED = (
    "algorithm", "total_timesteps", "convolutions", "critic_widths", "critic_activation",
)  # fmt: skip
_OF_PPO = ("num_epochs", "num_minibatches", "clip_epsilon", "normalize_advantages")


def minatar_agent() -> dict[str, Any]:
    """An inner loop: PPO on MinAtar as in the OPEN paper, table 3.

    What PPO and A2C share stands at the top; ``ppo`` and ``a2c`` hold what each has of its
    own, so that changing ``name`` swaps the algorithm with its own counts.
    """
    defaults = dataclasses.asdict(AgentConfig())
    return {
        "name": defaults["algorithm"],
        **{k: v for k, v in defaults.items() if k not in (*_NOT_LISTED, *_OF_PPO)},
        "ppo": {name: defaults[name] for name in _OF_PPO},
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
    defaults = dataclasses.asdict(SupervisedConfig())
    return {
        "name": defaults["algorithm"],
        **{k: v for k, v in defaults.items() if k not in _NOT_LISTED},
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
    elif name in BRAX:
        block = brax_agent()
        if name in ("ant", "humanoid"):
            options = {"backend": "positional"}
        if name == "humanoid":  # the comparison project's width
            block["widths"] = (256, 256)
    else:
        block = gridworld_agent() if name in OPEN_GRIDWORLDS else minatar_agent()
    return {
        "env": env,
        "env_options": options,
        "agent": block,
        "total_timesteps": HORIZONS.get(name),
    }
