"""From a config to the objects that it names, checked before anything is compiled."""

import dataclasses
from typing import Any, NamedTuple

import jax

import learned_opt
from learned_opt.base import LearnedOptimizer, MetaParams
from learned_opt.registry import did_you_mean
from meta import evaluation, memory, progress
from meta.evolution import EvolutionConfig, EvolutionTrainer
from meta.population import Engine, default_devices
from meta.tasks import Task, make_task

TRAINERS = ("es",)
_SCHEDULE = ("name", "num_generations", "checkpoint_every", "validate_every", "validation_seeds")


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
    trainer: EvolutionTrainer
    keys: Keys

    @property
    def outer(self) -> dict[str, Any]:
        return self.config["outer"]


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
    outer = config["outer"]
    if outer["name"] not in TRAINERS:
        hint = did_you_mean(outer["name"], list(TRAINERS))
        raise ValueError(
            f"unknown outer loop {outer['name']!r}{hint}; known: {', '.join(TRAINERS)}"
        )
    for name in ("num_generations", "checkpoint_every", "validate_every", "validation_seeds"):
        if outer[name] < 1:
            raise ValueError(f"outer.{name} must be at least 1, got {outer[name]}")
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
    fields = {k: v for k, v in outer.items() if k not in _SCHEDULE}
    known = [field.name for field in dataclasses.fields(EvolutionConfig)]
    for field in fields:
        if field not in known:
            raise ValueError(f"outer has no field {field!r}{did_you_mean(field, known)}")
    trainer = EvolutionTrainer(EvolutionConfig(**fields), optimizer, tasks, engines, initial_theta)
    experiment = Experiment(
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
    for engine in engines:  # raises where one inner loop does not fit in memory
        engine.members_per_device(outer["population_size"])
    return experiment


def _check_evaluation(block: dict[str, Any]) -> None:
    if block["num_seeds"] < 2:
        raise ValueError(
            "evaluation.num_seeds must be at least 2, as intervals need them, got "
            f"{block['num_seeds']}"
        )
    if block["criterion"] not in evaluation.CRITERIA:
        known = list(evaluation.CRITERIA)
        hint = did_you_mean(block["criterion"], known)
        raise ValueError(
            f"unknown evaluation.criterion {block['criterion']!r}{hint}; known: {', '.join(known)}"
        )


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
    outer = experiment.outer
    population = outer["population_size"]
    runs = population * outer["num_rollouts"]
    lines = []
    total_steps = 0
    for task, engine in zip(experiment.tasks, experiment.engines, strict=True):
        cost = memory.member_cost(experiment.optimizer, task.agent)
        batch = engine.members_per_device(runs)
        waves = -(-runs // (batch * engine.num_devices))
        total_steps += runs * task.env_steps
        lines += [
            f"task {task.name} ({task.agent_name}): {progress.count(task.env_steps)} environment "
            f"steps and {progress.count(task.inner_updates)} inner updates per inner run",
            f"  {runs} inner runs per generation: {waves} wave(s) of {batch} on each of "
            f"{engine.num_devices} {default_devices()[0].platform} device(s); about "
            f"{progress.size(cost.total)} per run, {progress.size(batch * cost.total)} per device",
        ]
    generations = outer["num_generations"]
    lines.append(
        f"{generations} generations: {progress.count(generations * total_steps)} environment "
        f"steps in all, {progress.count(total_steps)} per generation"
    )
    return "\n".join(lines)
