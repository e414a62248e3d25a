"""Which hyperparameters a search tries: all combinations of values, or random draws.

A hyperparameter's values are written ``1e-4,3e-4,1e-3`` or, in a random search, as a range
``1e-4..1e-1``. Learning rates and what else is of any magnitude are drawn log-uniformly; of
coefficients near 1 (b1, b2, decay) it is the distance to 1 that is.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from learned_opt import handcrafted
from learned_opt.names import did_you_mean

SEARCHES = ("grid", "random")
NEAR_ONE = ("b1", "b2", "decay")
ANNEAL = "anneal"

Values = dict[str, Any]


class Range(NamedTuple):
    """All numbers from ``low`` to ``high``."""

    low: float
    high: float


class Choices(NamedTuple):
    """Single values: numbers, or truth values of ``anneal``."""

    values: tuple[Any, ...]


def parse(name: str, text: str) -> Range | Choices:
    """What ``--NAME=TEXT`` allows.

    Raises:
      ValueError: it is neither values nor a range, or out of what the hyperparameter can be.
    """
    low, dots, high = text.partition("..")
    if dots:
        if name == ANNEAL:
            raise ValueError(f"--{name}={text}: give true, false or both")
        found = Range(_number(name, text, low), _number(name, text, high))
        if not 0 < found.low < found.high:
            raise ValueError(f"--{name}={text}: a range goes from a number above 0 to a larger one")
        return found
    values = [_value(name, text, part) for part in text.split(",")]
    return Choices(tuple(dict.fromkeys(values)))


def _value(name: str, text: str, part: str) -> Any:
    if name == ANNEAL:
        known = {"true": True, "false": False}
        if part.strip().lower() not in known:
            raise ValueError(f"--{name}={text}: {part!r} is neither true nor false")
        return known[part.strip().lower()]
    return _number(name, text, part)


def _number(name: str, text: str, part: str) -> float:
    try:
        value = float(part)
    except ValueError:
        value = math.nan
    if name == "learning_rate":
        sound, what = value > 0, "above 0"
    elif name in NEAR_ONE:
        sound, what = 0 <= value < 1, "in [0, 1)"
    else:
        sound, what = value >= 0, "at least 0"
    if not sound or not math.isfinite(value):
        raise ValueError(f"--{name}={text}: {part.strip()!r} must be a number {what}")
    return value


def candidates(
    optimizer: str,
    space: Mapping[str, Range | Choices],
    search: str,
    num_samples: int,
    seed: int,
    fixed: Mapping[str, Any],
) -> list[Values]:
    """The hyperparameters to try, each a dict with all that the optimizer has.

    Args:
      optimizer: a name in ``handcrafted.FAMILIES``.
      space: hyperparameter -> its values.
      search: ``grid``: all combinations, in the order in which they are given; ``random``:
        draws, of which the first are the same however many there are.
      num_samples: how many draws; at least 1.
      seed: of the draws.
      fixed: hyperparameters that are not searched; those not named are the family's defaults.

    Raises:
      ValueError: an unknown search or hyperparameter, an empty space, a range in a grid.
    """
    if search not in SEARCHES:
        hint = did_you_mean(search, list(SEARCHES))
        raise ValueError(f"unknown --search={search}{hint}; known: {', '.join(SEARCHES)}")
    if not space:
        raise ValueError(
            "nothing to tune: give at least one hyperparameter, e.g. --learning_rate=1e-3,1e-2"
        )
    if search == "grid":
        ranges = [name for name, allowed in space.items() if isinstance(allowed, Range)]
        if ranges:
            raise ValueError(
                f"--{ranges[0]} is a range, which a grid cannot hold: list values, or give "
                "--search=random"
            )
        lists = [allowed.values for allowed in space.values() if isinstance(allowed, Choices)]
        combinations = [dict(zip(space, row, strict=True)) for row in itertools.product(*lists)]
    else:
        if num_samples < 1:
            raise ValueError(f"--num_samples must be at least 1, got {num_samples}")
        generator = np.random.default_rng(seed)
        combinations = [
            {name: _draw(generator, name, allowed) for name, allowed in space.items()}
            for _ in range(num_samples)
        ]
    whole = [
        handcrafted.hyperparameters(optimizer, **{**fixed, **values}) for values in combinations
    ]
    return [row for i, row in enumerate(whole) if row not in whole[:i]]


def _draw(generator: np.random.Generator, name: str, allowed: Range | Choices) -> Any:
    if isinstance(allowed, Choices):
        return allowed.values[generator.integers(len(allowed.values))]
    low, high = allowed
    if name in NEAR_ONE:
        low, high = 1 - high, 1 - low
    value = math.exp(generator.uniform(math.log(low), math.log(high)))
    # Four digits: what a preset file shows is what was run.
    return float(f"{1 - value if name in NEAR_ONE else value:.4g}")


def describe(values: Mapping[str, Any], names: tuple[str, ...] | list[str]) -> str:
    """``learning_rate=0.001, anneal=true``."""
    return ", ".join(f"{name}={written(values[name])}" for name in names)


def written(value: Any) -> str:
    """A hyperparameter as flags take it."""
    if isinstance(value, bool | str | None):
        return str(value).lower()
    return f"{value:g}"
