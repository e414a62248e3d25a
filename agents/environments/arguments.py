"""Checks of what users pass in, whose errors name the fix."""

import difflib
import numbers
from collections.abc import Collection
from typing import Any


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
    is_number = isinstance(given, numbers.Real) and not isinstance(given, bool)
    if is_number and given >= 1 and float(given).is_integer():
        return int(given)
    raise ValueError(f"{what} must be a whole number of at least 1, got {given!r}")


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
