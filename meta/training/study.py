"""Several meta-trainings compared: variants of one experiment, at one budget.

A study's config holds a ``base`` experiment, ``variants`` (name -> what to change in it), or a
``grid`` (pairs of a field and its values) whose points are the variants, and the ``budget`` in
environment steps that each variant's meta-training may take. Variants are trained one
after the other in folders of their own, each resumable, then evaluated on the same held-out
seeds with the untrained optimizer and tuned baselines beside them.
"""

import copy
import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from learned_opt import settings
from learned_opt.names import did_you_mean
from meta.runs import progress
from meta.runs.workdir import Workdir, flatten
from meta.training import experiment, final_comparison, loop
from meta.training.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """A study's config, as the module's docstring tells."""

    base: dict[str, Any]
    budget: int
    validations: int
    variants: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    grid: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.budget < 1 or self.validations < 1:
            raise ValueError(
                "budget (environment steps) and validations must be at least 1, got "
                f"{self.budget} and {self.validations}"
            )


class Variant(NamedTuple):
    """One meta-training of a study.

    Attributes:
      name: also of its folder.
      point: the values of the grid's fields there; empty without a grid.
      experiment: what is trained.
      differences: dotted field -> value, where its config is not the base's.
    """

    name: str
    point: tuple[Any, ...]
    experiment: Experiment
    differences: dict[str, Any]

    @property
    def label(self) -> str:
        """The name of its result in the tables."""
        return f"{self.experiment.optimizer_name} ({self.name})"


class Study(NamedTuple):
    """All that a study's config names.

    Attributes:
      config: as plain dicts: a record to be written.
      budget: environment steps that each meta-training may take.
      grid: dotted field -> its values; empty where variants are named.
      variants: what is compared, at least one.
    """

    config: dict[str, Any]
    budget: int
    grid: dict[str, tuple[Any, ...]]
    variants: list[Variant]


def build(config: dict[str, Any]) -> Study:
    """Builds every variant, so that bad input is found before anything runs.

    Raises:
      ValueError: something is unknown or does not fit; names the variant.
    """
    if isinstance(config, Mapping) and {"outer", "tasks"} & set(config):
        raise ValueError(
            "this is the config of one meta-training, and no study: run it by launchers/train.py "
            "or meta.train"
        )
    config = copy.deepcopy(config)
    blocks = settings.read(_Blocks, config, "the study's config")
    base, grid = blocks.base, {field: tuple(values) for field, values in blocks.grid}
    variants, start = [], flatten(base)
    for name, point, changes in _points(grid, blocks.variants):
        try:
            affordable = _affordable(changed(base, changes), blocks.budget, blocks.validations)
        except ValueError as error:
            raise ValueError(f"variant {name!r}: {error}") from error
        if "outer" in changes:  # a variant's own block is recorded with the length it is given
            changes["outer"] = affordable.config["outer"]
        fields = flatten(affordable.config)
        differences = {f: v for f, v in fields.items() if f not in start or start[f] != v}
        variants.append(Variant(name, point, affordable, differences))
    return Study(config, blocks.budget, grid, variants)


def _points(
    grid: dict[str, tuple[Any, ...]], variants: dict[str, dict[str, Any]]
) -> list[tuple[str, tuple, dict[str, Any]]]:
    """(name, grid point, changes by dotted field) of each variant."""
    if bool(grid) == bool(variants):
        raise ValueError("a study needs either variants or a grid, and not both")
    if variants:
        return [(name, (), changes) for name, changes in variants.items()]
    for field, values in grid.items():
        if not values:
            raise ValueError(f"the grid's field {field!r} has no values")
    points = []
    for point in itertools.product(*grid.values()):
        changes = dict(zip(grid, point, strict=True))
        name = ",".join(f"{f.rsplit('.', 1)[-1]}={v:g}" for f, v in changes.items())
        points.append((name, point, changes))
    return points


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


def _affordable(config: dict[str, Any], budget: int, validations: int) -> Experiment:
    """The experiment with as many meta-steps as the budget pays for."""
    once = experiment.build(config)
    per_step = once.trainer.env_steps_per_step
    if per_step > budget:
        raise ValueError(
            f"one meta-step takes {per_step:,} environment steps, more than the budget of "
            f"{budget:,}; raise the budget to at least {per_step:,}"
        )
    num_steps = budget // per_step
    length = {
        once.outer_loop.length: num_steps,
        "validate_every": math.ceil(num_steps / validations),
    }
    return experiment.build({**config, "outer": {**config["outer"], **length}})


def describe(study: Study) -> str:
    """What a study takes, in words."""
    lines = [f"{len(study.variants)} meta-trainings of about {study.budget:,} steps each"]
    for variant in study.variants:
        trainer, num_steps = variant.experiment.trainer, variant.experiment.schedule.num_steps
        spent = num_steps * trainer.env_steps_per_step
        lines.append(
            f"  {variant.name}: {num_steps} {trainer.unit}s, "
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
        loop.train(variant.experiment, inner)
        rivals.append(final_comparison.trained(variant.experiment, variant.label, inner))
    first = study.variants[0].experiment
    # All variants begin with the same theta: one control is enough.
    rivals += rivals[0]._replace(name=first.optimizer_name).controls()
    final_comparison.evaluate(first, workdir, rivals)
