"""Which cases of a parametrised test run every time, and which with ``-m slow``."""

from collections.abc import Sequence
from typing import Any

import pytest


def slow_but(fast: Sequence[Any], cases: Sequence[Any], *, unpack: bool = False) -> list[Any]:
    """All of ``cases``, those not in ``fast`` marked slow; with ``unpack`` each is a tuple."""

    def case(values: Any) -> Any:
        marks = [] if values in fast else [pytest.mark.slow]
        return pytest.param(*(values if unpack else (values,)), marks=marks)

    return [case(values) for values in cases]
