"""Outer loops by name, and what one is: all that the rest knows of how theta is trained.

A further one is a module like ``evolution`` and a row in ``_OUTER_LOOPS``, or a call of
``register`` in a user's own config file.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax

from learned_opt import settings
from learned_opt.base import LearnedOptimizer, MetaParams
from learned_opt.names import did_you_mean
from meta.engine.population import Engine, ProgressFunction
from meta.engine.tasks import Task
from meta.results import meta_gradient_plots
from meta.results.looks import Shown
from meta.training import evolution, meta_gradient

MetaState = Any  # one pytree; a checkpoint is that pytree, and a resumed run continues bit for bit


class MetaTrainer(Protocol):
    """An outer loop of some settings, for an optimizer, on one or several tasks."""

    @property
    def unit(self) -> str:
        """What one meta-step is called, in the singular."""
        ...

    @property
    def env_steps_per_step(self) -> int:
        """Environment steps of one meta-step."""
        ...

    def describe_cost(self) -> list[str]:
        """What one meta-step runs on each task and the memory that it takes: lines of words."""
        ...

    def init(self, key: jax.Array) -> MetaState:
        """The state before the first meta-step."""
        ...

    def step(
        self, state: MetaState, on_progress: ProgressFunction | None = None
    ) -> tuple[MetaState, dict[str, float]]:
        """One meta-step; ``state`` may be consumed. ``on_progress`` may raise to stop."""
        ...

    def theta(self, state: MetaState) -> MetaParams:
        """The current theta."""
        ...

    def steps_done(self, state: MetaState) -> int:
        """Meta-steps done."""
        ...

    def headline(self, metrics: dict[str, float]) -> dict[str, float]:
        """What a progress bar shows of a step's metrics."""
        ...


class OuterLoop(NamedTuple):
    """An outer loop as configs, runs, studies and reports know it.

    Attributes:
      name: in configs, ``outer.name``.
      title: what meta-training is done by, in words.
      length: the config's field that says how many meta-steps there are.
      settings: a frozen dataclass; the config's other fields, with their defaults.
      make: (settings, optimizer, tasks, engines, initial theta or None) -> trainer. Engines are
        one for each task. Raises a ``ValueError`` where something does not fit in memory.
      plot: (rows of the metrics table, names of tasks, path of a file, results as they are shown
        or None): draws how meta-training went; with results it may draw further files beside it.
      caption: of the plot.
      schedule: defaults of ``Schedule`` that are this loop's own.
      smoke: fields of the config block that make a run of seconds.
    """

    name: str
    title: str
    length: str
    settings: type
    make: Callable[
        [Any, LearnedOptimizer, Sequence[Task], Sequence[Engine], MetaParams | None], MetaTrainer
    ]
    plot: Callable[[Sequence[dict[str, float]], Sequence[str], Path, Shown | None], object]
    caption: str
    schedule: Mapping[str, Any] = {}
    smoke: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When a run ends, is saved and is validated: fields of every outer loop's config block.

    Attributes:
      num_steps: meta-steps of the whole run, >= 1.
      checkpoint_every: meta-steps between checkpoints, >= 1.
      validate_every: meta-steps between validations of theta; 0: never, and the last theta is
        the result.
      validation_seeds: S, agents trained for a validation on each task, >= 1.
    """

    num_steps: int
    checkpoint_every: int = 1
    validate_every: int = 0
    validation_seeds: int = 8

    def __post_init__(self):
        for name in ("checkpoint_every", "validation_seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"outer.{name} must be at least 1, got {getattr(self, name)}")
        if self.validate_every < 0:
            raise ValueError(
                f"outer.validate_every must be at least 0 (0: never), got {self.validate_every}"
            )


_SCHEDULE = ("checkpoint_every", "validate_every", "validation_seeds")
_OUTER_LOOPS: dict[str, OuterLoop] = {}


def names() -> list[str]:
    """The names of all outer loops."""
    return sorted(_OUTER_LOOPS)


def get(name: str) -> OuterLoop:
    """An outer loop by name; ``ValueError`` if unknown, with the known ones."""
    if name not in _OUTER_LOOPS:
        hint = did_you_mean(name, names())
        raise ValueError(f"unknown outer loop {name!r}{hint}; known: {', '.join(names())}")
    return _OUTER_LOOPS[name]


def register(outer_loop: OuterLoop) -> None:
    """Adds an outer loop; ``ValueError`` if its name is taken."""
    if outer_loop.name in _OUTER_LOOPS:
        raise ValueError(f"an outer loop named {outer_loop.name!r} exists already; choose another")
    _OUTER_LOOPS[outer_loop.name] = outer_loop


def block(name: str, num_steps: int) -> dict[str, Any]:
    """A config's block ``outer`` with all defaults, for so many meta-steps."""
    outer_loop = get(name)
    schedule = Schedule(num_steps, **outer_loop.schedule)
    return {
        "name": name,
        outer_loop.length: num_steps,
        **dataclasses.asdict(outer_loop.settings()),
        **{field: getattr(schedule, field) for field in _SCHEDULE},
    }


def read(block: dict[str, Any]) -> tuple[OuterLoop, Any, Schedule]:
    """The outer loop that a config's block names, its settings, and the schedule.

    Raises:
      ValueError: unknown name or field, or a value out of range.
    """
    if "name" not in block:
        raise ValueError(f"outer.name is missing; known: {', '.join(names())}")
    fields = dict(block)
    outer_loop = get(settings.value(str, fields.pop("name"), "outer.name"))
    length = outer_loop.length
    if length not in fields:
        raise ValueError(f"outer.{length} is missing: how long {outer_loop.name!r} trains")
    num_steps = settings.value(int, fields.pop(length), f"outer.{length}")
    if num_steps < 1:
        raise ValueError(f"outer.{length} must be at least 1, got {num_steps}")
    schedule = {name: fields.pop(name) for name in _SCHEDULE if name in fields}
    own: Any = settings.read(outer_loop.settings, fields, "outer", "outer.")
    schedule["num_steps"] = num_steps
    return outer_loop, own, settings.read(Schedule, schedule, "outer", "outer.")


register(
    OuterLoop(
        name="es",
        title="evolution strategies",
        length="num_generations",
        settings=evolution.EvolutionConfig,
        make=evolution.EvolutionTrainer,
        plot=evolution.plot,
        caption="fitness (episode return, divided by each task's normaliser) of the population by "
        "generation, and held-out returns of the mean theta.",
        schedule={"checkpoint_every": 4, "validate_every": 24},
        smoke={"num_generations": 3, "population_size": 4, "validate_every": 2},
    )
)
register(
    OuterLoop(
        name="meta_gradient",
        title="meta-gradients",
        length="num_meta_steps",
        settings=meta_gradient.MetaGradientConfig,
        make=lambda settings, optimizer, tasks, engines, theta: meta_gradient.MetaGradientTrainer(
            settings, optimizer, tasks, theta
        ),
        plot=lambda rows, tasks, path, shown: meta_gradient_plots.meta_gradient_plot(
            rows, tasks, path
        ),
        caption="outer loss, meta-gradient norm, relative change of theta, and the agents' "
        "episode returns by age, by meta-step.",
        schedule={"checkpoint_every": 50},
        smoke={"num_meta_steps": 4, "num_agents": 4, "inner_updates": 2, "reset_interval": 2},
    )
)
