"""Meta-training from the first generation to the saved optimizer, resumable at any point."""

import contextlib
import math
from collections.abc import Iterator
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import learned_opt
from learned_opt.base import MetaParams
from meta import evaluation, evolution, experiment, progress
from meta.checkpoints import Checkpoints
from meta.evolution import MetaState
from meta.experiment import Experiment
from meta.logs import open_logs
from meta.workdir import MetricsTable, Workdir


class TrainingState(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      meta: the outer loop's state.
      best_theta: the theta with the best validation so far.
      best_score: its score; -inf before the first validation.
      best_generation: int32, when it was reached.
    """

    meta: MetaState
    best_theta: MetaParams
    best_score: jax.Array
    best_generation: jax.Array


def run(config: dict[str, Any], workdir: str) -> TrainingState:
    """Trains the optimizer that a config describes, or goes on where it was stopped.

    Args:
      config: as plain dicts.
      workdir: the run's folder.

    Returns:
      The state after the last generation.

    Raises:
      ValueError, FileNotFoundError: bad input, before anything is compiled.
      progress.Stopped: stopped by a signal, after a checkpoint was written.
    """
    return train(experiment.build(config), workdir)


def train(made: Experiment, workdir: str) -> TrainingState:
    """As ``run``, for an experiment that is built already: its compiled programs are kept."""
    folder = Workdir(workdir)
    resumed = folder.claim(made.config)
    print(f"training {made.optimizer_name} in {folder.path}", flush=True)
    print(experiment.describe_cost(made), flush=True)
    stop = progress.StopRequest()
    with stop.listening(), _open(folder) as checkpoints:
        state = _begin(made, checkpoints)
        done = int(state.meta.generation)
        metrics = MetricsTable(folder.metrics)
        metrics.load(before=done + 1)
        if resumed:
            print(f"going on after generation {done}", flush=True)
        state = _train(made, folder, checkpoints, metrics, state, stop)
        save_optimizer(made, folder, metrics, state)
    return state


@contextlib.contextmanager
def _open(folder: Workdir) -> Iterator[Checkpoints]:
    checkpoints = Checkpoints(folder.checkpoints)
    try:
        yield checkpoints
    finally:
        checkpoints.close()


def _begin(made: Experiment, checkpoints: Checkpoints) -> TrainingState:
    """The latest checkpoint, or a fresh state."""
    meta = made.trainer.init(made.keys.training)
    fresh = TrainingState(meta, made.trainer.theta(meta), jnp.float32(-jnp.inf), jnp.int32(0))
    found = checkpoints.restore(fresh)
    return fresh if found is None else found[1]


def _train(
    made: Experiment,
    folder: Workdir,
    checkpoints: Checkpoints,
    metrics: MetricsTable,
    state: TrainingState,
    stop: progress.StopRequest,
) -> TrainingState:
    """Runs the generations that remain; checkpoints when stopped."""
    outer = made.outer
    total, done = outer["num_generations"], int(state.meta.generation)
    first, saved = done, done
    bar = progress.Progress("generations", total, stop, done)
    with bar, open_logs(folder, made.config["logging"], done) as logs:
        try:
            while done < total:
                clock = progress.Clock()
                state, row = _generation(made, state, bar)
                done = int(state.meta.generation)
                row["seconds"] = clock.seconds()
                metrics.add({"generation": done, **row})
                logs.write(done, row)
                bar.step(fitness=row["fitness_mean"], best=float(state.best_score))
                if done == first + 2 and done < total:
                    # The second generation: the first one's time is mostly compilation.
                    remaining = progress.duration(row["seconds"] * (total - done))
                    print(f"\nabout {remaining} to go", flush=True)
                if done % outer["checkpoint_every"] == 0 or done == total:
                    checkpoints.save(done, state)
                    saved = done
                    save_optimizer(made, folder, metrics, state)
        except progress.Stopped:
            if saved < done:
                checkpoints.save(done, state)
                save_optimizer(made, folder, metrics, state)
            print(f"\nsaved after generation {done}; the same command goes on", flush=True)
            raise
    return state


def _generation(
    made: Experiment, state: TrainingState, bar: progress.Progress
) -> tuple[TrainingState, dict[str, float]]:
    """One generation, and the validation of its mean theta where one is due."""
    outer = made.outer
    meta, row = made.trainer.step(state.meta, on_progress=bar.share)
    state = state._replace(meta=meta)
    done = int(meta.generation)
    if done % outer["validate_every"] and done != outer["num_generations"]:
        return state, row
    theta = made.trainer.theta(meta)
    keys = evaluation.seed_keys(made.keys.validation, 0, outer["validation_seeds"])
    # The bar stands at the end of the generation meanwhile; stopping is still possible.
    score, by_task = evolution.validate(
        theta, made.tasks, made.engines, keys, on_progress=lambda share: bar.share(1.0)
    )
    row["validation"] = score
    row.update({f"validation/{task}": value for task, value in by_task.items()})
    if math.isfinite(score) and score > float(state.best_score):
        state = state._replace(
            best_theta=theta, best_score=jnp.float32(score), best_generation=meta.generation
        )
    return state, row


def chosen_theta(made: Experiment, state: TrainingState) -> tuple[MetaParams, int]:
    """The best validated theta and its generation; the current one before any validation."""
    if math.isfinite(float(state.best_score)):
        return state.best_theta, int(state.best_generation)
    return made.trainer.theta(state.meta), int(state.meta.generation)


def save_optimizer(
    made: Experiment, folder: Workdir, metrics: MetricsTable, state: TrainingState
) -> None:
    """Writes ``optimizer.npz`` with what is needed to know where it came from."""
    theta, generation = chosen_theta(made, state)
    done = int(state.meta.generation)
    runs = made.outer["population_size"] * made.outer["num_rollouts"]
    validations = [
        [int(row["generation"]), row["validation"]] for row in metrics.rows if "validation" in row
    ]
    learned_opt.save(
        folder.optimizer,
        made.optimizer_name,
        theta,
        options=made.options,
        metadata={
            "config": made.config,
            "training": {
                "generations": done,
                "theta_of_generation": generation,
                "validation": validations,
                "env_steps": done * runs * sum(task.env_steps for task in made.tasks),
                "tasks": [task.name for task in made.tasks],
                "toolkit": metadata.version("lopt-rl"),
                "jax": jax.__version__,
            },
        },
    )
