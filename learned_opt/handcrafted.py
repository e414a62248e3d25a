"""Optimizers of optax, and users' own of its kind, as ``LearnedOptimizer``s with empty theta.

Presets are the OPEN paper's tuned values (tables 4 to 6), by environment. Where an
environment has none of its own, pass hyperparameters instead.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt import base, optax_families, settings
from learned_opt.names import did_you_mean
from learned_opt.optax_families import Family


def _curated(constructor: Callable[..., optax.GradientTransformation], **defaults: float) -> Family:
    return Family(constructor, defaults, optax_families.further_settings(constructor, defaults))


# With defaults of RL's. Any other optimizer of optax goes by its own name and defaults.
FAMILIES = {
    "adam": _curated(optax.adam, learning_rate=3e-4, b1=0.9, b2=0.999, eps=1e-8),
    "rmsprop": _curated(optax.rmsprop, learning_rate=1e-3, decay=0.9, eps=1e-8),
    "lion": _curated(optax.lion, learning_rate=3e-5, b1=0.9, b2=0.99, weight_decay=1e-3),
    "sgd": _curated(optax.sgd, learning_rate=1e-2),
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


def known_names() -> list[str]:
    """The handcrafted optimizers: those with defaults here, users' own, and optax's."""
    return [*FAMILIES, *(name for name in optax_families.names() if name not in FAMILIES)]


def family(name: str) -> Family:
    """A handcrafted optimizer; ``ValueError`` if there is none of that name."""
    if name in FAMILIES:
        return FAMILIES[name]
    if name in optax_families.names() or optax_families.is_excluded(name):
        return optax_families.get(name)
    raise ValueError(
        f"no handcrafted optimizer {name!r}{did_you_mean(name, known_names())}; known: "
        f"{', '.join(known_names())}"
    )


def spelled(text: str) -> tuple[str, dict[str, Any]] | None:
    """A handcrafted optimizer as command lines write it, or None for what is none.

    Args:
      text: ``adam``; ``adam:breakout``, with the values tuned for a task;
        ``adam:learning_rate=3e-4,anneal=true``, or both: ``adam:breakout,b1=0.8``.

    Returns:
      Its name, and arguments of ``hyperparameters``.

    Raises:
      ValueError: an unknown preset or hyperparameter, or a value that is out of range.
    """
    name, colon, rest = text.partition(":")
    if name not in known_names():
        if optax_families.is_excluded(name):
            family(name)  # raises with the reason
        return None
    given: dict[str, Any] = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = part.partition("=")
        given[key.strip() if equals else "preset"] = value if equals else key.strip()
    values = hyperparameters(name, **given)
    return name, {key: given[key] if key == "preset" else values[key] for key in given}


def hyperparameters(name: str, **given: Any) -> dict[str, Any]:
    """All hyperparameters that ``make_handcrafted`` with these arguments uses.

    Returns:
      Values by name, ``anneal`` among them: defaults, then the preset's, then those given.

    Raises:
      ValueError: unknown name, preset or hyperparameter.
    """
    task = given.pop("preset", None)
    kind = family(name)
    values = {**kind.defaults, "anneal": False}
    if task is not None:
        values.update(preset(name, task))
    takes = {**kind.settings, **values}
    unknown = sorted(set(given) - set(takes))
    if unknown:
        hint = did_you_mean(unknown[0], list(takes))
        raise ValueError(
            f"{name} has no hyperparameter {', '.join(map(repr, unknown))}{hint}; "
            f"it takes: {', '.join(sorted(takes))}, preset"
        )
    for key, value in given.items():
        is_traced = isinstance(value, jax.Array)  # a schedule's, or of a batch of agents
        values[key] = value if is_traced else settings.like(takes[key], value, f"{name}'s {key}")
    rate = values["learning_rate"]
    if isinstance(rate, (int, float)) and rate <= 0:
        raise ValueError(f"learning_rate must be above 0, got {rate}")
    return values


def _build(name: str, values: dict[str, Any]) -> optax.GradientTransformationExtraArgs:
    anneal = values["anneal"]
    tx = family(name).constructor(**{k: v for k, v in values.items() if k != "anneal"})
    if anneal is not False:
        tx = optax.chain(tx, scale_by_remaining_training(anneal))
    return optax.with_extra_args_support(tx)


def make_handcrafted(name: str, **given: Any) -> base.LearnedOptimizer:
    """A handcrafted optimizer with fixed hyperparameters and empty theta.

    Args:
      name: one of ``known_names``.
      **given: hyperparameters in place of the defaults; ``preset``, a task whose tuned values
        to start from; ``anneal=True`` brings the learning rate linearly to 0 over the run.

    Raises:
      ValueError: unknown name, preset or hyperparameter.
    """
    values = hyperparameters(name, **given)
    return base.LearnedOptimizer(init=lambda key: {}, transform=lambda theta: _build(name, values))


def tunable(name: str, values: dict[str, Any]) -> dict[str, float]:
    """Those of an optimizer's hyperparameters that can differ within one compiled program.

    Args:
      name: of the optimizer.
      values: all of them, as ``hyperparameters`` gives them.
    """
    numbers = family(name).defaults
    return {
        key: float(value)
        for key, value in values.items()
        if key == "anneal" or key in numbers or type(value) is float
    }


def make_tunable(name: str, **given: Any) -> base.LearnedOptimizer:
    """The same optimizer with its hyperparameters as theta, a dict of float32 scalars.

    So a batch of hyperparameters runs as a batch of theta, in one compiled program.
    Annealing is one of them: ``anneal`` is 1 where the learning rate goes linearly to 0 over
    the run and 0 where it stays, so ``training_proportion`` must be in the update context.
    What is not ``tunable`` (``nesterov``) is the same for the whole batch.
    """
    values = hyperparameters(name, **given)
    numbers = tunable(name, values)
    fixed = {key: value for key, value in values.items() if key not in numbers}
    return base.LearnedOptimizer(
        init=lambda key: {k: jnp.float32(v) for k, v in numbers.items()},
        transform=lambda theta: _build(name, {**fixed, **theta}),
    )
