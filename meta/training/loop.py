"""Meta-training from the first meta-step to the saved optimizer, resumable at any point."""

import contextlib
import math
import time
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import learned_opt
from learned_opt.base import MetaParams
from meta.engine.population import seed_keys
from meta.evaluation.store import Store
from meta.runs import progress
from meta.runs.checkpoints import Checkpoints
from meta.runs.logs import open_logs
from meta.runs.workdir import MetricsTable, Workdir
from meta.training import evolution
from meta.training.experiment import Experiment, describe_cost


class TrainingState(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      meta: the outer loop's state.
      best_theta: the theta with the best validation so far.
      best_score: its score; -inf before the first validation.
      best_step: int32, the meta-step when it was reached.
    """

    meta: Any
    best_theta: MetaParams
    best_score: jax.Array
    best_step: jax.Array


def train(experiment: Experiment, workdir: str) -> TrainingState:
    """Trains an experiment's optimizer, or goes on where it was stopped.

    A run that has ended goes on, too, if the config asks for more meta-steps than it had; the
    result's held-out returns are then those of another theta, and are dropped.

    Args:
      experiment: what to train.
      workdir: the run's folder.

    Returns:
      The state after the last meta-step.

    Raises:
      WorkdirError: the folder belongs to another run.
      progress.Stopped: stopped by a signal, after a checkpoint was written.
    """
    folder = Workdir(workdir)
    resumed = folder.claim(experiment.config, length=("outer", experiment.outer_loop.length))
    print(f"training {experiment.optimizer_name} in {folder.path}", flush=True)
    print(describe_cost(experiment), flush=True)
    stop = progress.StopRequest()
    checkpointing = contextlib.closing(Checkpoints(folder.checkpoints))
    with stop.listening(), checkpointing as checkpoints:
        state = _begin(experiment, checkpoints)
        done = experiment.trainer.steps_done(state.meta)
        metrics = MetricsTable(folder.metrics)
        metrics.load(before=done + 1)
        if done < experiment.schedule.num_steps:  # held-out returns of the theta that there was
            cells = ((task.name, experiment.optimizer_name) for task in experiment.tasks)
            Store.of_run(workdir).drop(cells)
        if resumed:
            print(f"going on after {experiment.trainer.unit} {done}", flush=True)
        state = _train(experiment, folder, checkpoints, metrics, state, stop)
        save_optimizer(experiment, folder, metrics, state)
    return state


def _begin(experiment: Experiment, checkpoints: Checkpoints) -> TrainingState:
    """The latest checkpoint, or a fresh state."""
    meta = experiment.trainer.init(experiment.keys.training)
    fresh = TrainingState(meta, experiment.trainer.theta(meta), jnp.float32(-jnp.inf), jnp.int32(0))
    found = checkpoints.restore(fresh)
    return fresh if found is None else found[1]


def _train(
    experiment: Experiment,
    folder: Workdir,
    checkpoints: Checkpoints,
    metrics: MetricsTable,
    state: TrainingState,
    stop: progress.StopRequest,
) -> TrainingState:
    """Runs the meta-steps that remain; checkpoints when stopped."""
    schedule = experiment.schedule
    total, done = schedule.num_steps, experiment.trainer.steps_done(state.meta)
    first, saved, shortest = done, done, math.inf
    passed = sum(row.get("seconds", 0.0) for row in metrics.rows)
    bar = progress.Progress(f"{experiment.trainer.unit}s", total, stop, done)
    with bar, open_logs(folder, experiment.logging, done) as log:
        try:
            while done < total:
                began = time.monotonic()
                state, row = _step(experiment, state, bar)
                done = experiment.trainer.steps_done(state.meta)
                row["seconds"] = time.monotonic() - began
                passed += row["seconds"]
                row["env_steps"] = done * experiment.trainer.env_steps_per_step
                row["time_passed"] = passed
                metrics.add({"meta_step": done, **row})
                log(done, row)
                best = float(state.best_score)
                shown = {"best": best} if math.isfinite(best) else {}
                bar.step(**experiment.trainer.headline(row), **shown)
                shortest = min(shortest, row["seconds"])
                if done == first + 3 and done < total:
                    # The others' time is mostly compilation: of the meta-step, and of the
                    # program that resets agents, whenever that is first needed.
                    remaining = progress.duration(shortest * (total - done))
                    print(f"\nabout {remaining} to go", flush=True)
                if done % schedule.checkpoint_every == 0 or done == total:
                    checkpoints.save(done, state)
                    saved = done
                    save_optimizer(experiment, folder, metrics, state)
        except progress.Stopped:
            if saved < done:
                checkpoints.save(done, state)
                save_optimizer(experiment, folder, metrics, state)
            print(
                f"\nsaved after {experiment.trainer.unit} {done}; the same command goes on",
                flush=True,
            )
            raise
    return state


def _step(
    experiment: Experiment, state: TrainingState, bar: progress.Progress
) -> tuple[TrainingState, dict[str, float]]:
    """One meta-step, and the validation of its theta where one is due."""
    schedule = experiment.schedule
    meta, row = experiment.trainer.step(state.meta, on_progress=bar.share)
    state = state._replace(meta=meta)
    done = experiment.trainer.steps_done(meta)
    every = schedule.validate_every
    if not every or (done % every and done != schedule.num_steps):
        return state, row
    theta = experiment.trainer.theta(meta)
    keys = seed_keys(experiment.keys.validation, 0, schedule.validation_seeds)
    # The bar stands at the end of the meta-step meanwhile; stopping is still possible.
    score, by_task = evolution.validate(
        theta, experiment.tasks, experiment.engines, keys, on_progress=lambda share: bar.share(1.0)
    )
    row["validation"] = score
    row.update({f"validation/{task}": value for task, value in by_task.items()})
    if math.isfinite(score) and score > float(state.best_score):
        state = state._replace(
            best_theta=theta, best_score=jnp.float32(score), best_step=jnp.int32(done)
        )
    return state, row


def save_optimizer(
    experiment: Experiment, folder: Workdir, metrics: MetricsTable, state: TrainingState
) -> None:
    """Writes ``optimizer.npz`` with what is needed to know where it came from.

    It holds the theta with the best validation; the current one before any validation.
    """
    done = experiment.trainer.steps_done(state.meta)
    if math.isfinite(float(state.best_score)):
        theta, chosen = state.best_theta, int(state.best_step)
    else:
        theta, chosen = experiment.trainer.theta(state.meta), done
    validations = [
        [int(row["meta_step"]), row["validation"]] for row in metrics.rows if "validation" in row
    ]
    learned_opt.save(
        folder.optimizer,
        experiment.optimizer_name,
        theta,
        options=experiment.options,
        metadata={
            "config": experiment.config,
            "training": {
                "outer_loop": experiment.outer_loop.name,
                "meta_steps": done,
                "theta_of_meta_step": chosen,
                "validation": validations,
                "env_steps": done * experiment.trainer.env_steps_per_step,
                "tasks": [task.name for task in experiment.tasks],
                "toolkit": metadata.version("lopt-rl"),
                "jax": jax.__version__,
            },
        },
    )
