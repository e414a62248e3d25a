"""From a config to the objects that it names, checked before anything is compiled."""

import dataclasses
from typing import Any, NamedTuple

import jax

import learned_opt
from learned_opt.base import LearnedOptimizer, MetaParams
from learned_opt.names import did_you_mean
from meta.engine import memory
from meta.engine.population import Engine, default_devices
from meta.engine.tasks import Task, make_task
from meta.evaluation import tuning
from meta.runs import progress
from meta.training.evolution import EvolutionConfig, EvolutionTrainer
from meta.training.meta_gradient import MetaGradientConfig, MetaGradientTrainer
from meta.training.outer_loop import MetaTrainer

# By name: the settings of the outer loop, and the field that says how long it is.
TRAINERS = {
    "es": (EvolutionConfig, "num_generations"),
    "meta_gradient": (MetaGradientConfig, "num_meta_steps"),
}
_SCHEDULE = ("name", "checkpoint_every", "validate_every", "validation_seeds")


class Keys(NamedTuple):
    """Independent streams of a run's randomness, all folded from its seed."""

    training: jax.Array
    validation: jax.Array
    tuning: jax.Array
    evaluation: jax.Array


class Experiment(NamedTuple):
    """Everything that a config names.

    Attributes:
      config: the config as plain dicts.
      optimizer_name, options: what ``learned_opt.make`` was called with.
      optimizer: the family to train.
      initial_theta: where training starts, or None for the family's own.
      tasks: to train on.
      engines: one for each task.
      trainer: the outer loop.
      keys: streams of randomness.
    """

    config: dict[str, Any]
    optimizer_name: str
    options: dict[str, Any]
    optimizer: LearnedOptimizer
    initial_theta: MetaParams | None
    tasks: list[Task]
    engines: list[Engine]
    trainer: MetaTrainer
    keys: Keys

    @property
    def outer(self) -> dict[str, Any]:
        return self.config["outer"]

    @property
    def num_steps(self) -> int:
        """Meta-steps of the whole run."""
        return self.outer[self.length_name]

    @property
    def length_name(self) -> str:
        """The outer loop's field that holds their number."""
        return TRAINERS[self.outer["name"]][1]


def make_keys(seed: int) -> Keys:
    """The streams of a seed."""
    return Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))


def build(config: dict[str, Any]) -> Experiment:
    """Builds an experiment.

    Args:
      config: a config as plain dicts (``ConfigDict.to_dict()``); see ``configs/blocks.py``.

    Raises:
      ValueError, FileNotFoundError: something in it is unknown, out of range or does not
        fit; the message names it and the fix.
    """
    _check_schedule(config["outer"])
    _check_evaluation(config["evaluation"])
    name, options = config["optimizer"]["name"], dict(config["optimizer"]["options"])
    optimizer = learned_opt.make(name, **options)
    initial_theta = _initial_theta(config["initial_theta"], name)
    if not config["tasks"]:
        raise ValueError("the config has no tasks; give at least one under config.tasks")
    tasks = [make_task(task, block) for task, block in config["tasks"].items()]
    _check_baselines(config)
    per_device = config["members_per_device"]
    engines = [Engine(optimizer, task.agent, members_per_device=per_device) for task in tasks]
    trainer = _make_trainer(config["outer"], optimizer, tasks, engines, initial_theta)
    if config["outer"]["name"] == "es":
        for engine in engines:  # raises where one inner loop does not fit in memory
            engine.members_per_device(config["outer"]["population_size"])
    return Experiment(
        config,
        name,
        options,
        optimizer,
        initial_theta,
        tasks,
        engines,
        trainer,
        make_keys(config["seed"]),
    )


def check_outer_loop(name: str) -> None:
    """Raises a ``ValueError`` for a name that is not in ``TRAINERS``."""
    if name not in TRAINERS:
        hint = did_you_mean(name, list(TRAINERS))
        raise ValueError(f"unknown outer loop {name!r}{hint}; known: {', '.join(TRAINERS)}")


def _check_schedule(outer: dict[str, Any]) -> None:
    check_outer_loop(outer["name"])
    for name in (TRAINERS[outer["name"]][1], "checkpoint_every", "validation_seeds"):
        if outer[name] < 1:
            raise ValueError(f"outer.{name} must be at least 1, got {outer[name]}")
    if outer["validate_every"] < 0:
        raise ValueError(
            f"outer.validate_every must be at least 0 (0: never), got {outer['validate_every']}"
        )


def _make_trainer(
    outer: dict[str, Any],
    optimizer: LearnedOptimizer,
    tasks: list[Task],
    engines: list[Engine],
    initial_theta: MetaParams | None,
) -> MetaTrainer:
    settings, length = TRAINERS[outer["name"]]
    fields = {k: v for k, v in outer.items() if k not in (*_SCHEDULE, length)}
    known = [field.name for field in dataclasses.fields(settings)]
    for field in fields:
        if field not in known:
            raise ValueError(f"outer has no field {field!r}{did_you_mean(field, known)}")
    if settings is EvolutionConfig:
        return EvolutionTrainer(EvolutionConfig(**fields), optimizer, tasks, engines, initial_theta)
    return MetaGradientTrainer(MetaGradientConfig(**fields), optimizer, tasks, initial_theta)


def _check_evaluation(block: dict[str, Any]) -> None:
    if block["num_seeds"] < 2:
        raise ValueError(
            "evaluation.num_seeds must be at least 2, as intervals need them, got "
            f"{block['num_seeds']}"
        )
    tuning.check_criterion(block["criterion"], "evaluation.criterion=")


def _check_baselines(config: dict[str, Any]) -> None:
    for task, block in config["tasks"].items():
        for name, options in block["baselines"].items():
            try:
                learned_opt.make(name, **options)
            except ValueError as error:
                raise ValueError(f"task {task!r}, baseline {name!r}: {error}") from error


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
    per_step, unit = experiment.trainer.env_steps_per_step, experiment.trainer.unit
    if isinstance(experiment.trainer, MetaGradientTrainer):
        lines = _pipeline_cost(experiment, experiment.trainer)
    else:
        lines = _population_cost(experiment)
    steps = experiment.num_steps
    what = " and ".join(dict.fromkeys(task.step_name for task in experiment.tasks))
    lines.append(
        f"{steps} {unit}s: {progress.count(steps * per_step)} {what} in all, "
        f"{progress.count(per_step)} per {unit}"
    )
    return "\n".join(lines)


def _population_cost(experiment: Experiment) -> list[str]:
    runs = experiment.outer["population_size"] * experiment.outer["num_rollouts"]
    lines = []
    for task, engine in zip(experiment.tasks, experiment.engines, strict=True):
        cost = memory.member_cost(experiment.optimizer, task.agent)
        batch = engine.members_per_device(runs)
        waves = -(-runs // (batch * engine.num_devices))
        lines += [
            f"task {task.name} ({task.agent_name}): {progress.count(task.env_steps)} "
            f"{task.step_name} and {progress.count(task.inner_updates)} inner updates per inner "
            "run",
            f"  {runs} inner runs per generation: {waves} wave(s) of {batch} on each of "
            f"{engine.num_devices} {default_devices()[0].platform} device(s); about "
            f"{progress.size(cost.total)} per run, {progress.size(batch * cost.total)} per device",
        ]
    return lines


def _pipeline_cost(experiment: Experiment, trainer: MetaGradientTrainer) -> list[str]:
    outer = experiment.outer
    life = f"reset every {outer['reset_interval']} meta-steps" if outer["pipeline"] else "no resets"
    lines = []
    for task, pipeline in zip(experiment.tasks, trainer.pipelines, strict=True):
        cost = pipeline.cost(pipeline.chunk)
        lines.append(
            f"task {task.name} ({task.agent_name}): {outer['num_agents']} agents ({life}), "
            f"{outer['inner_updates']} iterations each per meta-step; {pipeline.chunk} at a time "
            f"on each of {pipeline.num_devices} {default_devices()[0].platform} device(s); about "
            f"{progress.size(cost.total)} per device, {progress.size(cost.state)} of it states"
        )
    return lines
