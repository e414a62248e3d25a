"""Training agents with finished optimizers, on seeds of their own, and tuning baselines."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt import handcrafted
from learned_opt.base import LearnedOptimizer, MetaParams
from meta import results
from meta.engine.population import Engine, ProgressFunction, broadcast_theta
from meta.engine.tasks import Task
from meta.runs import atomic

# What a tuned baseline is chosen by, from curves [S, K] to scores [S].
CRITERIA: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "final_return": lambda curve: curve[:, -1],
    "area": lambda curve: curve.mean(axis=1),
}


class Contestant(NamedTuple):
    """An optimizer with its theta, under the name that results show."""

    name: str
    optimizer: LearnedOptimizer
    theta: MetaParams


class Tuning(NamedTuple):
    """The scores of a grid.

    Attributes:
      rates: ``[R]`` learning rates.
      scores: ``[R]``, mean over seeds; NaN where a run failed.
      best: the learning rate with the highest score.
    """

    rates: np.ndarray
    scores: np.ndarray
    best: float


def seed_keys(key: jax.Array, first: int, count: int) -> jax.Array:
    """Typed keys ``[count]`` of the seeds ``first .. first + count - 1``."""
    return jax.vmap(lambda seed: jax.random.fold_in(key, seed))(jnp.arange(first, first + count))


def train_agents(
    contestant: Contestant,
    task: Task,
    key: jax.Array,
    num_seeds: int,
    points: int,
    *,
    engine: Engine | None = None,
    on_progress: ProgressFunction | None = None,
) -> list[results.Row]:
    """Trains S agents to the task's horizon.

    Args:
      contestant: with what.
      task: where.
      key: of which the seeds' keys are folded.
      num_seeds: S.
      points: of the learning curve to record.
      engine: one of this task and optimizer that is compiled already.
      on_progress: called between compiled calls.

    Returns:
      Rows of the results table.
    """
    engine = engine or Engine(contestant.optimizer, task.agent)
    recording = engine.run(
        broadcast_theta(contestant.theta, num_seeds),
        seed_keys(key, 0, num_seeds),
        points=points,
        on_progress=on_progress,
    )
    return [
        results.Row(task.name, task.agent_name, contestant.name, seed, int(steps), float(value))
        for seed, curve in enumerate(recording.episode_return)
        for steps, value in zip(recording.env_steps, curve, strict=True)
    ]


def tune_learning_rate(
    name: str,
    options: dict[str, Any],
    rates: Sequence[float],
    task: Task,
    key: jax.Array,
    *,
    num_seeds: int,
    points: int,
    criterion: str,
    on_progress: ProgressFunction | None = None,
) -> Tuning:
    """Chooses a handcrafted optimizer's learning rate, all rates in one compiled program.

    Args:
      name, options: the optimizer and its other hyperparameters.
      rates: ``[R]`` candidates.
      task: where.
      key: of which the tuning seeds' keys are folded; another than the evaluation's.
      num_seeds: S, per rate.
      points: of the learning curve.
      criterion: a name in ``CRITERIA``.
      on_progress: called between compiled calls.

    Raises:
      ValueError: unknown criterion, or every run of every rate failed.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"unknown criterion {criterion!r}; known: {', '.join(CRITERIA)}")
    optimizer = handcrafted.make_tunable(name, **options)
    theta = broadcast_theta(optimizer.init(key), len(rates) * num_seeds)
    theta["learning_rate"] = jnp.repeat(jnp.asarray(rates, jnp.float32), num_seeds)
    keys = jnp.tile(seed_keys(key, 0, num_seeds), len(rates))
    recording = Engine(optimizer, task.agent).run(
        theta, keys, points=points, on_progress=on_progress
    )
    scores = CRITERIA[criterion](recording.episode_return)
    scores = scores.reshape(len(rates), num_seeds).mean(axis=1)
    if not np.any(np.isfinite(scores)):
        raise ValueError(f"{name} failed on {task.name} at every learning rate of {list(rates)}")
    return Tuning(np.asarray(rates), scores, float(rates[int(np.nanargmax(scores))]))


def write_tuning(path: Path, rows: Sequence[tuple[str, str, Tuning]]) -> None:
    """Writes tunings of (task, optimizer) as a table.

    Its columns are task, optimizer, learning_rate, score, chosen.
    """
    with atomic.replacing(path) as temporary, temporary.open("w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("task", "optimizer", "learning_rate", "score", "chosen"))
        for task, optimizer, tuning in rows:
            for rate, score in zip(tuning.rates, tuning.scores, strict=True):
                writer.writerow((task, optimizer, rate, score, int(rate == tuning.best)))
