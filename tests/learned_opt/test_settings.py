import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from learned_opt import settings

TUPLE = tuple[int, ...]
PAIRS = tuple[tuple[int, int], ...]


@pytest.mark.parametrize(
    "kind, written, meant",
    [
        *((bool, text, True) for text in ("true", "True", "TRUE", "t", "1", 1, True, np.True_)),
        *((bool, text, False) for text in ("false", "False", "f", "0", 0, False, np.False_)),
        *((int, text, 10_000) for text in (10_000, "10000", "1e4", 1e4, " 10_000 ")),
        (int, np.int32(3), 3),
        (int, "-3", -3),
        (int, str(2**60 + 1), 2**60 + 1),
        *((float, text, 0.5) for text in (0.5, "0.5", "5e-1", np.float32(0.5))),
        (float, "3", 3.0),
        (str, "tanh", "tanh"),
        *((TUPLE, text, (16, 16)) for text in ("16,16", "(16,16)", "[16, 16]", [16, 16.0])),
        *((TUPLE, text, (16,)) for text in ("16", 16, "(16,)", [16])),
        *((TUPLE, text, ()) for text in ("", "()", [])),
        (PAIRS, "((16, 3), (8, 3))", ((16, 3), (8, 3))),
        (PAIRS, [[16, 3]], ((16, 3),)),
        (tuple[str, ...], "momentum,gradient", ("momentum", "gradient")),
        (tuple[str, ...], ["momentum"], ("momentum",)),
        *((float | None, text, None) for text in (None, "None", "none", "null")),
        (float | None, "0.1", 0.1),
        (TUPLE | None, "8,8", (8, 8)),
        (dict[str, Any], {"a": 1}, {"a": 1}),
    ],
)  # fmt: skip
def test_what_is_written_is_read_as_the_fields_type(kind, written, meant):
    read = settings.value(kind, written, "x")
    assert read == meant and isinstance(read, type(meant) if meant is not None else type(None))


@pytest.mark.parametrize(
    "kind, written, says",
    [
        *((bool, bad, "true or false") for bad in ("no", "off", "yes!", 2, 0.0, None, b"true", [])),
        *((int, bad, "whole number") for bad in ("abc", 8.5, "8.5", None, True, math.nan, b"8")),
        *((float, bad, "a number") for bad in ("abc", None, False, math.nan, "inf", [0.1])),
        *((str, bad, "a text") for bad in (None, 3, b"tanh", ["tanh"], True)),
        *((TUPLE, bad, "whole number") for bad in ("16,x", [8.5], None, "abc", [None], {"a": 1})),
        (PAIRS, "(16, 3)", "2 values"),
        (float | None, "abc", "a number.*or None"),
        (dict[str, Any], "a=1", "block of settings"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(kind, written, says):
    with pytest.raises(ValueError, match=f"^x .*{says}"):
        settings.value(kind, written, "x")


@dataclasses.dataclass(frozen=True)
class Example:
    rate: float
    widths: tuple[int, ...] = ()


def test_a_dataclass_is_read_whole():
    assert settings.read(Example, {"rate": "0.1", "widths": "8"}, "it") == Example(0.1, (8,))
    with pytest.raises(ValueError, match="it lacks the field 'rate'"):
        settings.read(Example, {}, "it")
    with pytest.raises(ValueError, match=r"it has no field 'rates'.*mean 'rate'"):
        settings.read(Example, {"rates": 1}, "it")
    with pytest.raises(ValueError, match=r"outer\.rate must be a number"):
        settings.read(Example, {"rate": "x"}, "it", "outer.")
    with pytest.raises(ValueError, match="it must be a block of settings"):
        settings.read(Example, None, "it")
