"""Adam, RMSprop, Lion and SGD of optax as ``LearnedOptimizer``s with empty theta.

Presets are the OPEN paper's tuned values (tables 4 to 6), by environment. Where an
environment has none of its own, pass hyperparameters instead.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt import base


class Family(NamedTuple):
    """A handcrafted optimizer: its optax constructor and its default hyperparameters."""

    constructor: Callable[..., optax.GradientTransformation]
    defaults: dict[str, float]


FAMILIES = {
    "adam": Family(optax.adam, {"learning_rate": 3e-4, "b1": 0.9, "b2": 0.999, "eps": 1e-8}),
    "rmsprop": Family(optax.rmsprop, {"learning_rate": 1e-3, "decay": 0.9, "eps": 1e-8}),
    "lion": Family(
        optax.lion, {"learning_rate": 3e-5, "b1": 0.9, "b2": 0.99, "weight_decay": 1e-3}
    ),
    "sgd": Family(optax.sgd, {"learning_rate": 1e-2}),
}


def _annealed(learning_rate: float, b1: float, b2: float) -> dict[str, Any]:
    return {"learning_rate": learning_rate, "b1": b1, "b2": b2, "anneal": True}


def _rmsprop(learning_rate: float, decay: float, anneal: bool) -> dict[str, Any]:
    return {"learning_rate": learning_rate, "decay": decay, "anneal": anneal}


# Tables 4, 5 and 6 of the OPEN paper. The marks of "Anneal LR" are not in its text; the
# authors' runs anneal Adam everywhere, and RMSprop on asterix, freeway and spaceinvaders.
# Lion's marks are not known: it is annealed here like Adam.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "adam": {
        "asterix": _annealed(0.003, 0.9, 0.999),
        "freeway": _annealed(0.001, 0.9, 0.99),
        "breakout": _annealed(0.01, 0.9, 0.99),
        "spaceinvaders": _annealed(0.007, 0.9, 0.99),
        "ant": _annealed(0.0003, 0.99, 0.99),
        "gridworld": _annealed(0.0001, 0.99, 0.99),
    },
    "rmsprop": {
        "asterix": _rmsprop(0.002, 0.99, True),
        "freeway": _rmsprop(0.001, 0.999, True),
        "breakout": _rmsprop(0.002, 0.99, False),
        "spaceinvaders": _rmsprop(0.009, 0.99, True),
        "ant": _rmsprop(0.0008, 0.99, False),
    },
    "lion": {
        "asterix": _annealed(0.0003, 0.99, 0.9),
        "freeway": _annealed(0.0003, 0.9, 0.9),
        "breakout": _annealed(0.0008, 0.9, 0.9),
        "spaceinvaders": _annealed(0.0008, 0.9, 0.99),
        "ant": _annealed(0.00015, 0.9, 0.9),
    },
}


def preset(name: str, task: str) -> dict[str, Any]:
    """The tuned hyperparameters of an optimizer on a task.

    Raises:
      ValueError: there is none; the message lists the tasks that have one.
    """
    known = PRESETS.get(name, {})
    if task not in known:
        raise ValueError(
            f"no preset of {name!r} for {task!r}; presets exist for: "
            f"{', '.join(sorted(known)) or 'none'}. Give hyperparameters instead, e.g. "
            "learning_rate=3e-4"
        )
    return dict(known[task])


def scale_by_remaining_training(
    share: float | jax.Array = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by 1 - share * training_proportion: linear annealing.

    Reads the proportion from the update context rather than counting steps, so the
    transformation does not need to know how long a run is.

    Args:
      share: in [0, 1], of the learning rate that is annealed away by the end of training:
        1 brings it to 0, and 0 leaves updates as they are. May be traced.
    """

    def init(params: base.Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(updates, state, params=None, **context):
        del params
        base.require_context("annealed learning rate", ("training_proportion",), context)
        remaining = 1.0 - share * context["training_proportion"]
        return jax.tree.map(lambda u: u * jnp.asarray(remaining, u.dtype), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def hyperparameters(name: str, **given: Any) -> dict[str, Any]:
    """All hyperparameters that ``make_handcrafted`` with these arguments uses.

    Returns:
      Values by name, ``anneal`` among them: defaults, then the preset's, then those given.

    Raises:
      ValueError: unknown name, preset or hyperparameter.
    """
    task = given.pop("preset", None)
    if name not in FAMILIES:
        raise ValueError(f"unknown optimizer {name!r}; known: {', '.join(sorted(FAMILIES))}")
    values = {**FAMILIES[name].defaults, "anneal": False}
    if task is not None:
        values.update(preset(name, task))
    unknown = sorted(set(given) - set(values))
    if unknown:
        raise ValueError(
            f"{name} has no hyperparameter {', '.join(map(repr, unknown))}; "
            f"it takes: {', '.join(sorted(values))}, preset"
        )
    values.update(given)
    values["anneal"] = bool(values["anneal"])
    rate = values["learning_rate"]
    if isinstance(rate, (int, float)) and rate <= 0:
        raise ValueError(f"learning_rate must be above 0, got {rate}")
    return values


def _build(name: str, values: dict[str, Any]) -> optax.GradientTransformationExtraArgs:
    anneal = values["anneal"]
    tx = FAMILIES[name].constructor(**{k: v for k, v in values.items() if k != "anneal"})
    if anneal is not False:
        tx = optax.chain(tx, scale_by_remaining_training(anneal))
    return optax.with_extra_args_support(tx)


def make_handcrafted(name: str, **given: Any) -> base.LearnedOptimizer:
    """A handcrafted optimizer with fixed hyperparameters and empty theta.

    Args:
      name: one of ``FAMILIES``.
      **given: hyperparameters in place of the defaults; ``preset``, a task whose tuned values
        to start from; ``anneal=True`` brings the learning rate linearly to 0 over the run.

    Raises:
      ValueError: unknown name, preset or hyperparameter.
    """
    values = hyperparameters(name, **given)
    return base.LearnedOptimizer(init=lambda key: {}, transform=lambda theta: _build(name, values))


def make_tunable(name: str, **given: Any) -> base.LearnedOptimizer:
    """The same optimizer with its hyperparameters as theta, a dict of float32 scalars.

    So a batch of hyperparameters runs as a batch of theta, in one compiled program.
    Annealing is one of them: ``anneal`` is 1 where the learning rate goes linearly to 0 over
    the run and 0 where it stays, so ``training_proportion`` must be in the update context.
    """
    values = hyperparameters(name, **given)
    return base.LearnedOptimizer(
        init=lambda key: {k: jnp.float32(v) for k, v in values.items()},
        transform=functools.partial(_build, name),
    )
