"""The outer loop by evolution strategies: fitness is what a whole inner run ends with.

Unbiased with respect to the horizon: nothing is truncated and no gradient is taken through
the inner loop; the estimate's variance is what the population size buys down.
"""

import dataclasses
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
        returns = self._evaluate(population, run_key, on_progress)
        normalizers = np.array([task.normalizer for task in self._tasks])
        fitness = (returns / normalizers[:, None]).mean(axis=0).astype(np.float32)
        search, moved = self._tell(tell_key, population, jnp.asarray(fitness), search)
        metrics = {**_fitness_metrics(fitness), **{k: float(v) for k, v in moved.items()}}
        for task, row in zip(self._tasks, returns, strict=True):
            finite = row[np.isfinite(row)]
            metrics[f"return/{task.name}"] = float(finite.mean()) if finite.size else float("nan")
        return MetaState(search, state.key, state.generation + 1), metrics

    def _evaluate(
        self, population: MetaParams, key: jax.Array, on_progress: ProgressFunction | None
    ) -> np.ndarray:
        """Returns of every member on every task, averaged over rollouts: ``[tasks, P]``."""
        rollouts, count = self._config.num_rollouts, self._config.population_size
        repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, rollouts, axis=0), population)
        rows = []
        for index, engine in enumerate(self._engines):
            report = part_of(on_progress, index, len(self._engines))
            keys = self._member_keys(jax.random.fold_in(key, index))
            recording = engine.run(repeated, keys, on_progress=report)
            rows.append(recording.episode_return[:, -1].reshape(count, rollouts).mean(axis=1))
        return np.stack(rows)

    def _member_keys(self, key: jax.Array) -> jax.Array:
        """Keys ``[P * rollouts]``, shared as the config says; members first."""
        count = self._config.population_size
        distinct = {"generation": 1, "pair": count // 2, "member": count}[self._config.keys_per]
        keys = jax.random.split(key, (distinct, self._config.num_rollouts))
        # Antithetic strategies order a population as all of +epsilon, then all of -epsilon.
        return keys[jnp.arange(count) % distinct].reshape(-1)

    def _tell_and_measure(self, key, population, fitness, search):
        before, _ = ravel_pytree(self._strategy.mean(search))
        search = self._strategy.tell(key, population, fitness, search)
        after, _ = ravel_pytree(self._strategy.mean(search))
        return search, {
            "theta_norm": jnp.linalg.norm(after),
            "theta_step_norm": jnp.linalg.norm(after - before),
        }


def _fitness_metrics(fitness: np.ndarray) -> dict[str, float]:
    finite = fitness[np.isfinite(fitness)]
    if not finite.size:
        finite = np.array([np.nan])
    return {
        "fitness_mean": float(finite.mean()),
        "fitness_min": float(finite.min()),
        "fitness_max": float(finite.max()),
        "fitness_std": float(finite.std()),
        "failed_members": float(np.count_nonzero(~np.isfinite(fitness))),
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
      Mean over tasks and seeds of return / normalizer (NaN if a run failed), and the mean
      return by task.
    """
    by_task = {}
    for index, (task, engine) in enumerate(zip(tasks, engines, strict=True)):
        report = part_of(on_progress, index, len(engines))
        task_keys = jax.vmap(lambda key, index=index: jax.random.fold_in(key, index))(keys)
        recording = engine.run(broadcast_theta(theta, len(keys)), task_keys, on_progress=report)
        by_task[task.name] = float(recording.episode_return[:, -1].mean())
    normalised = [by_task[task.name] / task.normalizer for task in tasks]
    return float(np.mean(normalised)), by_task
