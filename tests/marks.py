"""Which cases of a parametrised test run every time, and which with ``-m slow``."""

from collections.abc import Sequence
from typing import Any

import pytest


def slow_but(fast: Sequence[Any], names: Sequence[Any]) -> list[Any]:
    """All of ``names``, those that are not in ``fast`` marked slow."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]
