"""Training agents with finished optimizers: what is missing is computed, chunk by chunk.

A chunk is as many seeds as all devices run at once. A seed's result is a function of the
settings, the optimizer, the seed and of how many seeds a device runs at once (batching alone
changes the last digits, and then the run); the latter is chosen without regard to how many
seeds are asked for, kept in the manifest, and each seed has a fixed place in its batch. So
results do not depend on in how many calls, or after how many crashes, they came about.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agents import task_presets
from learned_opt.base import MetaParams
from learned_opt.files.serialization import TrainedOptimizer
from learned_opt.names import did_you_mean
from meta import results
from meta.engine import memory
from meta.engine.population import Engine, broadcast_theta, seed_keys
from meta.engine.tasks import Task, make_agent_config, make_task
from meta.evaluation import origin
from meta.evaluation.contestants import Contestant
from meta.evaluation.store import Cell, Store
from meta.runs import progress

# Seeds that a device should run at once if they fit, where nothing else is asked for: on CPUs
# few are as fast as many, and a handful of seeds is shared by two cores.
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
      agent: ``ppo`` or ``a2c``; datasets are learned by ``supervised`` whatever it says. Empty:
        ``ppo``, or that of ``like``.
      num_seeds: S, at least 1; intervals need 2.
      total_timesteps: environment steps of each run; None: the paper's for each task.
      untrained: evaluate the untrained control of each learned optimizer, too.
      neutral_dormancy: evaluate each learned optimizer also without its dormancy input.
      seed: of all randomness.
      points: of each learning curve that are logged, at least 1.
      seeds_per_device: how many seeds a device runs at once; 0: what fits.
      agent_options: fields of the agents' settings that differ from the paper's.
      env_options: keyword arguments of the environments.
      like: a meta-training's or study's folder, or an optimizer's file: its tasks, agents and
        horizons are the ones meant, where nothing else is given. Empty: the papers'.
      tune_baselines: tune handcrafted optimizers where no tuned values are known.
    """

    optimizers: tuple[str, ...]
    tasks: tuple[str, ...]
    workdir: str
    agent: str = ""
    num_seeds: int = 8
    total_timesteps: int | None = None
    untrained: bool = True
    neutral_dormancy: bool = False
    seed: int = 0
    points: int = 40
    seeds_per_device: int = 0
    agent_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    env_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    like: str = ""
    tune_baselines: bool = False

    def __post_init__(self) -> None:
        if self.like and not self.tasks:
            object.__setattr__(self, "tasks", tuple(origin.task_blocks(self.like)))
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
        names = ("total_timesteps", "seed", "points", "agent_options", "env_options")
        shared = {"agent": self.agent or "ppo", **{name: getattr(self, name) for name in names}}
        # What it stands for is in the identity of every result.
        return {**shared, "agent": self.agent, "like": self.like} if self.like else shared

    def evaluation(self, contestants: Sequence[Contestant]) -> "Evaluation":
        """What it comes to, with these contestants."""
        on_cpu = jax.devices()[0].platform == "cpu"
        if self.untrained:
            contestants = [each for one in contestants for each in (one, *one.controls())]
        return Evaluation(
            list(contestants),
            [setting(task, task_block(self, task)) for task in dict.fromkeys(self.tasks)],
            jax.random.fold_in(jax.random.key(self.seed), _STREAM),
            self.num_seeds,
            self.points,
            _CPU_SEEDS if on_cpu else _ACCELERATOR_SEEDS,
            self.seeds_per_device,
        )


class Setting(NamedTuple):
    """A task under the name that results show.

    Attributes:
      name: of the task.
      identity: what results on it depend on; plain JSON.
      make: builds it, as finished optimizers are compared on it.
      env: its environment or dataset; empty: what its name says, or the folder's config.
    """

    name: str
    identity: dict[str, Any]
    make: Callable[[], Task]
    env: str = ""


def setting(name: str, block: dict[str, Any]) -> Setting:
    """A task from its config block; nothing is built yet.

    Raises:
      ValueError: the agent's settings do not fit.
    """
    config = make_agent_config(block["agent"], block["total_timesteps"])
    identity = {"env_options": block["env_options"], "agent": dataclasses.asdict(config)}
    return Setting(name, identity, lambda: make_task(name, block).final, block["env"])


class Evaluation(NamedTuple):
    """What is to be computed.

    Attributes:
      contestants, settings: every contestant on every task, unless it is for some alone.
      key: typed, of which the seeds' keys are folded.
      num_seeds: S.
      points: of each learning curve that are logged.
      wanted: seeds that a device should run at once if they fit.
      seeds_per_device: seeds that a device must run at once; 0: ``wanted`` or what fits.
    """

    contestants: list[Contestant]
    settings: list[Setting]
    key: jax.Array
    num_seeds: int
    points: int
    wanted: int
    seeds_per_device: int = 0


class Run(NamedTuple):
    """A contestant on a task: its cell, the seeds missing there, and what they take.

    Attributes:
      contestant, cell: whose results are missing.
      missing: seeds.
      task, trained: built.
      width: seeds per device.
    """

    contestant: Contestant
    cell: Cell
    missing: list[int]
    task: Task
    trained: TrainedOptimizer
    width: int

    @property
    def program(self) -> tuple:
        """Runs of the same one are compiled once."""
        trained = self.trained.metadata
        options = json.dumps([trained["name"], trained.get("options")], sort_keys=True)
        return self.cell.task, options, self.contestant.neutral_dormancy, self.width


def evaluate(
    evaluation: Evaluation, store: Store, make_engine: Callable[..., Engine] | None = None
) -> None:
    """Computes what is asked for and a folder does not have yet.

    Leaves ``results.csv`` beside the chunks.

    Args:
      evaluation: what is asked for.
      store: the folder.
      make_engine: called like ``Engine``, for what is to be recorded besides returns.

    Raises:
      ValueError: bad input; the folder is as it was.
      progress.Stopped: stopped by a signal; finished chunks are kept.
    """
    for cell in cells(evaluation):
        store.check_cell(cell)
    if store.folder.results.exists():
        results.read(store.folder.results)  # raises on a table of another version
    runs = _prepare(evaluation, store)  # raises before anything runs
    with store.writing():
        try:
            if runs:
                _compute(evaluation, store, runs, make_engine or Engine)
        finally:
            _describe_cells(evaluation, store)
        store.write_results()


def _describe_cells(evaluation: Evaluation, store: Store) -> None:
    """Notes what is known of the contestants beside their results, and keeps their files."""
    for contestant, setting, cell in _cells(evaluation):
        if not store.is_described(cell):
            about = {**contestant.about(cell.task), **({"env": setting.env} if setting.env else {})}
            store.describe(cell, about, contestant.file_sha256)


def cells(evaluation: Evaluation) -> list[Cell]:
    """All cells that an evaluation asks for."""
    return [cell for _, _, cell in _cells(evaluation)]


def _cells(evaluation: Evaluation) -> Iterator[tuple[Contestant, Setting, Cell]]:
    for task in evaluation.settings:
        for one in evaluation.contestants:
            if not one.tasks or task.name in one.tasks:
                identity = {"optimizer": one.identity(task.name), "task": task.identity}
                yield one, task, Cell(task.name, one.name, identity, one.source)


def task_block(request: Request, task: str) -> dict[str, Any]:
    """The task's block, as ``tasks.make_task`` takes it: what is asked for over what is known."""
    block = _known_block(request, task)
    total = request.total_timesteps or block["total_timesteps"]
    if total is None:
        known = did_you_mean(task, list(task_presets.HORIZONS))
        raise ValueError(
            f"no paper says how long to train on {task!r}{known}: give --total_timesteps"
        )
    name = task_presets.agent_for(block["env"], request.agent or block["agent"]["name"])
    agent = {**block["agent"], "name": name}
    # Options go over what is common and over what the algorithm has of its own.
    own = {**agent.get(name, {}), **request.agent_options}
    agent[name] = own
    return {
        "env": block["env"],
        "env_options": {**block["env_options"], **request.env_options},
        "total_timesteps": int(total),
        "normalizer": 1.0,
        "agent": agent,
    }


def _known_block(request: Request, task: str) -> dict[str, Any]:
    """A task's block by the papers, or as the run that is named had it."""
    if not request.like:
        return task_presets.task(task)
    blocks = origin.task_blocks(request.like)
    if task not in blocks:
        raise ValueError(
            f"--like={request.like} has no task {task!r}{did_you_mean(task, list(blocks))}; it "
            f"has {', '.join(blocks)}"
        )
    return blocks[task]


def tuning_setting(request: Request, task: str) -> Setting:
    """A task as baselines are tuned on it: of a dataset, measured on validation examples."""
    block = task_block(request, task)
    return setting(task, block)._replace(make=lambda: make_task(task, block))


def _prepare(evaluation: Evaluation, store: Store) -> list[Run]:
    """What is missing, with tasks and optimizers built and seen to fit: nothing is compiled.

    Raises:
      ValueError: they do not fit, one cannot be made, or the folder has other chunks.
    """
    runs: list[Run] = []
    tasks: dict[str, Task] = {}
    fitting = set()
    for contestant, setting, cell in _cells(evaluation):
        width = _width(evaluation, store, cell)
        done = store.curves(cell.task, cell.optimizer)
        missing = [seed for seed in range(evaluation.num_seeds) if seed not in done]
        if not missing:
            continue
        if cell.task not in tasks:
            tasks[cell.task] = setting.make()
        task = tasks[cell.task]
        trained = contestant.load(cell.task).for_run(task.inner_updates)
        width = width or memory.members_that_fit(
            trained.optimizer, task.agent, evaluation.wanted, jax.devices()
        )
        run = Run(contestant, cell, missing, task, trained, width)
        if contestant.is_learned and run.program not in fitting:
            _check_fit(contestant.name, task, trained)
            _tell_if_far(contestant, task, trained)
        fitting.add(run.program)
        runs.append(run)
    return runs


def _tell_if_far(contestant: Contestant, task: Task, trained: TrainedOptimizer) -> None:
    far = "" if contestant.untrained else origin.far_from(trained.metadata, task)
    if far:
        print(f"note: {contestant.name} on {task.name}: {far}", flush=True)


def _width(evaluation: Evaluation, store: Store, cell: Cell) -> int:
    """Seeds per device: as it was in this cell, or as asked for; 0: what fits."""
    width = store.width(cell)
    if width and evaluation.seeds_per_device not in (0, width):
        raise ValueError(
            f"--chunk={evaluation.seeds_per_device}: results of {cell.optimizer} on "
            f"{cell.task} in {store.folder.path} are of chunks of {width} seeds per device, "
            "and batching changes results; leave the flag out, or give another --workdir"
        )
    return width or evaluation.seeds_per_device


def build(contestant: Contestant, setting: Setting) -> tuple[Task, TrainedOptimizer]:
    """The task and the optimizer, checked to fit; nothing is compiled.

    Raises:
      ValueError: they do not fit, or one cannot be made.
    """
    task = setting.make()
    trained = contestant.load(setting.name).for_run(task.inner_updates)
    if contestant.is_learned:
        _check_fit(contestant.name, task, trained)
    return task, trained


def _check_fit(name: str, task: Task, trained: TrainedOptimizer) -> None:
    """Raises a ``ValueError`` if the optimizer cannot update the task's agent."""

    def train(key: jax.Array) -> Any:
        tx = trained.optimizer.transform(trained.theta)
        return task.agent.train_step(tx, task.agent.init(key, tx))

    try:
        jax.eval_shape(train, jax.random.key(0))
    # Users' networks raise whatever their library raises where shapes do not fit.
    except Exception as error:
        raise ValueError(
            f"the optimizer {name!r} cannot take the task {task.name!r} (agent "
            f"{task.agent_name}, layers {task.agent.config.widths}): {error}"
        ) from error


def _compute(
    evaluation: Evaluation, store: Store, runs: list[Run], make_engine: Callable[..., Engine]
) -> None:
    """Runs all chunks with something missing."""
    print(_describe(runs), flush=True)
    devices = len(jax.devices())
    total = sum(len(_chunks(run.missing, run.width * devices)) for run in runs)
    engines: dict[tuple, Engine] = {}
    stop = progress.StopRequest()
    with stop.listening(), progress.Progress("evaluation", total, stop) as bar:
        for run in runs:
            if run.program not in engines:
                engines[run.program] = make_engine(
                    run.trained.optimizer, run.task.agent, members_per_device=run.width
                )
            store.begin(run.cell, run.width)
            for chunk in _chunks(run.missing, run.width * devices):
                _run_chunk(evaluation, store, run, engines[run.program], chunk, bar)
                bar.step()
            store.write_results()


def _chunks(missing: list[int], size: int) -> list[tuple[int, list[int]]]:
    """(first place, missing seeds) of every chunk of which seeds are missing."""
    chunks: dict[int, list[int]] = {}
    for seed in missing:
        chunks.setdefault(seed - seed % size, []).append(seed)
    return list(chunks.items())


def _run_chunk(
    evaluation: Evaluation,
    store: Store,
    run: Run,
    engine: Engine,
    chunk: tuple[int, list[int]],
    bar: progress.Progress,
) -> None:
    """Runs a chunk and writes it."""
    first, seeds = chunk
    # All places of the chunk are run, so that a seed's place in the batch is always the same.
    size = engine.members_per_device(1) * engine.num_devices
    recording = engine.run(
        _thetas(run, evaluation.key, first, size),
        seed_keys(evaluation.key, first, size),
        points=evaluation.points,
        on_progress=bar.share,
    )
    places = [seed - first for seed in seeds]
    store.write_chunk(
        run.cell,
        seeds,
        recording.env_steps,
        recording.episode_return[places],
        {name: values[places] for name, values in recording.probed.items()},
        recording.no_episode[places],
    )


def _thetas(run: Run, key: jax.Array, first: int, count: int) -> MetaParams:
    """Theta of each place, each leaf ``[count, ...]``; an untrained one is drawn for each."""
    contestant = run.contestant
    if not contestant.untrained:
        return broadcast_theta(run.trained.theta, count)
    if contestant.initial_theta is not None:
        return broadcast_theta(contestant.initial_theta, count)
    keys = seed_keys(jax.random.fold_in(key, _STREAM), first, count)
    # One by one: initialisers may hold decompositions, which must not be batched on CPUs.
    init = jax.jit(run.trained.optimizer.init)
    drawn = [init(key) for key in keys]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)


def _describe(runs: list[Run]) -> str:
    """What there is to do, in words."""
    devices = jax.devices()
    lines = []
    steps = 0
    for _, cell, missing, task, trained, width in runs:
        cost = memory.member_cost(trained.optimizer, task.agent)
        steps += len(missing) * task.env_steps
        lines.append(
            f"{cell.optimizer} on {cell.task}: {len(missing)} seeds of "
            f"{progress.count(task.env_steps)} {task.step_name}, {width} at once on each of "
            f"{len(devices)} {devices[0].platform} device(s), about "
            f"{progress.size(width * cost)} per device"
        )
    return "\n".join([*lines, f"{progress.count(steps)} environment steps in all"])
