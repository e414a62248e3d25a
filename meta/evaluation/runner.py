"""Evaluating optimizers on tasks by name: what is missing is computed, chunk by chunk.

A chunk is as many seeds as all devices run at once. A seed's result is a function of the
settings, the optimizer, the seed and of how many seeds a device runs at once (batching alone
changes the last digits, and then the run); the latter is chosen without regard to how many
seeds are asked for, kept in the manifest, and each seed has a fixed place in its batch. So
results do not depend on in how many calls, or after how many crashes, they came about.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from agents import task_presets
from learned_opt.base import MetaParams
from learned_opt.files.serialization import TrainedOptimizer
from learned_opt.names import did_you_mean
from meta import results
from meta.engine import memory
from meta.engine.population import Engine, default_devices
from meta.engine.tasks import Task, make_agent_config, make_task
from meta.evaluation import agents_trained
from meta.evaluation.contestants import Entry
from meta.evaluation.store import Cell, Store
from meta.runs import atomic, progress

# Seeds that a device should run at once if they fit: on CPUs, where few are as fast as many,
# a handful of seeds is shared by two cores.
_CPU_SEEDS = 4
_ACCELERATOR_SEEDS = 16
_STREAM = 20_827  # keeps an evaluation's keys apart from those of training with the same seed


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be evaluated.

    Attributes:
      optimizers: as ``contestants.resolve`` takes them.
      tasks: names of environments.
      workdir: the folder that keeps everything.
      agent: ``ppo`` or ``a2c``; datasets are learned by ``supervised`` whatever it says.
      num_seeds: S, at least 1; intervals need 2.
      total_timesteps: environment steps of each run; None: the paper's for each task.
      untrained: evaluate the untrained control of each learned optimizer, too.
      neutral_dormancy: evaluate each learned optimizer also without its dormancy input.
      seed: of all randomness.
      points: of each learning curve that are logged, at least 1.
      seeds_per_device: how many seeds a device runs at once; 0: what fits.
      agent_options: fields of the agents' settings that differ from the paper's.
      env_options: keyword arguments of the environments.
    """

    optimizers: tuple[str, ...]
    tasks: tuple[str, ...]
    workdir: str
    agent: str = "ppo"
    num_seeds: int = 8
    total_timesteps: int | None = None
    untrained: bool = True
    neutral_dormancy: bool = False
    seed: int = 0
    points: int = 40
    seeds_per_device: int = 0
    agent_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    env_options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("no tasks: give at least one --task, e.g. --task=breakout")
        if self.num_seeds < 1:
            raise ValueError(f"no seeds: --num_seeds must be at least 1, got {self.num_seeds}")
        if self.points < 1:
            raise ValueError(f"--points must be at least 1, got {self.points}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must lie in [0, 2**32), got {self.seed}")
        if self.seeds_per_device < 0:
            raise ValueError(
                f"--chunk must be at least 0 (0: automatic), got {self.seeds_per_device}"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What all results in a folder must share."""
        names = ("agent", "total_timesteps", "seed", "points", "agent_options", "env_options")
        return {name: getattr(self, name) for name in names}


class Job(NamedTuple):
    """An optimizer on a task: its cell, and the seeds that are missing there."""

    entry: Entry
    cell: Cell
    untrained: bool
    block: dict[str, Any]
    missing: list[int]
    width: int


def evaluate(
    request: Request,
    entries: list[Entry],
    store: Store,
    make_engine: Callable[..., Engine] | None = None,
) -> None:
    """Computes what a request asks for and its folder does not have yet.

    Leaves ``results.csv`` beside the chunks.

    Args:
      request: what is asked for.
      entries: its optimizers, resolved.
      store: its folder.
      make_engine: called like ``Engine``, for what is to be recorded besides returns.

    Raises:
      ValueError: bad input; the folder is as it was.
      progress.Stopped: stopped by a signal; finished chunks are kept.
    """
    jobs = _jobs(request, entries, store)
    for job in jobs:
        store.check_cell(job.cell)
    if store.folder.results.exists():
        results.read(store.folder.results)  # raises on a table of another version
    groups = [list(group) for group in _groups(jobs)]
    # Raises before anything runs.
    built = [build(first.entry, first.cell.task, first.block) for first, *_ in groups]
    with store.writing():
        if groups:
            _compute(request, store, groups, built, make_engine or Engine)
        _write_results(store, request.agent)


def _jobs(request: Request, entries: list[Entry], store: Store) -> list[Job]:
    """All cells, with what is missing of each."""
    jobs = []
    for task in dict.fromkeys(request.tasks):
        block = task_block(request, task)
        config = make_agent_config(block["agent"], block["total_timesteps"])
        setting = {"env_options": block["env_options"], "agent": dataclasses.asdict(config)}
        for entry in entries:
            for untrained in (False, True) if entry.has_control and request.untrained else (False,):
                name = results.untrained(entry.name) if untrained else entry.name
                identity = {"optimizer": entry.identity(task, untrained), "task": setting}
                cell = Cell(task, name, identity, entry.source)
                done = store.curves(task, name)
                missing = [seed for seed in range(request.num_seeds) if seed not in done]
                width = store.width(cell)
                if width and request.seeds_per_device not in (0, width):
                    raise ValueError(
                        f"--chunk={request.seeds_per_device}: results of {name} on {task} in "
                        f"{request.workdir} are of chunks of {width} seeds per device, and "
                        "batching changes results; leave the flag out, or give another --workdir"
                    )
                jobs.append(Job(entry, cell, untrained, block, missing, width))
    return jobs


def task_block(request: Request, task: str) -> dict[str, Any]:
    """The task's block, as ``tasks.make_task`` takes it."""
    block = task_presets.task(task)
    total = request.total_timesteps or block["total_timesteps"]
    if total is None:
        known = did_you_mean(task, list(task_presets.HORIZONS))
        raise ValueError(
            f"no paper says how long to train on {task!r}{known}: give --total_timesteps"
        )
    name = task_presets.agent_for(task, request.agent)
    agent = {**block["agent"], "name": name}
    # Options go over what is common and over what the algorithm has of its own.
    own = {**agent.get(name, {}), **request.agent_options}
    agent[name] = own
    return {
        "env": task,
        "env_options": {**block["env_options"], **request.env_options},
        "total_timesteps": int(total),
        "normalizer": 1.0,
        "agent": agent,
    }


def _groups(jobs: list[Job]) -> Iterator[list[Job]]:
    """Jobs with something missing; those of one optimizer and task share a program."""
    together: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        if job.missing:
            together.setdefault((job.cell.task, job.entry.name), []).append(job)
    yield from together.values()


class Built(NamedTuple):
    """A task, and an optimizer that fits it."""

    task: Task
    trained: TrainedOptimizer


def build(entry: Entry, name: str, block: dict[str, Any]) -> Built:
    """Loads the optimizer, makes the task, and sees whether they fit: nothing is compiled.

    Args:
      entry: the optimizer.
      name, block: of the task, as ``make_task`` takes them.

    Raises:
      ValueError: they do not fit, or one cannot be made.
    """
    task = make_task(name, block).final
    trained = entry.load(name).for_run(task.inner_updates)
    if entry.is_learned:

        def train(key: jax.Array) -> Any:
            tx = trained.optimizer.transform(trained.theta)
            return task.agent.train_step(tx, task.agent.init(key, tx))

        try:
            jax.eval_shape(train, jax.random.key(0))
        # Users' networks raise whatever their library raises where shapes do not fit.
        except Exception as error:
            raise ValueError(
                f"the optimizer {entry.name!r} cannot take the task {name!r} (agent "
                f"{task.agent_name}, layers {task.agent.config.widths}): {error}"
            ) from error
    return Built(task, trained)


def _compute(
    request: Request,
    store: Store,
    groups: list[list[Job]],
    built: list[Built],
    make_engine: Callable[..., Engine],
) -> None:
    """Runs all chunks with something missing."""
    stop = progress.StopRequest()
    plans = [
        (group, made, _width(request, store, group, made))
        for group, made in zip(groups, built, strict=True)
    ]
    print(_describe(plans), flush=True)
    devices = len(default_devices())
    total = sum(len(_chunks(job, width * devices)) for group, _, width in plans for job in group)
    with stop.listening(), progress.Progress("evaluation", total, stop) as bar:
        for group, made, width in plans:
            optimizer, agent = made.trained.optimizer, made.task.agent
            engine = make_engine(optimizer, agent, members_per_device=width)
            for job in group:
                store.begin(job.cell, width)
                for chunk in _chunks(job, width * devices):
                    _run_chunk(request, store, job, made, engine, chunk, bar)
                    bar.step()
                _write_results(store, request.agent)


def _width(request: Request, store: Store, group: list[Job], made: Built) -> int:
    """Seeds per device: as it was in this cell, as asked for, or what fits."""
    known = max(job.width for job in group)
    if known or request.seeds_per_device:
        return known or request.seeds_per_device
    mesh = Mesh(np.array(default_devices()), ("seeds",))
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    # members_that_fit takes half of a population on CPUs and a device's share elsewhere.
    population = 2 * _CPU_SEEDS if on_cpu else _ACCELERATOR_SEEDS * mesh.devices.size
    return memory.members_that_fit(made.trained.optimizer, made.task.agent, population, mesh)


def _chunks(job: Job, size: int) -> list[tuple[int, list[int]]]:
    """(first place, missing seeds) of every chunk of which seeds are missing."""
    found: dict[int, list[int]] = {}
    for seed in job.missing:
        found.setdefault(seed - seed % size, []).append(seed)
    return list(found.items())


def _run_chunk(
    request: Request,
    store: Store,
    job: Job,
    made: Built,
    engine: Engine,
    chunk: tuple[int, list[int]],
    bar: progress.Progress,
) -> None:
    """Runs a chunk and writes it."""
    first, seeds = chunk
    # All places of the chunk are run, so that a seed's place in the batch is always the same.
    size = engine.members_per_device(1) * engine.num_devices
    key = jax.random.fold_in(jax.random.key(request.seed), _STREAM)
    recording = engine.run(
        _thetas(made.trained, job.untrained, key, first, size),
        agents_trained.seed_keys(key, first, size),
        points=request.points,
        on_progress=bar.share,
    )
    places = [seed - first for seed in seeds]
    store.write_chunk(
        job.cell,
        seeds,
        recording.env_steps,
        recording.episode_return[places],
        {name: values[places] for name, values in recording.probed.items()},
    )


def _thetas(
    trained: TrainedOptimizer, untrained: bool, key: jax.Array, first: int, count: int
) -> MetaParams:
    """Theta of each place, each leaf ``[count, ...]``; an untrained one is drawn for each."""
    if not untrained:
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), trained.theta)
    keys = agents_trained.seed_keys(jax.random.fold_in(key, _STREAM), first, count)
    # One by one: initialisers may hold decompositions, which must not be batched on CPUs.
    init = jax.jit(trained.optimizer.init)
    drawn = [init(key) for key in keys]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)


def _describe(plans: list[tuple[list[Job], Built, int]]) -> str:
    """What there is to do, in words."""
    devices = default_devices()
    lines = []
    steps = 0
    for group, made, width in plans:
        cost = memory.member_cost(made.trained.optimizer, made.task.agent).total
        for job in group:
            steps += len(job.missing) * made.task.env_steps
            lines.append(
                f"{job.cell.optimizer} on {job.cell.task}: {len(job.missing)} seeds of "
                f"{progress.count(made.task.env_steps)} environment steps, {width} at once on "
                f"each of {len(devices)} {devices[0].platform} device(s), about "
                f"{progress.size(width * cost)} per device"
            )
    return "\n".join([*lines, f"{progress.count(steps)} environment steps in all"])


def _write_results(store: Store, agent: str) -> None:
    """Writes ``results.csv`` anew if it is not what the chunks say."""
    rows = store.rows(agent)
    path = store.folder.results
    if not path.exists() or not _same(results.read(path), results.from_rows(rows)):
        with atomic.replacing(path) as temporary:
            results.append(temporary, rows)


def _same(one: results.Table, other: results.Table) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "episode_return")
        for name in results.COLUMNS
    )
