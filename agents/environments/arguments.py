"""Checks of what users pass in, whose errors name the fix."""

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from learned_opt import settings


def check_known(what: str, given: str, known: Collection[str]) -> None:
    """Checks that a name is one of those that exist.

    Args:
      what: what is being named, for the message, e.g. ``"environment"``.
      given: the name to check.
      known: every name there is.

    Raises:
      ValueError: ``given`` is not known; lists what is, and the nearest if one is near.
    """
    if given in known:
        return
    nearest = _nearest(str(given), known)
    hint = f" (did you mean {nearest!r}?)" if nearest else ""
    listing = ", ".join(sorted(known)) or "none"
    raise ValueError(f"unknown {what}: {given!r}{hint}; known: {listing}")


def check_positive_int(what: str, given: Any) -> int:
    """Returns ``given`` as an int.

    Raises:
      ValueError: it is not a whole number of at least 1.
    """
    try:
        number = settings.value(int, given, what)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError(f"{what} must be a whole number of at least 1, got {given!r}")
    return number


def typed(what: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as values of the types that their defaults have.

    Args:
      what: is being named, for messages, e.g. ``"argument of ant"``.
      given: by name; texts are read as command lines write values.
      defaults: of every argument there is.

    Raises:
      ValueError: an unknown name, or a value of another type.
    """
    for name in given:
        check_known(what, name, defaults)
    return {name: settings.like(defaults[name], value, name) for name, value in given.items()}


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a function's named parameters; None where there is none."""
    return {
        name: None if parameter.default is parameter.empty else parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }


def _nearest(given: str, known: Collection[str]) -> str | None:
    """The known name most like ``given``, whatever its case and with or without a suite."""
    spellings: dict[str, str] = {}
    # In reverse, so that of names with the same last part the alphabetically first is kept.
    for name in sorted(known, reverse=True):
        spellings[name.lower().rpartition("/")[2]] = name
    spellings |= {name.lower(): name for name in known}
    given = given.lower()
    close = difflib.get_close_matches(given, spellings, n=1)
    close += [spelling for spelling in spellings if given and spelling.startswith(given)]
    return spellings[close[0]] if close else None
