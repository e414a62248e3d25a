"""Which files a run writes besides PNG plots and Markdown tables: PDF, SVG, LaTeX.

What is asked for holds for everything that is written within ``also_as``, however deep, as the
functions that draw do not choose it. What was once written in another form is kept up to date.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from pathlib import Path

PLOTS = ("pdf", "svg")
LATEX = "latex"
KINDS = (*PLOTS, LATEX)

_ASKED: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("also_as", default=())


@contextlib.contextmanager
def also_as(kinds: Sequence[str]) -> Iterator[None]:
    """Within the block plots and tables are written in these forms, too.

    Args:
      kinds: of ``KINDS``.

    Raises:
      ValueError: an unknown kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"unknown --also_as={kind}; known: {', '.join(KINDS)}")
    token = _ASKED.set(tuple(kinds))
    try:
        yield
    finally:
        _ASKED.reset(token)


def asked(kind: str) -> bool:
    """Whether files of a kind are asked for."""
    return kind in _ASKED.get()


def beside(plot: Path) -> list[Path]:
    """The files that a plot is to be written to beside its own: asked for, or there already."""
    others = [plot.with_suffix(f".{kind}") for kind in PLOTS]
    return [
        path
        for path in others
        if path.suffix != plot.suffix and (asked(path.suffix[1:]) or path.is_file())
    ]
