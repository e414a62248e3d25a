"""Preset files: a handcrafted optimizer with tuned hyperparameters, as plain JSON.

What a tuning run hands to an evaluation::

    {
      "format": "lopt-rl optimizer preset",
      "format_version": 1,
      "optimizer": "adam",
      "options": {"learning_rate": 0.001, "b1": 0.9, "b2": 0.99, "anneal": true},
      "task_options": {"breakout": {"learning_rate": 0.01}},
      "provenance": {"tuned_on": ["breakout"], "seeds": 4}
    }

``options`` holds for every task and ``task_options`` goes over it on the tasks that it names.
``provenance`` is for readers: any JSON that says where the values come from.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from learned_opt import handcrafted
from learned_opt.files import atomic

FORMAT = "lopt-rl optimizer preset"
FORMAT_VERSION = 1

_FIELDS = ("format", "format_version", "optimizer", "options", "task_options", "provenance")


class Preset(NamedTuple):
    """A handcrafted optimizer's hyperparameters and where they come from.

    Attributes:
      optimizer: a name in ``handcrafted.FAMILIES``.
      options: keyword arguments of ``handcrafted.make_handcrafted``, for every task.
      task_options: task -> options that go over ``options`` there.
      provenance: anything JSON can hold.
    """

    optimizer: str
    options: dict[str, Any]
    task_options: dict[str, dict[str, Any]]
    provenance: dict[str, Any]

    def options_for(self, task: str | None = None) -> dict[str, Any]:
        """The options on a task; without one, or on one that is not named, the common ones."""
        return {**self.options, **self.task_options.get(task or "", {})}


def write_preset(
    path: str | os.PathLike,
    optimizer: str,
    options: dict[str, Any],
    *,
    task_options: dict[str, dict[str, Any]] | None = None,
    provenance: dict[str, Any] | None = None,
) -> None:
    """Writes a preset file, replacing an older one in one step.

    Args:
      path: where to; its name should end in ``.json``.
      optimizer, options, task_options, provenance: as in ``Preset``.

    Raises:
      ValueError: unknown optimizer or hyperparameter, or values that JSON cannot hold.
    """
    preset = Preset(optimizer, dict(options), dict(task_options or {}), dict(provenance or {}))
    _check(preset)
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, **preset._asdict()}
    try:
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"a preset must be plain JSON: {error}; not saved to {path}") from error
    with atomic.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_preset(path: str | os.PathLike) -> Preset:
    """Reads a preset file.

    Raises:
      FileNotFoundError: no such file.
      ValueError: it is no preset file, of another version, or names what does not exist;
        names the file and what was expected.
    """
    try:
        return parse_preset(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"cannot read a preset from {os.fspath(path)!r}: {error}") from error


def parse_preset(content: bytes) -> Preset:
    """The preset in a file's bytes.

    Raises:
      ValueError: as ``read_preset``.
    """
    try:
        values = json.loads(content.decode())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"it is not JSON ({error})") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ValueError(f'it is no preset file: it must hold "format": "{FORMAT}"')
    if values.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"it has format version {values.get('format_version')!r}, this is version "
            f"{FORMAT_VERSION}: read it with the version of the toolkit that wrote it"
        )
    unknown = sorted(set(values) - set(_FIELDS))
    if unknown:
        raise ValueError(f"unknown fields {', '.join(unknown)}; known: {', '.join(_FIELDS)}")
    for field in ("options", "task_options", "provenance"):
        if not isinstance(values.setdefault(field, {}), dict):
            raise ValueError(f"{field} must be an object, found {values[field]!r}")
    preset = Preset(
        values.get("optimizer", ""), values["options"], values["task_options"], values["provenance"]
    )
    _check(preset)
    return preset


def _check(preset: Preset) -> None:
    """Resolves the options of every task, which raises on what does not exist."""
    if not isinstance(preset.optimizer, str):
        raise ValueError(f"optimizer must be a name, found {preset.optimizer!r}")
    for task in (None, *preset.task_options):
        if task is not None and not isinstance(preset.task_options[task], dict):
            raise ValueError(f"task_options of {task!r} must be an object")
        values = handcrafted.hyperparameters(preset.optimizer, **preset.options_for(task))
        for name, value in values.items():
            if not isinstance(value, (bool, int, float)):
                raise ValueError(f"{name} must be a number, found {value!r}")
