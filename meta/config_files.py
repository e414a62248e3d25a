"""Config files, read, and their fields, changed by name; errors name the file and the field."""

import copy
import importlib.util
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meta import plugins

# Blocks of a config that may be given what the config itself does not list.
_OPEN = ("options", "env_options", "strategy_options", "optimizer_options", "baselines", "tasks")


def read_config(path: str, mode: str = "") -> Any:
    """What a config file's ``get_config`` gives: a ``ConfigDict``.

    Args:
      path: of the file, or the name of one of the toolkit's, as ``config_file`` takes it.
      mode: what stands behind the colon on the command line; empty: the config's own default.

    Raises:
      FileNotFoundError: no such file.
      ValueError: it has no ``get_config``, its code fails (names the line), or it refuses the
        mode.
    """
    file = config_file(path)
    name = f"config_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look their own types up
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ValueError(f"{file} has no function get_config(), so it is no config")
        return module.get_config(*filter(None, [mode]))
    except (ValueError, FileNotFoundError):
        raise  # a config's own checks, which say it all
    except Exception as error:  # whatever a user's code raises
        raise ValueError(f"{_where(error, file)}: {type(error).__name__}: {error}") from error


def config_file(path: str) -> Path:
    """The file of a config.

    Args:
      path: a file; or the name of one of the toolkit's own (``demo``), or its path from there
        (``configs/demo.py``), wherever the toolkit is. A file that is there comes first.

    Raises:
      FileNotFoundError: neither a file nor such a name.
    """
    toolkit = Path(__file__).parents[1]
    for file in (Path(path), toolkit / path, toolkit / "configs" / f"{path}.py"):
        if file.suffix == ".py" and file.is_file():
            return file
    known = sorted(file.stem for file in (toolkit / "configs").glob("[!_]*.py"))
    raise FileNotFoundError(
        f"no config at {path!r}{_hint(Path(path).stem, known)}; give a file or a name, e.g. demo "
        "or configs/demo.py:smoke"
    )


def _where(error: Exception, file: Path) -> str:
    """The last line of the file that an error passed through."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == file
    ]
    return f"{file}:{lines[-1]}" if lines else str(file)


def plain(config: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A config of any kind as plain dicts, with some fields changed; plugins are loaded first.

    Args:
      config: a file, with or without a mode, a ``ConfigDict`` or plain dicts.
      fields: with other values; of a block only what differs.

    Raises:
      ValueError, FileNotFoundError: as ``read_config``, or it has no such field.
    """
    plugins.load()
    if isinstance(config, str | os.PathLike):
        config = read_config(*os.fspath(config).split(":", maxsplit=1))
    if not isinstance(config, dict) and not hasattr(config, "to_dict"):
        raise ValueError(
            f"a config is a file, a ConfigDict or plain dicts, and not {type(config).__name__}"
        )
    blocks = copy.deepcopy(config) if isinstance(config, dict) else config.to_dict()
    return _merged(blocks, fields, "", is_open=False)


def _merged(
    block: dict[str, Any], fields: Mapping[str, Any], where: str, is_open: bool
) -> dict[str, Any]:
    for name, value in fields.items():
        if not is_open:
            _check(block, name, where)
        if isinstance(block.get(name), dict) and isinstance(value, Mapping):
            _merged(block[name], value, f"{where}{name}.", name in _OPEN)
        else:
            block[name] = value
    return block


def check_field(config: Mapping[str, Any], path: str) -> None:
    """Raises a ``ValueError`` if a config has no field of this dotted name.

    Args:
      config: as plain dicts.
      path: e.g. ``outer.population_size``.
    """
    block: Any = config
    where = ""
    for name in path.split("."):
        if not isinstance(block, Mapping):
            raise ValueError(f"the config's {where.rstrip('.')} is no block: it has no {name!r}")
        if name not in block and where.split(".")[-2:-1] and where.split(".")[-2] in _OPEN:
            block_name = where.rstrip(".")
            raise ValueError(
                f"the config's {block_name} does not list {name!r}: give the whole block, e.g. "
                f"--config.{block_name}=\"{{'{name}': ...}}\""
            )
        _check(block, name, where)
        block, where = block[name], f"{where}{name}."


def _check(block: Mapping[str, Any], name: str, where: str) -> None:
    if name not in block:
        hint = _hint(name, list(block))
        raise ValueError(
            f"the config has no field {where + name!r}{hint}; there "
            f"{'are' if len(block) > 1 else 'is'} {', '.join(block) or 'none'}"
        )


def _hint(name: str, known: list[str]) -> str:
    from learned_opt.names import did_you_mean  # behind it is JAX, slow to import

    return did_you_mean(name, known)
