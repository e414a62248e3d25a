"""Settings from what people write: the fields of dataclasses, checked against their types.

One rule for every place where a setting is written: a command line, a config file, a call. Text
is read as the type of its field: ``true`` and ``False`` are booleans, ``1e4`` is a whole number,
``16,16`` is a tuple.
"""

import ast
import contextlib
import dataclasses
import json
import math
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from learned_opt.names import did_you_mean

_T = TypeVar("_T")

# absl's and so ml_collections' spellings, in any case.
_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def read(kind: type[_T], values: Mapping[str, Any], where: str, prefix: str = "") -> _T:
    """A settings dataclass from values by name.

    Args:
      kind: the dataclass.
      values: of its fields; those without a default must be there.
      where: what it belongs to, for messages: ``"outer"``, ``"the agent 'ppo'"``.
      prefix: of a field's name in messages: ``"outer."``.

    Raises:
      ValueError: an unknown or missing field, or a value that is not of the field's type or is
        refused by the dataclass itself.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a block of settings, got {values!r}")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    check_names(where, values, fields)
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ValueError(f"{where} lacks the field {name!r}")
    hints = typing.get_type_hints(kind)
    return kind(**{name: value(hints[name], v, prefix + name) for name, v in values.items()})


def check_names(where: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """``ValueError`` for the first name that is not known; lists those that are."""
    for name in given:
        if name not in known:
            hint = did_you_mean(str(name), list(known))
            raise ValueError(
                f"{where} has no field {name!r}{hint}; known: {', '.join(known) or 'none'}"
            )


def value(kind: Any, given: Any, name: str) -> Any:
    """A value of a type, from what was written for it.

    Args:
      kind: ``bool``, ``int``, ``float``, ``str``, a tuple type, a union of them or a mapping;
        values of other types are taken as they are.
      given: the value, or a text that spells it.
      name: of the setting, for messages.

    Raises:
      ValueError: it is not of that type, or a number that is not finite.
    """
    origin = typing.get_origin(kind) or kind
    if origin in (typing.Union, types.UnionType):
        return _one_of(typing.get_args(kind), given, name)
    if origin is tuple:
        return _tuple(typing.get_args(kind), given, name)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(given, Mapping):
            raise ValueError(f"{name} must be a block of settings by name, got {given!r}")
        return given
    return _READERS[origin](given, name) if origin in _READERS else given


def like(default: Any, given: Any, name: str) -> Any:
    """A value of the type that a default has; None says nothing about the type.

    Raises:
      ValueError: as ``value``.
    """
    if isinstance(default, bool | int | float | str):
        return value(type(default), given, name)
    if isinstance(default, tuple) and default:
        return _tuple((type(default[0]), ...), given, name)
    return literal(given) if isinstance(given, str) else given


def literal(text: str) -> Any:
    """What a text spells where no type says how to read it: a Python or JSON literal, or itself."""
    if text.lower() in ("true", "false", "none", "null"):
        return {"true": True, "false": False}.get(text.lower())
    for read in (ast.literal_eval, json.loads):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            return read(text)
    return text


def _boolean(given: Any, name: str) -> bool:
    spelled = str(given).lower() if isinstance(given, str | int) else ""
    if spelled not in _BOOLEANS:
        if hasattr(given, "dtype") and given.dtype == bool and given.ndim == 0:
            return bool(given)
        raise ValueError(f"{name} must be true or false, got {given!r}")
    return _BOOLEANS[spelled]


def _whole_number(given: Any, name: str) -> int:
    if isinstance(given, numbers.Integral) and not isinstance(given, bool):
        return int(given)
    number = _finite(given)
    if number is None or not number.is_integer():
        raise ValueError(f"{name} must be a whole number, e.g. 8 or 2e5, got {given!r}")
    return int(given) if isinstance(given, str) and given.strip("+- ").isdigit() else int(number)


def _number(given: Any, name: str) -> float:
    number = _finite(given)
    if number is None:
        raise ValueError(f"{name} must be a number, e.g. 0.1 or 3e-4, got {given!r}")
    # A whole number stays one: configs are kept as they were written.
    return given if isinstance(given, int) else number


def _finite(given: Any) -> float | None:
    """As a float; None for what is no finite number."""
    if isinstance(given, bool) or not isinstance(given, str | numbers.Real):
        return None
    try:
        number = float(given)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text(given: Any, name: str) -> str:
    if not isinstance(given, str):
        raise ValueError(f"{name} must be a text, got {given!r}")
    return given


def _one_of(kinds: tuple[Any, ...], given: Any, name: str) -> Any:
    if type(None) in kinds and (
        given is None or (isinstance(given, str) and given.lower() in ("none", "null", ""))
    ):
        return None
    refused: list[str] = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return value(kind, given, name)
            except ValueError as error:
                refused.append(str(error))
    raise ValueError(refused[0] + (" (or None)" if type(None) in kinds else ""))


def _tuple(kinds: tuple[Any, ...], given: Any, name: str) -> tuple[Any, ...]:
    """Of ``(kind, ...)`` any number; a single element stands for a tuple of it."""
    items = literal(given) if isinstance(given, str) else given
    if isinstance(items, str):
        items = tuple(filter(None, (item.strip() for item in items.split(","))))
    if not isinstance(items, list | tuple):
        items = (items,)
    endless = len(kinds) == 2 and kinds[1] is Ellipsis
    if not endless and len(items) != len(kinds):
        raise ValueError(f"{name} must be {len(kinds)} values, got {given!r}")
    each = [kinds[0]] * len(items) if endless else kinds
    try:
        return tuple(value(k, item, name) for k, item in zip(each, items, strict=True))
    except ValueError as error:
        raise ValueError(f"{error} in {given!r}" if items != (given,) else str(error)) from None


_READERS = {bool: _boolean, int: _whole_number, float: _number, str: _text}
