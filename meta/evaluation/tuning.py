"""Tuning handcrafted optimizers: many hyperparameters on many seeds in one compiled program.

The protocol of the OPEN paper (appendix C.2): each candidate trains agents on the same few
seeds, and the one with the highest mean score wins. Hyperparameters are theta
(``handcrafted.make_tunable``), so that candidates and seeds are one batched axis of the
population engine. Tuning seeds are never those of an evaluation.

Finished chunks are kept: the same command goes on after a crash, and more values, samples or
seeds add to what is there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt import handcrafted
from learned_opt.base import LearnedOptimizer
from learned_opt.names import did_you_mean
from meta.engine import memory
from meta.engine.population import Engine
from meta.engine.tasks import Task
from meta.evaluation import runner, tuning_report, tuning_space
from meta.evaluation.store import Cell, Store
from meta.evaluation.tuning_report import Candidate
from meta.evaluation.tuning_space import Choices, Range, Values
from meta.runs import progress

KIND = "tuning"
_STREAM = 31_013  # keeps tuning's keys apart from those of training and evaluation
_MOST_RUNS = 64  # that a device may do at once; fewer if they do not fit


def _area(curves: np.ndarray) -> np.ndarray:
    """The mean return over the points where an episode has ended; NaN if there is none at last."""
    known = ~np.isnan(curves)
    with np.errstate(invalid="ignore"):  # 0 / 0 of a run without any
        mean: np.ndarray = np.where(known, curves, 0.0).sum(axis=1) / known.sum(axis=1)
    return np.where(known[:, -1], mean, np.nan)


# What a tuned baseline is chosen by, from curves [S, K] to scores [S].
CRITERIA: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "final_return": lambda curve: curve[:, -1],
    "area": _area,
}


class Search(NamedTuple):
    """What is to be tuned, as a user asks for it.

    Attributes:
      run: one optimizer, one task, seeds, horizon and folder, as evaluations have them.
      space: hyperparameter -> what to try; others keep the optimizer's values.
      search: ``grid`` or ``random``.
      num_samples: draws of a random search.
      criterion: a name in ``CRITERIA``.
    """

    run: runner.Request
    space: dict[str, Range | Choices]
    search: str = "grid"
    num_samples: int = 32
    criterion: str = "final_return"


class Trials(NamedTuple):
    """Candidates of one optimizer on one task.

    Attributes:
      workdir: the folder that keeps everything.
      shared: what all results in it must share besides optimizer and task; plain JSON.
      optimizer: a name in ``handcrafted.FAMILIES``.
      setting: the task.
      candidates: all hyperparameters of each.
      searched: names of those that differ.
      key: typed, of which the seeds' keys are folded; another than an evaluation's.
      num_seeds: S, of each candidate.
      points: of each learning curve.
      criterion: a name in ``CRITERIA``.
      runs_per_device: that a device does at once; 0: what fits.
    """

    workdir: str
    shared: dict[str, Any]
    optimizer: str
    setting: runner.Setting
    candidates: list[Values]
    searched: list[str]
    key: jax.Array
    num_seeds: int
    points: int
    criterion: str
    runs_per_device: int = 0

    @property
    def cells(self) -> list[Cell]:
        """A cell for each candidate, named by all of its hyperparameters."""
        return [
            Cell(
                self.setting.name,
                f"{self.optimizer} ({tuning_space.describe(values, sorted(values))})",
                {
                    "optimizer": {"name": self.optimizer, **values},
                    "task": self.setting.identity,
                },
                self.optimizer,
            )
            for values in self.candidates
        ]


class Member(NamedTuple):
    """One run that is missing: a candidate's cell, its hyperparameters and a seed."""

    cell: Cell
    values: Values
    seed: int


def tune(search: Search) -> str:
    """Runs a search as ``run`` does.

    Returns:
      The summary as Markdown.

    Raises:
      ValueError: bad input, before anything runs; or every candidate failed.
      progress.Stopped: stopped by a signal; finished chunks are kept.
    """
    request = search.run
    family, fixed = _optimizer(request.optimizers)
    check_criterion(search.criterion, "--criterion=")
    candidates = tuning_space.candidates(
        family, search.space, search.search, search.num_samples, request.seed, fixed
    )
    (task,) = request.tasks
    setting = runner.tuning_setting(request, task)
    return run(
        Trials(
            request.workdir,
            request.settings,
            family,
            setting,
            candidates,
            list(search.space),
            jax.random.fold_in(jax.random.key(request.seed), _STREAM),
            request.num_seeds,
            request.points,
            search.criterion,
            request.seeds_per_device,
        )
    )


def run(trials: Trials) -> str:
    """Computes what is missing of some trials and reports; the same again adds nothing.

    Leaves ``preset.json``, ``tuning.csv``, ``tuning.png`` and ``summary.md``.

    Returns:
      The summary as Markdown.

    Raises:
      ValueError: bad input, before anything runs; or every candidate failed, or ended no
        episode.
      progress.Stopped: stopped by a signal; finished chunks are kept.
    """
    family, task = trials.optimizer, trials.setting.name
    store = Store(trials.workdir, {**trials.shared, "optimizer": family, "task": task}, KIND)
    cells = trials.cells
    for cell in cells:
        store.check_cell(cell)
    missing = _missing(trials, store)
    made = trials.setting.make() if missing else None  # raises before anything runs
    with store.writing():
        if made is not None:
            _compute(trials, store, made, missing)
        _check_episodes(trials, store)
        scored = [
            _candidate(trials, store, cell, values)
            for cell, values in zip(cells, trials.candidates, strict=True)
        ]
        agent = trials.setting.identity["agent"]
        about = tuning_report.About(
            family,
            task,
            agent["algorithm"],
            trials.criterion,
            trials.searched,
            agent["total_timesteps"],
        )
        return tuning_report.write(store.folder, about, scored)


def check_criterion(name: str, asked_by: str) -> None:
    """Raises a ``ValueError`` if there is no such criterion.

    Args:
      name: of the criterion.
      asked_by: what stands before it in the message.
    """
    if name not in CRITERIA:
        hint = did_you_mean(name, list(CRITERIA))
        raise ValueError(f"unknown {asked_by}{name}{hint}; known: {', '.join(CRITERIA)}")


def _optimizer(names: tuple[str, ...]) -> tuple[str, Values]:
    """The family that is tuned, and the preset that it starts from (``adam:breakout``)."""
    if len(names) != 1 or not names[0]:
        known = ", ".join(handcrafted.known_names())
        raise ValueError(f"give one --optimizer, of: {known}")
    named = handcrafted.spelled(names[0])
    if named is None:
        handcrafted.family(names[0].partition(":")[0])  # raises: only these can be tuned
        raise AssertionError(names)
    family, given = named
    start = handcrafted.preset(family, given.pop("preset")) if "preset" in given else {}
    return family, {**start, **given}


def _missing(trials: Trials, store: Store) -> list[Member]:
    members = []
    for cell, values in zip(trials.cells, trials.candidates, strict=True):
        done = store.curves(cell.task, cell.optimizer)
        members += [Member(cell, values, s) for s in range(trials.num_seeds) if s not in done]
    return members


def _compute(trials: Trials, store: Store, task: Task, missing: list[Member]) -> None:
    """Runs what is missing, as many runs at once as fit, and writes each chunk."""
    # What is no number is the same for all candidates.
    optimizer = handcrafted.make_tunable(trials.optimizer, **trials.candidates[0])
    width = _width(trials, store, optimizer, task, missing)
    wave = width * len(jax.devices())
    chunks = [missing[start : start + wave] for start in range(0, len(missing), wave)]
    steps = len(missing) * task.env_steps
    print(
        f"{trials.optimizer} on {task.name}: {len(missing)} runs of "
        f"{progress.count(task.env_steps)} {task.step_name}, {wave} at once; "
        f"{progress.count(steps)} in all",
        flush=True,
    )
    engine = Engine(optimizer, task.agent, members_per_device=width)
    stop = progress.StopRequest()
    with stop.listening(), progress.Progress("tuning", len(chunks), stop) as bar:
        for chunk in chunks:
            _run_chunk(trials, store, engine, width, chunk, bar)
            bar.step()


def _width(
    trials: Trials, store: Store, optimizer: LearnedOptimizer, task: Task, missing: list[Member]
) -> int:
    """Runs per device: as asked for, as it was in this folder, or what fits."""
    known = store.width(missing[0].cell) if store.cells() else 0
    if trials.runs_per_device or known:
        return trials.runs_per_device or known
    wanted = min(memory.share_of(len(missing), jax.devices()), _MOST_RUNS)
    return memory.members_that_fit(optimizer, task.agent, wanted, jax.devices())


def _run_chunk(
    trials: Trials,
    store: Store,
    engine: Engine,
    width: int,
    chunk: list[Member],
    bar: progress.Progress,
) -> None:
    """Runs a chunk and writes it, a file for each candidate in it."""
    rows = [handcrafted.tunable(trials.optimizer, member.values) for member in chunk]
    theta = {name: jnp.array([row[name] for row in rows], jnp.float32) for name in rows[0]}
    seeds = jnp.array([member.seed for member in chunk])
    keys = jax.vmap(lambda seed: jax.random.fold_in(trials.key, seed))(seeds)
    recording = engine.run(theta, keys, points=trials.points, on_progress=bar.share)
    for cell in {member.cell.optimizer: member.cell for member in chunk}.values():
        places = [i for i, member in enumerate(chunk) if member.cell == cell]
        store.begin(cell, width)
        store.write_chunk(
            cell,
            [chunk[i].seed for i in places],
            recording.env_steps,
            recording.episode_return[places],
            None,
            recording.no_episode[places],
        )


def _check_episodes(trials: Trials, store: Store) -> None:
    """Raises a ``ValueError`` if no episode has ended in any run: there is nothing to choose by."""
    curves = [
        curve for cell in trials.cells for curve in store.curves(cell.task, cell.optimizer).values()
    ]
    if all(curve.no_episode == len(curve.env_steps) for curve in curves):
        steps = trials.setting.identity["agent"]["total_timesteps"]
        raise ValueError(
            f"no episode of {trials.setting.name} has ended in {steps:,} steps of any run, so "
            "there is nothing to choose by: give more --total_timesteps, or fewer num_envs"
        )


def _candidate(trials: Trials, store: Store, cell: Cell, values: Values) -> Candidate:
    """With scores ``[S]``, NaN for runs that failed or ended no episode."""
    found = store.curves(cell.task, cell.optimizer)
    curves = [found[seed] for seed in range(trials.num_seeds)]
    scores = CRITERIA[trials.criterion](np.array([curve.episode_return for curve in curves]))
    unended = any(curve.no_episode == len(curve.env_steps) for curve in curves)
    return Candidate(values, scores, no_episode=unended)
