"""Numbers, settings and configs as command lines write them: by one rule, ``settings``'s.

``--config=FILE`` or ``FILE:MODE``, and ``--config.FIELD=VALUE``, are ml_collections' flags. Errors
in files and overrides name the place and what there is.
"""

import functools
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from meta import config_files

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


def define_config(what: str) -> flags.FlagHolder:
    """Declares ``--config``.

    Args:
      what: for ``--help``: which configs these are.
    """
    for kind in (bool, int, float, tuple):
        config_flags.register_flag_parser_for_type(kind, _Field(kind))
    holder = config_flags.DEFINE_config_file("config", None, what)
    flags.FLAGS["config"].parser = _ConfigParser()
    return holder


def explain(words: list[str]) -> None:
    """Raises a ``ValueError`` that names the first override of a field that does not exist."""
    parser = flags.FLAGS["config"].parser if "config" in flags.FLAGS else None
    config = getattr(parser, "config", None)
    for word in words:
        name, _, _ = word.lstrip("-").partition("=")
        if config is not None and word.startswith("--") and name.startswith("config."):
            config_files.check_field(config.to_dict(), name.removeprefix("config."))


class _Field(flags.ArgumentParser):
    """Reads the values of ``--config.FIELD``."""

    def __init__(self, kind: type):
        self._kind = kind

    def parse(self, argument: Any) -> Any:
        if self._kind is tuple:
            found = literal(argument) if isinstance(argument, str) else argument
            return found if isinstance(found, tuple | list) else (found,)
        return read(self._kind, argument, "it")

    def flag_type(self) -> str:
        return self._kind.__name__


class _ConfigParser(flags.ArgumentParser):
    """Loads the config; keeps it, for messages about its overrides."""

    config: Any = None

    def parse(self, path: str) -> Any:
        self.config = config_files.read_config(*path.split(":", maxsplit=1))
        if hasattr(self.config, "lock"):
            self.config.lock()
        return self.config

    def flag_type(self) -> str:
        return "config"
