"""Numbers and settings as command lines write them: by the rule of ``learned_opt.settings``."""

import functools
from collections.abc import Sequence
from typing import Any

from absl import flags

flags.disclaim_key_flags()  # a launcher's --help shows them as its own


def read(kind: type, written: Any, name: str) -> Any:
    """What was written as a value of a type; ``ValueError`` with the setting's name."""
    from learned_opt import settings  # behind it is JAX, slow to import: --help needs none of it

    return settings.value(kind, written, name)


def literal(text: str) -> Any:
    """What a text spells where no type says how to read it."""
    from learned_opt import settings

    return settings.literal(text)


class _WholeNumber(flags.ArgumentParser):
    def parse(self, argument: Any) -> int:
        return read(int, argument, "it")

    def flag_type(self) -> str:
        return "whole number"


# As ``flags.DEFINE_integer``; takes ``2e5``, too.
define_whole_number = functools.partial(flags.DEFINE, _WholeNumber())


def numbers(flag: str, texts: Sequence[str]) -> list[float]:
    """``['0', '0.1']`` as numbers."""
    try:
        return [read(float, text, flag) for text in texts]
    except ValueError as error:
        raise ValueError(f"--{flag} must be numbers, got {', '.join(texts)!r}") from error


def whole_number(flag: str, text: str) -> int | None:
    """A whole number above 0, ``2e5`` included; None for an empty text."""
    if not text:
        return None
    value = read(int, text, f"--{flag}")
    if value < 1:
        raise ValueError(f"--{flag} must be a whole number above 0, e.g. 2e5, got {text!r}")
    return value


def options(flag: str, texts: Sequence[str]) -> dict[str, Any]:
    """``['num_envs=16', 'activation=tanh']`` as a dict; values are literals or else text."""
    return {name: literal(value) for name, value in texts_by_name(flag, texts).items()}


def texts_by_name(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """``['momentum=0.5,0.9']`` as a dict of texts."""
    named: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"--{flag} must be NAME=VALUE, got {text!r}")
        named[name] = value
    return named
