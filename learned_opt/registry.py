"""Optimizers by name."""

import functools
from collections.abc import Callable
from typing import Any

import optax

from learned_opt import base, handcrafted, optax_families, settings
from learned_opt.families import open_optimizer, optim4rl, star, velo
from learned_opt.names import did_you_mean

Factory = Callable[..., base.LearnedOptimizer]


def _factory(
    name: str, config: Any, make: Callable[[Any], base.LearnedOptimizer], **defaults: Any
) -> Factory:
    """A factory whose options are the fields of ``config``, a dataclass."""

    def factory(**options: Any) -> base.LearnedOptimizer:
        return make(settings.read(config, {**defaults, **options}, f"the optimizer {name!r}"))

    return factory


def _open(name: str, **defaults: Any) -> Factory:
    make = functools.partial(open_optimizer.make_open, name=name)
    return _factory(name, open_optimizer.OpenConfig, make, **defaults)


def _recurrent(name: str) -> Factory:
    make = functools.partial(optim4rl.make_recurrent, name)
    return _factory(name, optim4rl.RecurrentConfig, make)


_FACTORIES: dict[str, Factory] = {
    "open": _open("open"),
    "open_large": _open("open_large", **open_optimizer.LARGE),
    "no_features": _open("no_features", **open_optimizer.NO_FEATURES),
    "no_features_large": _open(
        "no_features_large", **open_optimizer.NO_FEATURES, **open_optimizer.LARGE
    ),
    **{name: _recurrent(name) for name in optim4rl.FAMILIES},
    "star": _factory("star", star.StarConfig, star.make_star),
    "velo": _factory("velo", velo.VeloConfig, velo.make_velo),
    **{
        name: functools.partial(handcrafted.make_handcrafted, name) for name in handcrafted.FAMILIES
    },
}


def names() -> list[str]:
    """The names that ``make`` takes, without those of optax alone (``optax_families``)."""
    return sorted(_FACTORIES)


def is_handcrafted(name: str) -> bool:
    """Whether an optimizer has nothing to learn (its theta is empty)."""
    return name in handcrafted.known_names()


def register(name: str, factory: Factory) -> None:
    """Adds an optimizer: ``factory(**options) -> LearnedOptimizer``.

    Raises:
      ValueError: the name is taken.
    """
    if name in _FACTORIES:
        raise ValueError(f"an optimizer named {name!r} exists already; choose another name")
    _FACTORIES[name] = factory


def register_handcrafted(
    name: str, constructor: Callable[..., optax.GradientTransformation], defaults: dict[str, float]
) -> None:
    """Adds a handcrafted optimizer, which can then be compared and tuned by its name.

    Args:
      name: of the optimizer.
      constructor: of optax' kind: hyperparameters, ``learning_rate`` among them, as keyword
        arguments; in tuning they are traced scalars.
      defaults: all of its hyperparameters with their values.

    Raises:
      ValueError: the name is taken, or there is no ``learning_rate``.
    """
    if "learning_rate" not in defaults:
        raise ValueError(f"{name} needs a default learning_rate, as it may be annealed")
    register(name, functools.partial(handcrafted.make_handcrafted, name))
    further = optax_families.further_settings(constructor, defaults)
    handcrafted.FAMILIES[name] = optax_families.Family(constructor, defaults, further)


def make(name: str, **options: Any) -> base.LearnedOptimizer:
    """An optimizer by name, e.g. ``make('open')``, ``make('adam', preset='breakout')``.

    Raises:
      ValueError: unknown name or option; the message lists the known ones.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import learned_opt
      >>> optimizer = learned_opt.make("sgd", learning_rate=0.1)
      >>> theta = optimizer.init(jax.random.key(0))  # empty, as SGD has nothing to learn
      >>> tx = optimizer.transform(theta)
      >>> params = {"layer": {"bias": jnp.array([1.0, 2.0])}}
      >>> updates, _ = tx.update(params, tx.init(params), params)  # the gradient of |params|^2 / 2
      >>> updates["layer"]["bias"].tolist()
      [-0.10000000149011612, -0.20000000298023224]
    """
    if name not in _FACTORIES and is_handcrafted(name):
        return handcrafted.make_handcrafted(name, **options)
    if name not in _FACTORIES:
        if optax_families.is_excluded(name):
            handcrafted.family(name)  # raises with the reason
        hint = did_you_mean(name, [*names(), *optax_families.names()])
        raise ValueError(
            f"unknown optimizer {name!r}{hint}; known: {', '.join(names())}, and optax's by name"
        )
    return _FACTORIES[name](**options)
