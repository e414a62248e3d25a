"""Which cases of a parametrised test run every time, and which with ``-m slow``."""

from collections.abc import Sequence
from typing import Any

import pytest


def slow_but(fast: Sequence[Any], cases: Sequence[Any]) -> list[Any]:
    """All of ``cases``, those not in ``fast`` marked slow; a tuple is several arguments."""

    def case(values: Any) -> Any:
        several = values if isinstance(values, tuple) else (values,)
        return pytest.param(*several, marks=[] if values in fast else [pytest.mark.slow])

    return [case(values) for values in cases]
