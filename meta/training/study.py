"""Several meta-trainings compared: variants of one experiment, at one budget.

A study's config holds a ``base`` experiment, ``variants`` (name -> what to change in it), or a
``grid`` (pairs of a field and its values) whose points are the variants, and the ``budget`` in
environment steps that each variant's meta-training may take. Variants are trained one
after the other in folders of their own, each resumable, then evaluated on the same held-out
seeds with the untrained optimizer and tuned baselines beside them.
"""

import copy
import itertools
import math
from typing import Any, NamedTuple

from learned_opt.names import did_you_mean
from meta.runs import progress
from meta.runs.workdir import Workdir
from meta.training import experiment, final_comparison, loop
from meta.training.experiment import TRAINERS, Experiment


class Variant(NamedTuple):
    """One meta-training of a study.

    Attributes:
      name: also of its folder.
      point: the values of the grid's fields there; empty without a grid.
      made: the experiment.
    """

    name: str
    point: tuple[Any, ...]
    made: Experiment


class Study(NamedTuple):
    """All that a study's config names."""

    config: dict[str, Any]
    variants: list[Variant]

    @property
    def grid_fields(self) -> list[str]:
        return [field for field, _ in self.config["grid"]]


def build(config: dict[str, Any]) -> Study:
    """Builds every variant, so that bad input is found before anything runs.

    Raises:
      ValueError: something is unknown or does not fit; names the variant.
    """
    points = _points(config)
    variants = []
    for name, point, changes in points:
        try:
            variants.append(Variant(name, point, _build_variant(config, changes)))
        except ValueError as error:
            raise ValueError(f"variant {name!r}: {error}") from error
    return Study(config, variants)


def _points(config: dict[str, Any]) -> list[tuple[str, tuple, dict[str, Any]]]:
    """(name, grid point, changes by dotted field) of each variant."""
    grid, variants = dict(config["grid"]), config["variants"]
    if bool(grid) == bool(variants):
        raise ValueError("a study needs either variants or a grid, and not both")
    if variants:
        return [(name, (), changes) for name, changes in variants.items()]
    for field, values in grid.items():
        if not values:
            raise ValueError(f"the grid's field {field!r} has no values")
    products = itertools.product(*grid.values())
    return [
        (
            ",".join(f"{f.rsplit('.', 1)[-1]}={v:g}" for f, v in zip(grid, point, strict=True)),
            point,
            dict(zip(grid, point, strict=True)),
        )
        for point in products
    ]


def changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of a config with some fields set.

    Args:
      config: nested dicts.
      changes: dotted field (``outer.learning_rate``) -> value; a whole block may be set, too.

    Raises:
      ValueError: there is no such field.
    """
    config = copy.deepcopy(config)
    for path, value in changes.items():
        *parents, last = path.split(".")
        block = config
        for name in parents:
            block = block.get(name, {})
        if last not in block:
            hint = did_you_mean(last, list(block))
            raise ValueError(f"the base experiment has no field {path!r}{hint}")
        block[last] = value
    return config


def _build_variant(config: dict[str, Any], changes: dict[str, Any]) -> Experiment:
    """The experiment with as many meta-steps as the budget pays for."""
    if config["budget"] < 1 or config["validations"] < 1:
        raise ValueError(
            "budget (environment steps) and validations must be at least 1, got "
            f"{config['budget']} and {config['validations']}"
        )
    block = changed(config["base"], changes)
    outer = block["outer"]
    experiment.check_outer_loop(outer["name"])
    length = TRAINERS[outer["name"]][1]
    per_step = experiment.build(block).trainer.env_steps_per_step
    if per_step > config["budget"]:
        raise ValueError(
            f"one meta-step takes {per_step:,} environment steps, more than the budget of "
            f"{config['budget']:,}; raise the budget to at least {per_step:,}"
        )
    outer[length] = config["budget"] // per_step
    outer["validate_every"] = math.ceil(outer[length] / config["validations"])
    return experiment.build(block)


def describe(study: Study) -> str:
    """What a study takes, in words."""
    lines = [f"{len(study.variants)} meta-trainings of about {study.config['budget']:,} steps each"]
    for variant in study.variants:
        trainer = variant.made.trainer
        spent = variant.made.num_steps * trainer.env_steps_per_step
        lines.append(
            f"  {variant.name}: {variant.made.num_steps} {trainer.unit}s, "
            f"{progress.count(spent)} environment steps"
        )
    return "\n".join(lines)


def run(study: Study, workdir: str) -> None:
    """Trains and evaluates what is not done yet; results are in the folder.

    Raises:
      WorkdirError: the folder belongs to another study.
      progress.Stopped: stopped by a signal; the same call goes on.
    """
    folder = Workdir(workdir)
    folder.claim(study.config)
    print(describe(study), flush=True)
    rivals = []
    for number, variant in enumerate(study.variants, 1):
        print(f"\n{number} of {len(study.variants)}: {variant.name}", flush=True)
        inner = str(folder.path / variant.name)
        loop.train(variant.made, inner)
        rivals.append(final_comparison.trained(variant.made, label(variant), inner))
    first = study.variants[0].made
    # All variants begin with the same theta: one control is enough.
    rivals += rivals[0]._replace(name=first.optimizer_name).controls()
    final_comparison.evaluate(first, workdir, rivals)


def label(variant: Variant) -> str:
    """The name of a variant's result in the tables."""
    return f"{variant.made.optimizer_name} ({variant.name})"
