"""The optimizers of optax by their own names, with the hyperparameters that they take.

An optimizer is every function of ``optax`` and ``optax.contrib`` that is called with a
``learning_rate`` and whose updates follow from gradients and parameters alone.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax
import optax.contrib

# As for Adam here, where optax has no default.
_LEARNING_RATE = 3e-4

# Those that need more than gradients and parameters, and what.
_EXCLUDED = {
    "dpsgd": "the gradient of each example",
    "lbfgs": "the loss function, for its line search",
    "momo": "the value of the loss",
    "momo_adam": "the value of the loss",
    "noisy_sgd": "a random key of its own for each agent",
    "schedule_free": "agents that act with other parameters than those they train",
    "schedule_free_adamw": "agents that act with other parameters than those they train",
    "schedule_free_sgd": "agents that act with other parameters than those they train",
    "sophia": "the Hessian's diagonal, by derivatives of the loss",
}
_NO_HYPERPARAMETERS = ("mask", "dtype", "_fn", "key", "seed", "dimension_numbers")


class Family(NamedTuple):
    """A handcrafted optimizer.

    Attributes:
      constructor: of optax' kind: all below are its keyword arguments.
      defaults: hyperparameters that can be tuned, ``learning_rate`` among them: numbers.
      settings: further arguments with their defaults: the same for all that is tuned at once.
    """

    constructor: Callable[..., optax.GradientTransformation]
    defaults: dict[str, float]
    settings: Mapping[str, Any]


def names() -> list[str]:
    """The names that ``get`` takes."""
    return sorted(_constructors())


def get(name: str) -> Family:
    """An optimizer of optax; ``ValueError`` for one that agents cannot run, with the reason."""
    if name in _EXCLUDED:
        raise ValueError(f"optax's {name} cannot be used here: it needs {_EXCLUDED[name]}")
    return _families()[name]


def is_excluded(name: str) -> bool:
    """Whether it is an optimizer of optax that ``get`` refuses."""
    return name in _EXCLUDED


def further_settings(constructor: Callable[..., Any], defaults: dict[str, float]) -> dict[str, Any]:
    """A constructor's keyword arguments besides those in ``defaults`` that text can spell."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(constructor).parameters.items()
        if name not in defaults
        and isinstance(parameter.default, bool | int | float | str | None)
        and not any(part in name for part in _NO_HYPERPARAMETERS)
    }


@functools.cache
def _families() -> dict[str, Family]:
    return {name: _family(constructor) for name, constructor in _constructors().items()}


@functools.cache
def _constructors() -> dict[str, Callable[..., optax.GradientTransformation]]:
    return {
        name: function
        for module in (optax.contrib, optax)
        for name, function in inspect.getmembers(module, _is_function)
        if "learning_rate" in inspect.signature(function).parameters
        and not name.startswith(("_", "scale_by_"))
        and name not in _EXCLUDED
    }


def _is_function(value: Any) -> bool:
    """Whether it is a function; ``optax.nadam`` and others are partial ones."""
    return inspect.isfunction(value) or isinstance(value, functools.partial)


def _family(constructor: Callable[..., optax.GradientTransformation]) -> Family:
    parameters = inspect.signature(constructor).parameters
    given = parameters["learning_rate"].default
    rate = given if isinstance(given, float) else _LEARNING_RATE
    numbers = {name: p.default for name, p in parameters.items() if isinstance(p.default, float)}
    defaults = {"learning_rate": rate, **{k: v for k, v in numbers.items() if k != "learning_rate"}}
    return Family(constructor, defaults, further_settings(constructor, defaults))
