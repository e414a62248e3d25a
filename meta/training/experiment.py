"""From a config to the objects that it names, checked before anything is compiled.

Below ``build`` only typed settings travel; the config itself is kept as a record.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

import learned_opt
from learned_opt import settings
from learned_opt.base import LearnedOptimizer, MetaParams
from meta.engine.population import Engine
from meta.engine.tasks import Task, make_task
from meta.evaluation import tuning
from meta.runs import progress
from meta.runs.logs import LogSettings
from meta.training import outer_loop
from meta.training.outer_loop import MetaTrainer, OuterLoop, Schedule


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """How the result is compared with the untrained optimizer and the baselines.

    Attributes:
      num_seeds: S, held out, >= 2.
      points: of each return curve.
      criterion: what baselines are tuned by: a name in ``tuning.CRITERIA``.
      learning_rates: of baselines, to tune over; empty: as the task says.
      tuning_seeds: per learning rate.
    """

    num_seeds: int = 16
    points: int = 40
    criterion: str = "final_return"
    learning_rates: tuple[float, ...] = ()
    tuning_seeds: int = 8

    def __post_init__(self):
        if self.num_seeds < 2:
            raise ValueError(
                "evaluation.num_seeds must be at least 2, as intervals need them, got "
                f"{self.num_seeds}"
            )
        tuning.check_criterion(self.criterion, "evaluation.criterion=")


@dataclasses.dataclass(frozen=True)
class _Optimizer:
    """The config's block ``optimizer``: what ``learned_opt.make`` is called with."""

    name: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """A config's own fields; ``configs/blocks.py`` says what each is for."""

    optimizer: dict[str, Any]
    tasks: dict[str, dict[str, Any]]
    outer: dict[str, Any]
    evaluation: dict[str, Any] = dataclasses.field(default_factory=dict)
    logging: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    initial_theta: str = ""
    members_per_device: int = 0
    mode: str = "full"  # or smoke: of readers' concern alone

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in [0, 2**32), got {self.seed}")
        if self.members_per_device < 0:
            raise ValueError(
                "members_per_device must be at least 0 (0: what fits), got "
                f"{self.members_per_device}"
            )


class Keys(NamedTuple):
    """Independent streams of a run's randomness, all folded from its seed."""

    training: jax.Array
    validation: jax.Array
    tuning: jax.Array
    evaluation: jax.Array


class Experiment(NamedTuple):
    """Everything that a config names.

    Attributes:
      config: the config as plain dicts: a record to be written, and nothing to look things up in.
      seed: of all randomness.
      keys: streams of it.
      optimizer_name, options: what ``learned_opt.make`` was called with.
      optimizer: the family to train.
      initial_theta: where training starts, or None for the family's own.
      tasks: to train on.
      engines: one for each task.
      members_per_device: of the engines; 0: automatic.
      baselines: task's name -> optimizer's name -> its options.
      outer_loop, trainer: how theta is trained.
      schedule: for how long, and what is saved and validated when.
      evaluation: how the result is compared.
      logging: live logs.
    """

    config: dict[str, Any]
    seed: int
    keys: Keys
    optimizer_name: str
    options: dict[str, Any]
    optimizer: LearnedOptimizer
    initial_theta: MetaParams | None
    tasks: list[Task]
    engines: list[Engine]
    members_per_device: int
    baselines: dict[str, dict[str, dict[str, Any]]]
    outer_loop: OuterLoop
    trainer: MetaTrainer
    schedule: Schedule
    evaluation: EvaluationSettings
    logging: LogSettings


def build(config: dict[str, Any]) -> Experiment:
    """Builds an experiment.

    Args:
      config: a config as plain dicts (``ConfigDict.to_dict()``); see ``configs/blocks.py``.

    Raises:
      ValueError, FileNotFoundError: something in it is unknown, out of range or does not
        fit; the message names it and the fix.
    """
    blocks = _blocks(config)
    loop, loop_settings, schedule = outer_loop.read(blocks.outer)
    evaluation = settings.read(EvaluationSettings, blocks.evaluation, "evaluation", "evaluation.")
    logging = settings.read(LogSettings, blocks.logging, "logging", "logging.")
    chosen = settings.read(_Optimizer, blocks.optimizer, "optimizer", "optimizer.")
    name, options = chosen.name, dict(chosen.options)
    optimizer = learned_opt.make(name, **options)
    initial_theta = _initial_theta(blocks.initial_theta, name)
    if not blocks.tasks:
        raise ValueError("the config has no tasks; give at least one under config.tasks")
    tasks = [make_task(task, block) for task, block in blocks.tasks.items()]
    baselines = {task: _baselines(task, block) for task, block in blocks.tasks.items()}
    per_device = blocks.members_per_device
    engines = [Engine(optimizer, task.agent, members_per_device=per_device) for task in tasks]
    return Experiment(
        config=config,
        seed=blocks.seed,
        keys=Keys(*jax.random.split(jax.random.key(blocks.seed), len(Keys._fields))),
        optimizer_name=name,
        options=options,
        optimizer=optimizer,
        initial_theta=initial_theta,
        tasks=tasks,
        engines=engines,
        members_per_device=per_device,
        baselines=baselines,
        outer_loop=loop,
        trainer=loop.make(loop_settings, optimizer, tasks, engines, initial_theta),
        schedule=schedule,
        evaluation=evaluation,
        logging=logging,
    )


def _blocks(config: dict[str, Any]) -> _Blocks:
    if isinstance(config, Mapping) and {"base", "budget"} & set(config):
        raise ValueError(
            "this is a study's config, which compares several meta-trainings: run it by "
            "launchers/compare.py or meta.compare"
        )
    return settings.read(_Blocks, config, "the config")


def _baselines(task: str, block: dict[str, Any]) -> dict[str, dict[str, Any]]:
    baselines = block.get("baselines", {})
    for name, options in baselines.items():
        try:
            learned_opt.make(name, **settings.value(dict, options, "options"))
        except ValueError as error:
            raise ValueError(f"task {task!r}, baseline {name!r}: {error}") from error
    return {name: dict(options) for name, options in baselines.items()}


def _initial_theta(path: str, name: str) -> MetaParams | None:
    if not path:
        return None
    trained = learned_opt.load(path)
    if trained.metadata["name"] != name:
        raise ValueError(
            f"initial_theta={path!r} holds theta of {trained.metadata['name']!r}, but the "
            f"config trains {name!r}"
        )
    return trained.theta


def describe_cost(experiment: Experiment) -> str:
    """What a run takes, in words: steps, updates, memory."""
    trainer, steps = experiment.trainer, experiment.schedule.num_steps
    per_step, unit = trainer.env_steps_per_step, trainer.unit
    what = " and ".join(dict.fromkeys(task.step_name for task in experiment.tasks))
    total = (
        f"{steps} {unit}s: {progress.count(steps * per_step)} {what} in all, "
        f"{progress.count(per_step)} per {unit}"
    )
    return "\n".join([*trainer.describe_cost(), total])
