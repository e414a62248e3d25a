"""``--config=FILE`` or ``FILE:MODE``, and ``--config.FIELD=VALUE``: ml_collections' flags.

Values are read by the rule of ``learned_opt.settings``, and errors in files and overrides name
the place and what there is.
"""

from typing import Any

from absl import flags
from ml_collections import config_flags

from launchers import values
from meta import config_files

flags.disclaim_key_flags()  # a launcher's --help shows them as its own


def define(what: str) -> flags.FlagHolder:
    """Declares ``--config``.

    Args:
      what: for ``--help``: which configs these are.
    """
    for kind in (bool, int, float, tuple):
        config_flags.register_flag_parser_for_type(kind, _Parser(kind))
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


class _Parser(flags.ArgumentParser):
    """Reads the values of ``--config.FIELD``."""

    def __init__(self, kind: type):
        self._kind = kind

    def parse(self, argument: Any) -> Any:
        if self._kind is tuple:
            found = values.literal(argument) if isinstance(argument, str) else argument
            return found if isinstance(found, tuple | list) else (found,)
        return values.read(self._kind, argument, "it")

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
