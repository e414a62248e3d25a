"""Numbers and settings as command lines write them."""

import json
from collections.abc import Sequence
from typing import Any


def numbers(flag: str, texts: Sequence[str]) -> list[float]:
    """``['0', '0.1']`` as numbers."""
    try:
        return [float(text) for text in texts]
    except ValueError as error:
        raise ValueError(f"--{flag} must be numbers, got {', '.join(texts)!r}") from error


def whole_number(flag: str, text: str) -> int | None:
    """A whole number above 0, ``2e5`` included; None for an empty text."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (value >= 1 and value.is_integer()):
        raise ValueError(f"--{flag} must be a whole number above 0, e.g. 2e5, got {text!r}")
    return int(value)


def options(flag: str, texts: Sequence[str]) -> dict[str, Any]:
    """``['num_envs=16', 'activation=tanh']`` as a dict; values are JSON or else text."""
    named: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"--{flag} must be NAME=VALUE, got {text!r}")
        try:
            named[name] = json.loads(value)
        except json.JSONDecodeError:
            named[name] = value
    return named
