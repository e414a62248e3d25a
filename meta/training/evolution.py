"""The outer loop by evolution strategies: fitness is what a whole inner run ends with.

The return of a run in which no episode has ended is no fitness: see ``fitness_of``.

Unbiased with respect to the horizon: nothing is truncated and no gradient is taken through
the inner loop; the estimate's variance is what the population size buys down.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from learned_opt.base import LearnedOptimizer, MetaParams
from learned_opt.names import did_you_mean
from meta.engine import memory
from meta.engine.population import (
    Engine,
    ProgressFunction,
    broadcast_theta,
    part_of,
    theta_shapes,
)
from meta.engine.tasks import Task
from meta.results import plots
from meta.results.looks import Shown
from meta.runs import progress

KEY_SHARING = ("generation", "pair", "member")


@dataclasses.dataclass(frozen=True)
class EvolutionConfig:
    """Settings of the outer loop. Defaults are the OPEN paper's for MinAtar, table 7.

    Attributes:
      strategy: an evosax algorithm by name.
      population_size: P, even.
      sigma, sigma_decay: standard deviation of the perturbations, times the decay at each
        generation.
      learning_rate, learning_rate_decay: of Adam on the mean, likewise.
      adam_b1, adam_b2: Adam's coefficients.
      fitness_shaping: ``centered_rank``, ``pairwise`` (antithetic task sampling),
        ``standardize``, ``none``, or empty for the strategy's own.
      num_rollouts: inner runs per member, averaged.
      keys_per: what shares its randomness: all members of a ``generation``, an antithetic
        ``pair``, or nothing beyond the ``member``.
      strategy_options: further settings of the strategy.
    """

    strategy: str = "Open_ES"
    population_size: int = 64
    sigma: float = 0.03
    sigma_decay: float = 0.999
    learning_rate: float = 0.03
    learning_rate_decay: float = 0.999
    adam_b1: float = 0.99
    adam_b2: float = 0.999
    fitness_shaping: str = "centered_rank"
    num_rollouts: int = 1
    keys_per: str = "generation"
    strategy_options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name in ("sigma", "sigma_decay", "learning_rate", "learning_rate_decay"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.num_rollouts < 1:
            raise ValueError(f"num_rollouts must be at least 1, got {self.num_rollouts}")
        if self.keys_per not in KEY_SHARING:
            hint = did_you_mean(self.keys_per, list(KEY_SHARING))
            raise ValueError(
                f"keys_per must be one of {', '.join(KEY_SHARING)}, got {self.keys_per!r}{hint}"
            )


class MetaState(NamedTuple):
    """All that meta-training carries from generation to generation.

    Attributes:
      search: the strategy's state.
      key: the run's key; every generation's keys are folded from it.
      generation: int32 scalar, generations done.
    """

    search: Any
    key: jax.Array
    generation: jax.Array


class EvolutionTrainer:
    """Trains theta by evolution strategies on one or several tasks.

    Args:
      config: settings.
      optimizer: the family to train.
      tasks: fitness is the mean over tasks of return / normalizer.
      engines: one for each task, of the same optimizer.
      initial_theta: where to start; the optimizer's own initial theta if None.

    Raises:
      ValueError: the optimizer has no theta, the strategy is unknown or does not fit, or one
        inner run does not fit in memory.
    """

    unit: str = "generation"

    def __init__(
        self,
        config: EvolutionConfig,
        optimizer: LearnedOptimizer,
        tasks: Sequence[Task],
        engines: Sequence[Engine],
        initial_theta: MetaParams | None = None,
    ):
        # Here and not above, as evosax makes arrays, and so touches devices, when imported.
        from meta.training.strategies import Strategy

        example = jax.tree.map(jnp.zeros_like, theta_shapes(optimizer))
        self._config = config
        self._optimizer = optimizer
        self._tasks = tasks
        self._engines = engines
        self._initial_theta = initial_theta
        learning_rate = optax.exponential_decay(config.learning_rate, 1, config.learning_rate_decay)
        self._strategy = Strategy(
            config.strategy,
            config.population_size,
            example,
            optimizer=optax.adam(learning_rate, config.adam_b1, config.adam_b2),
            sigma=optax.exponential_decay(config.sigma, 1, config.sigma_decay),
            shaping=config.fitness_shaping,
            options=config.strategy_options,
        )
        self._tell = jax.jit(self._tell_and_measure)
        for engine in engines:
            engine.members_per_device(config.population_size)

    def init(self, key: jax.Array) -> MetaState:
        theta_key, search_key, key = jax.random.split(key, 3)
        theta = self._initial_theta
        if theta is None:
            theta = jax.jit(self._optimizer.init)(theta_key)
        search = self._strategy.init(search_key, theta)
        # Without JAX's weak types, which later states do not have: programs would be compiled
        # twice.
        strong = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), search)
        return MetaState(strong, key, jnp.int32(0))

    def theta(self, state: MetaState) -> MetaParams:
        return self._strategy.mean(state.search)

    @property
    def env_steps_per_step(self) -> int:
        """Environment steps of one generation, of all members on all tasks."""
        return self._num_runs * sum(task.env_steps for task in self._tasks)

    @property
    def _num_runs(self) -> int:
        """Inner runs of one generation on each task."""
        return self._config.population_size * self._config.num_rollouts

    def describe_cost(self) -> list[str]:
        runs, lines = self._num_runs, []
        for task, engine in zip(self._tasks, self._engines, strict=True):
            cost = memory.member_cost(self._optimizer, task.agent)
            batch = engine.members_per_device(runs)
            waves = -(-runs // (batch * engine.num_devices))
            lines += [
                f"task {task.name} ({task.agent_name}): {progress.count(task.env_steps)} "
                f"{task.step_name} and {progress.count(task.inner_updates)} inner updates per "
                "inner run",
                f"  {runs} inner runs per generation: {waves} wave(s) of {batch} on each of "
                f"{engine.num_devices} {jax.devices()[0].platform} device(s); about "
                f"{progress.size(cost)} per run, {progress.size(batch * cost)} per "
                "device",
            ]
        return lines

    def steps_done(self, state: MetaState) -> int:
        return int(state.generation)

    def headline(self, metrics: dict[str, float]) -> dict[str, float]:
        return {"fitness": metrics["fitness_mean"]}

    def step(
        self, state: MetaState, on_progress: ProgressFunction | None = None
    ) -> tuple[MetaState, dict[str, float]]:
        """One generation: ask, evaluate every member on every task, tell."""
        key = jax.random.fold_in(state.key, state.generation)
        ask_key, tell_key, run_key = jax.random.split(key, 3)
        population, search = self._strategy.ask(ask_key, state.search)
        returns, no_episode = self._evaluate(population, run_key, on_progress)
        normalizers = np.array([task.normalizer for task in self._tasks])
        fitness = fitness_of(returns / normalizers[:, None], no_episode)
        if no_episode.all():
            self._warn_of_no_episode()
            search, moved = self._unmoved(state.search)
        else:
            search, moved = self._tell(tell_key, population, jnp.asarray(fitness), search)
        metrics = {**_fitness_metrics(fitness), **{k: float(v) for k, v in moved.items()}}
        failed = ~np.isfinite(returns) & ~no_episode
        metrics["failed_members"] = float(np.count_nonzero(failed.any(axis=0)))
        metrics["members_without_episode"] = float(np.count_nonzero(no_episode.any(axis=0)))
        for task, row in zip(self._tasks, returns, strict=True):
            finite = row[np.isfinite(row)]
            metrics[f"return/{task.name}"] = float(finite.mean()) if finite.size else float("nan")
        return MetaState(search, state.key, state.generation + 1), metrics

    def _evaluate(
        self, population: MetaParams, key: jax.Array, on_progress: ProgressFunction | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns of every member on every task, and where there is none, ``[tasks, P]`` each.

        They are averaged over the rollouts in which an episode has ended.
        """
        rollouts, count = self._config.num_rollouts, self._config.population_size
        repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, rollouts, axis=0), population)
        rows: list[tuple[np.ndarray, np.ndarray]] = []
        for index, engine in enumerate(self._engines):
            report = part_of(on_progress, index, len(self._engines))
            keys = self._member_keys(jax.random.fold_in(key, index))
            recording = engine.run(repeated, keys, on_progress=report)
            last = recording.episode_return[:, -1].reshape(count, rollouts)
            rows.append(mean_with_episodes(last, recording.no_episode[:, -1].reshape(last.shape)))
        returns, no_episode = zip(*rows, strict=True)
        return np.stack(returns), np.stack(no_episode)

    def _member_keys(self, key: jax.Array) -> jax.Array:
        """Keys ``[P * rollouts]``, shared as the config says; members first."""
        count = self._config.population_size
        distinct = {"generation": 1, "pair": count // 2, "member": count}[self._config.keys_per]
        keys = jax.random.split(key, (distinct, self._config.num_rollouts))
        # Antithetic strategies order a population as all of +epsilon, then all of -epsilon.
        return keys[jnp.arange(count) % distinct].reshape(-1)

    def _warn_of_no_episode(self) -> None:
        names = ", ".join(f"{task.name} ({task.env_steps:,} steps)" for task in self._tasks)
        warnings.warn(
            f"no episode has ended in any inner run of this generation, on {names}: there is no "
            "fitness, and theta stays as it is. Give the tasks more total_timesteps or fewer "
            "num_envs",
            stacklevel=3,
        )

    def _unmoved(self, search: Any) -> tuple[Any, dict[str, Any]]:
        theta, _ = ravel_pytree(self._strategy.mean(search))
        return search, {"theta_norm": jnp.linalg.norm(theta), "theta_step_norm": 0.0}

    def _tell_and_measure(self, key, population, fitness, search):
        before, _ = ravel_pytree(self._strategy.mean(search))
        search = self._strategy.tell(key, population, fitness, search)
        after, _ = ravel_pytree(self._strategy.mean(search))
        return search, {
            "theta_norm": jnp.linalg.norm(after),
            "theta_step_norm": jnp.linalg.norm(after - before),
        }


def mean_with_episodes(
    returns: np.ndarray, no_episode: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the last axis of runs in which an episode has ended.

    Args:
      returns: ``[..., runs]``, NaN of a run that failed, and of one without an episode.
      no_episode: bool, the same shape; which are the latter.

    Returns:
      The means, and where there is none as no run has an episode (the mean is NaN there, as it
      is where a run failed).
    """
    count = np.count_nonzero(~no_episode, axis=-1)
    total = np.where(no_episode, np.zeros_like(returns), returns).sum(axis=-1)
    means = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return means, count == 0


def fitness_of(scores: np.ndarray, no_episode: np.ndarray) -> np.ndarray:
    """Fitness of the members of a generation, from what they reached on each task.

    A member that ended no episode on a task says nothing there: it gets the median of the
    members that did not fail, and so pulls theta nowhere. A task on which nobody ended one is
    left out of the mean over tasks.

    Args:
      scores: return / normaliser, ``[tasks, P]``; NaN where a run failed or ended no episode.
      no_episode: bool ``[tasks, P]``, where it is the latter.

    Returns:
      float32 ``[P]``; NaN for members that failed, and for all where no task has an episode.
    """
    told = ~no_episode.all(axis=1)
    if not told.any():
        return np.full(scores.shape[1], np.nan, np.float32)
    filled = scores[told]
    for row, missing in zip(filled, no_episode[told], strict=True):
        finite = row[np.isfinite(row)]
        row[missing] = np.median(finite) if finite.size else 0.0  # all others failed: better
    mean: np.ndarray = filled.mean(axis=0)
    return mean.astype(np.float32)


def _fitness_metrics(fitness: np.ndarray) -> dict[str, float]:
    finite = fitness[np.isfinite(fitness)]
    if not finite.size:
        finite = np.array([np.nan])
    return {
        "fitness_mean": float(finite.mean()),
        "fitness_min": float(finite.min()),
        "fitness_max": float(finite.max()),
        "fitness_std": float(finite.std()),
    }


def plot(
    rows: Sequence[dict[str, float]],
    tasks: Sequence[str],
    path: Path,
    shown: Shown | None = None,
) -> None:
    """Draws fitness and held-out returns by generation; see ``OuterLoop.plot``.

    With results, ``overview_TASK.png`` beside the plot show both together. ``ValueError`` where
    there are no rows.
    """
    plots.evolution_plot(rows, path)
    if shown is None:
        return
    for task in tasks:
        plots.overview_plot(
            rows, shown.table, task, path.with_name(f"overview_{task}.png"), shown.looks
        )


def validate(
    theta: MetaParams,
    tasks: Sequence[Task],
    engines: Sequence[Engine],
    keys: jax.Array,
    on_progress: ProgressFunction | None = None,
) -> tuple[float, dict[str, float]]:
    """The normalised return of one theta on held-out keys.

    Args:
      theta: the meta-parameters.
      tasks, engines: as in training.
      keys: typed keys ``[S]``, not used in training.
      on_progress: called between compiled calls.

    Returns:
      Mean over tasks and seeds of return / normalizer, and the mean return by task: over the
      seeds in which an episode has ended. NaN if a run failed, or none of a task's has.
    """
    by_task = {}
    for index, (task, engine) in enumerate(zip(tasks, engines, strict=True)):
        report = part_of(on_progress, index, len(engines))
        task_keys = jax.vmap(lambda key, index=index: jax.random.fold_in(key, index))(keys)
        recording = engine.run(broadcast_theta(theta, len(keys)), task_keys, on_progress=report)
        returns, no_episode = recording.episode_return[:, -1], recording.no_episode[:, -1]
        by_task[task.name] = float(mean_with_episodes(returns, no_episode)[0])
    normalised = [by_task[task.name] / task.normalizer for task in tasks]
    return float(np.mean(normalised)), by_task
