"""Environments by name."""

from collections.abc import Callable
from typing import Any, NamedTuple

from agents.environments import arguments, base, brax_suite, gridworld, gymnax_suite, open_gridworld

BRAX = (
    "ant", "halfcheetah", "hopper", "humanoid", "humanoidstandup", "inverted_double_pendulum",
    "inverted_pendulum", "pusher", "reacher", "swimmer", "walker2d",
)  # fmt: skip
OPEN_GRIDWORLDS = (  # those that OPEN's paper evaluates on
    "labyrinth", "rand_all", "rand_dense", "rand_long", "rand_sparse", "sixteen_rooms",
    "standard_maze",
)  # fmt: skip
SHORT_NAMES = {  # short name -> name in full
    "acrobot": "gymnax/Acrobot-v1",
    "asterix": "gymnax/Asterix-MinAtar",
    "breakout": "gymnax/Breakout-MinAtar",
    "cartpole": "gymnax/CartPole-v1",
    "catch": "gymnax/Catch-bsuite",
    "deepsea": "gymnax/DeepSea-bsuite",
    "freeway": "gymnax/Freeway-MinAtar",
    "mountaincar": "gymnax/MountainCar-v0",
    "mountaincar_continuous": "gymnax/MountainCarContinuous-v0",
    "pendulum": "gymnax/Pendulum-v1",
    "seaquest": "gymnax/Seaquest-MinAtar",
    "spaceinvaders": "gymnax/SpaceInvaders-MinAtar",
    **{name: f"brax/{name}" for name in BRAX},
    **{name: f"gridworld/{name}" for name in gridworld.names()},
    "bdl": "gridworld/big_dense_long",
    "sdl": "gridworld/small_dense_long",
    **{name: f"open_gridworld/{name}" for name in OPEN_GRIDWORLDS},
}


class _Suite(NamedTuple):
    make: Callable[..., base.Environment]
    names: Callable[[], list[str]]


_suites: dict[str, _Suite] = {
    "gymnax": _Suite(gymnax_suite.make, gymnax_suite.names),
    "brax": _Suite(brax_suite.make, brax_suite.names),
    "gridworld": _Suite(gridworld.make, gridworld.names),
    "open_gridworld": _Suite(open_gridworld.make, open_gridworld.names),
}


def make(name: str, **kwargs: Any) -> base.Environment:
    """Makes an environment.

    Args:
      name: ``<suite>/<name within it>``, e.g. ``brax/ant`` or ``gymnax/CartPole-v1``, or one
        of the short names, e.g. ``breakout``; ``names()`` lists them all.
      **kwargs: the suite's own, e.g. ``backend`` (brax), ``size`` (gymnax' DeepSea) or
        ``max_steps_in_episode`` (gymnax).

    Returns:
      The environment. ``spec.name`` is its name in full, whichever it was asked for by.

    Raises:
      ValueError: an unknown suite, name or argument; says what there is.
    """
    suite_name, slash, name_within = SHORT_NAMES.get(name, name).partition("/")
    if not slash:
        arguments.check_known("environment", name, names())
    arguments.check_known("suite of environments", suite_name, _suites)
    suite = _suites[suite_name]
    arguments.check_known(f"environment of suite {suite_name!r}", name_within, suite.names())
    return suite.make(name_within, **kwargs)


def names() -> list[str]:
    """Every name that ``make`` takes: the short ones, then each suite's in full."""
    in_full = [
        f"{suite}/{name}" for suite, (_, list_names) in _suites.items() for name in list_names()
    ]
    return sorted(SHORT_NAMES) + sorted(in_full)


def register_suite(
    name: str,
    make_function: Callable[..., base.Environment],
    list_names_function: Callable[[], list[str]],
) -> None:
    """Adds a suite, whose environments are then made by ``make("<name>/<name within it>")``.

    Args:
      name: the suite's name.
      make_function: ``(name within the suite, **kwargs) -> Environment``; called with names
        that are listed alone, and raises ValueError for arguments it does not know.
      list_names_function: ``() -> names within the suite``; called at every look-up, so
        import what is slow inside.

    Raises:
      ValueError: the name is taken, empty, or has a slash.
    """
    if not name or "/" in name:
        raise ValueError(f"a suite's name must be non-empty and have no '/', got {name!r}")
    if name in _suites:
        raise ValueError(f"there is a suite {name!r} already; choose another name")
    _suites[name] = _Suite(make_function, list_names_function)
