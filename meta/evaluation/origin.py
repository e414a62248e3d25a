"""What an optimizer was trained on, as its file tells, and whether it is used far from that."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import learned_opt
from meta.engine.tasks import Task, make_agent_config

# How many times as many updates, or as wide layers, count as far.
_FAR = 3.0


class Origin(NamedTuple):
    """A task of a meta-training.

    Attributes:
      task, env: its name in the config, and its environment or dataset.
      algorithm: of the agent.
      updates: of one agent's life.
      widths: of its hidden layers.
      total_timesteps: of its life.
    """

    task: str
    env: str
    algorithm: str
    updates: int
    widths: tuple[int, ...]
    total_timesteps: int

    def __str__(self) -> str:
        layers = " x ".join(map(str, self.widths)) or "no hidden layers"
        return f"{self.updates:,} updates of {layers} on {self.env} ({self.algorithm})"


def origins(metadata: Mapping[str, Any]) -> list[Origin]:
    """The tasks that an optimizer was trained on; none if its file does not tell."""
    config = metadata.get("config")
    blocks = config.get("tasks") if isinstance(config, dict) else None
    return [_origin(task, block) for task, block in (blocks or {}).items()]


def task_blocks(path: str) -> dict[str, dict[str, Any]]:
    """The tasks of a meta-training or study as its config has them, by name.

    Args:
      path: its folder, its ``config.json``, or the file of an optimizer that it made.

    Raises:
      ValueError: it is none of these.
    """
    file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    try:
        config = json.loads(file.read_bytes()) if file.suffix == ".json" else _config_in(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--like={path} is no run and no optimizer: {error}") from error
    config = config.get("base", config) if isinstance(config, dict) else {}
    blocks = config.get("tasks")
    if not isinstance(blocks, dict) or not blocks:
        raise ValueError(
            f"--like={path} does not tell of tasks: give the folder of a meta-training or of a "
            "study, or the file of an optimizer that this toolkit trained"
        )
    return blocks


def _config_in(path: str) -> Any:
    return learned_opt.load(path).metadata.get("config", {})


def _origin(task: str, block: dict[str, Any]) -> Origin:
    agent = make_agent_config(block["agent"], block["total_timesteps"])
    updates = agent.num_iterations * agent.updates_per_iteration
    widths = tuple(agent.widths)
    return Origin(task, block["env"], agent.algorithm, updates, widths, agent.total_timesteps)


def far_from(metadata: Mapping[str, Any], task: Task) -> str:
    """A sentence where a task is unlike all that an optimizer was trained on, else nothing.

    Args:
      metadata: of the optimizer.
      task: on which it is used.
    """
    known = origins(metadata)
    widths = tuple(task.agent.config.widths)
    updates, steps = task.inner_updates, task.env_steps
    here = Origin(task.name, task.name, task.agent_name, updates, widths, steps)
    if not known or any(_is_near(here, one) for one in known):
        return ""
    return f"trained for {'; '.join(map(str, known))}; here: {here}. Expect little of it."


def _is_near(here: Origin, one: Origin) -> bool:
    pairs = [(here.updates, one.updates), (max(here.widths, default=1), max(one.widths, default=1))]
    return all(1 / _FAR <= a / b <= _FAR for a, b in pairs)
