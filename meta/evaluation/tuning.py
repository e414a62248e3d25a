"""Tuning handcrafted optimizers: many hyperparameters on many seeds in one compiled program.

The protocol of the OPEN paper (appendix C.2): each candidate trains agents on the same few
seeds, and the one with the highest mean score wins. Hyperparameters are theta
(``handcrafted.make_tunable``), so that candidates and seeds are one batched axis of the
population engine. Tuning seeds are never those of an evaluation.

Finished chunks are kept: the same command goes on after a crash, and more values, samples or
seeds add to what is there.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from learned_opt import handcrafted
from learned_opt.base import LearnedOptimizer
from learned_opt.names import did_you_mean
from meta.engine import memory
from meta.engine.population import Engine, default_devices
from meta.engine.tasks import Task, make_agent_config, make_task
from meta.evaluation import agents_trained, runner, tuning_report, tuning_space
from meta.evaluation.store import Cell, Store
from meta.evaluation.tuning_report import Score
from meta.evaluation.tuning_space import Choices, Range, Values
from meta.runs import progress

KIND = "tuning"
_STREAM = 31_013  # keeps tuning's keys apart from those of training and evaluation
# Runs that a device may do at once at most on accelerators; fewer if they do not fit.
_ACCELERATOR_RUNS = 64


class Search(NamedTuple):
    """What is to be tuned.

    Attributes:
      run: one optimizer, one task, seeds, horizon and folder, as evaluations have them.
      space: hyperparameter -> what to try; others keep the optimizer's values.
      search: ``grid`` or ``random``.
      num_samples: draws of a random search.
      criterion: a name in ``evaluation.CRITERIA``.
    """

    run: runner.Request
    space: dict[str, Range | Choices]
    search: str = "grid"
    num_samples: int = 32
    criterion: str = "final_return"


class Member(NamedTuple):
    """One run that is missing: a candidate's cell, its hyperparameters and a seed."""

    cell: Cell
    values: Values
    seed: int


def tune(search: Search) -> str:
    """Computes what is missing of a search and reports; the same again adds nothing.

    Leaves ``preset.json``, ``tuning.csv``, ``tuning.png`` and ``summary.md``.

    Returns:
      The summary as Markdown.

    Raises:
      ValueError: bad input, before anything runs; or every candidate failed.
      progress.Stopped: stopped by a signal; finished chunks are kept.
    """
    run = search.run
    family, fixed = _optimizer(run.optimizers)
    if search.criterion not in agents_trained.CRITERIA:
        known = list(agents_trained.CRITERIA)
        hint = did_you_mean(search.criterion, known)
        raise ValueError(f"unknown --criterion={search.criterion}{hint}; known: {', '.join(known)}")
    found = tuning_space.candidates(
        family, search.space, search.search, search.num_samples, run.seed, fixed
    )
    (task,) = run.tasks
    block = runner.task_block(run, task)
    cells = _cells(family, task, block, found)
    store = Store(run.workdir, {**run.settings, "optimizer": family, "task": task}, KIND)
    for cell in cells:
        store.check_cell(cell)
    missing = _missing(store, cells, found, run.num_seeds)
    built = make_task(task, block) if missing else None  # raises before anything runs
    with store.writing():
        if built is not None:
            _compute(search, store, family, built, missing)
        scores = [
            Score(values, _scores(store, cell, run.num_seeds, search.criterion))
            for cell, values in zip(cells, found, strict=True)
        ]
        about = tuning_report.About(
            family, task, run.agent, search.criterion, list(search.space), block["total_timesteps"]
        )
        return tuning_report.write(store.folder, about, scores)


def _optimizer(names: tuple[str, ...]) -> tuple[str, Values]:
    """The family that is tuned, and the preset that it starts from (``adam:breakout``)."""
    known = sorted(handcrafted.FAMILIES)
    if len(names) != 1 or not names[0]:
        raise ValueError(f"give one --optimizer, of: {', '.join(known)}")
    family, colon, tuned_on = names[0].partition(":")
    if family not in known:
        hint = did_you_mean(family, known)
        raise ValueError(
            f"no handcrafted optimizer {family!r}{hint}; those that can be tuned are "
            f"{', '.join(known)}"
        )
    return family, handcrafted.preset(family, tuned_on) if colon else {}


def _cells(family: str, task: str, block: dict[str, Any], found: list[Values]) -> list[Cell]:
    """A cell for each candidate, named by all of its hyperparameters."""
    from dataclasses import asdict

    config = make_agent_config(block["agent"], block["total_timesteps"])
    setting = {"env_options": block["env_options"], "agent": asdict(config)}
    return [
        Cell(
            task,
            f"{family} ({tuning_space.describe(values, sorted(values))})",
            {"optimizer": {"name": family, **values}, "task": setting},
            family,
        )
        for values in found
    ]


def _missing(store: Store, cells: list[Cell], found: list[Values], num_seeds: int) -> list[Member]:
    members = []
    for cell, values in zip(cells, found, strict=True):
        done = store.curves(cell.task, cell.optimizer)
        members += [Member(cell, values, s) for s in range(num_seeds) if s not in done]
    return members


def _compute(search: Search, store: Store, family: str, task: Task, missing: list[Member]) -> None:
    """Runs what is missing, as many runs at once as fit, and writes each chunk."""
    optimizer = handcrafted.make_tunable(family)
    width = _width(search, store, optimizer, task, missing)
    wave = width * len(default_devices())
    chunks = [missing[start : start + wave] for start in range(0, len(missing), wave)]
    steps = len(missing) * task.env_steps
    print(
        f"{family} on {task.name}: {len(missing)} runs of {progress.count(task.env_steps)} "
        f"environment steps, {wave} at once; {progress.count(steps)} environment steps in all",
        flush=True,
    )
    engine = Engine(optimizer, task.agent, members_per_device=width)
    key = jax.random.fold_in(jax.random.key(search.run.seed), _STREAM)
    stop = progress.StopRequest()
    with stop.listening(), progress.Progress("tuning", len(chunks), stop) as bar:
        for chunk in chunks:
            _run_chunk(search, store, engine, key, width, chunk, bar)
            bar.step()


def _width(
    search: Search, store: Store, optimizer: LearnedOptimizer, task: Task, missing: list[Member]
) -> int:
    """Runs per device: as asked for, as it was in this folder, or what fits."""
    known = store.width(missing[0].cell) if store.cells() else 0
    if search.run.seeds_per_device or known:
        return search.run.seeds_per_device or known
    mesh = Mesh(np.array(default_devices()), ("runs",))
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    most = len(missing) if on_cpu else min(len(missing), _ACCELERATOR_RUNS * mesh.devices.size)
    return memory.members_that_fit(optimizer, task.agent, most, mesh)


def _run_chunk(
    search: Search,
    store: Store,
    engine: Engine,
    key: jax.Array,
    width: int,
    chunk: list[Member],
    bar: progress.Progress,
) -> None:
    """Runs a chunk and writes it, a file for each candidate in it."""
    theta = {
        name: jnp.array([float(member.values[name]) for member in chunk], jnp.float32)
        for name in chunk[0].values
    }
    seeds = jnp.array([member.seed for member in chunk])
    keys = jax.vmap(lambda seed: jax.random.fold_in(key, seed))(seeds)
    recording = engine.run(theta, keys, points=search.run.points, on_progress=bar.share)
    for cell in {member.cell.optimizer: member.cell for member in chunk}.values():
        places = [i for i, member in enumerate(chunk) if member.cell == cell]
        store.begin(cell, width)
        store.write_chunk(
            cell,
            [chunk[i].seed for i in places],
            recording.env_steps,
            recording.episode_return[places],
        )


def _scores(store: Store, cell: Cell, num_seeds: int, criterion: str) -> np.ndarray:
    """``[S]``, NaN for runs that failed."""
    curves = store.curves(cell.task, cell.optimizer)
    returns = np.array([curves[seed].episode_return for seed in range(num_seeds)])
    return agents_trained.CRITERIA[criterion](returns)
