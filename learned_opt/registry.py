"""Optimizers by name."""

from collections.abc import Callable
from typing import Any

from learned_opt import base, handcrafted
from learned_opt.families import open_optimizer, optim4rl, star, velo
from learned_opt.names import did_you_mean

Factory = Callable[..., base.LearnedOptimizer]


def _open_variant(name: str, **defaults: Any) -> Factory:
    def factory(**overrides: Any) -> base.LearnedOptimizer:
        values = {**defaults, **overrides}
        for key in ("features", "noise_on"):
            if key in values:
                values[key] = tuple(values[key])
        known = open_optimizer.OpenConfig.__dataclass_fields__
        _refuse_unknown(name, values, known)
        return open_optimizer.make_open(open_optimizer.OpenConfig(**values), name)

    return factory


def _recurrent(name: str) -> Factory:
    def factory(**options: Any) -> base.LearnedOptimizer:
        _refuse_unknown(name, options, optim4rl.RecurrentConfig.__dataclass_fields__)
        return optim4rl.make_recurrent(name, optim4rl.RecurrentConfig(**options))

    return factory


def _star(**options: Any) -> base.LearnedOptimizer:
    _refuse_unknown("star", options, star.StarConfig.__dataclass_fields__)
    return star.make_star(star.StarConfig(**options))


def _velo(**options: Any) -> base.LearnedOptimizer:
    _refuse_unknown("velo", options, velo.VeloConfig.__dataclass_fields__)
    return velo.make_velo(velo.VeloConfig(**options))


def _handcrafted(name: str) -> Factory:
    return lambda **hyperparameters: handcrafted.make_handcrafted(name, **hyperparameters)


def _refuse_unknown(name: str, values: dict[str, Any], known: Any) -> None:
    for key in values:
        if key not in known:
            hint = did_you_mean(key, list(known))
            raise ValueError(f"{name} has no option {key!r}{hint}; it takes: {', '.join(known)}")


_FACTORIES: dict[str, Factory] = {
    "open": _open_variant("open"),
    "open_large": _open_variant("open_large", **open_optimizer.LARGE),
    "no_features": _open_variant("no_features", **open_optimizer.NO_FEATURES),
    "no_features_large": _open_variant(
        "no_features_large", **open_optimizer.NO_FEATURES, **open_optimizer.LARGE
    ),
    **{name: _recurrent(name) for name in optim4rl.FAMILIES},
    "star": _star,
    "velo": _velo,
    **{name: _handcrafted(name) for name in handcrafted.FAMILIES},
}


def names() -> list[str]:
    """The names that ``make`` takes."""
    return sorted(_FACTORIES)


def is_handcrafted(name: str) -> bool:
    """Whether an optimizer has nothing to learn (its theta is empty)."""
    return name in handcrafted.FAMILIES


def register(name: str, factory: Factory) -> None:
    """Adds an optimizer: ``factory(**options) -> LearnedOptimizer``.

    Raises:
      ValueError: the name is taken.
    """
    if name in _FACTORIES:
        raise ValueError(f"an optimizer named {name!r} exists already; choose another name")
    _FACTORIES[name] = factory


def make(name: str, **options: Any) -> base.LearnedOptimizer:
    """An optimizer by name, e.g. ``make('open')``, ``make('adam', preset='breakout')``.

    Raises:
      ValueError: unknown name or option; the message lists the known ones.
    """
    if name not in _FACTORIES:
        hint = did_you_mean(name, names())
        raise ValueError(f"unknown optimizer {name!r}{hint}; known: {', '.join(names())}")
    return _FACTORIES[name](**options)
