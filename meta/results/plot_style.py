"""How plots look: size, letters, colours, an optimizer's style, and writing the file.

Made for print: 6.5 inches wide, letters of 9 points or more, colours that colour-blind
readers can tell apart (Okabe and Ito 2008), and a marker for each optimizer besides, so that
grey prints can be read.
"""

import math
import os
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from meta import results
from meta.runs import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

WIDTH = 6.5  # inches: the text of a letter or A4 page
DPI = 150
FONT = 9  # points: the least size of any letter
LETTER = 0.068  # inches: about the mean width of a letter of that size

BLACK, GREY = "#000000", "#777777"
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILLION, PURPLE = "#D55E00", "#CC79A7"
# Grey stands in for the palette's yellow, which is too pale for lines on white.
COLORS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


# Middle, lower and upper end of a curve, each [T]; no ends where there is one seed.
Band = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]


class Style(NamedTuple):
    """How an optimizer is drawn: a colour, a marker, and dashed or not."""

    color: str
    marker: str
    dashed: bool


# Optimizers that are drawn alike in every plot, by name without case and punctuation.
_FIXED = {
    "open": (BLUE, "o"),
    "optim4rl": (VERMILLION, "D"),
    "nofeatures": (SKY, "s"),
    "velo": (GREEN, "^"),
    "star": (ORANGE, "v"),
    "l2lgd2": (PURPLE, "P"),
    "linear": (GREY, "X"),
    "adam": (BLACK, "o"),
    "rmsprop": (GREY, "s"),
    "sgd": (BLACK, "^"),
    "lion": (PURPLE, "D"),
}


def optimizer_styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each optimizer, no two the same.

    Known optimizers always look the same. Others take, in alphabetical order, the pairs of
    colour and marker that are free, first those whose colour nobody has. An untrained control
    looks like its optimizer, but dashed.

    Raises:
      ValueError: if there are more optimizers than pairs of colour and marker (56).
    """
    names = list(dict.fromkeys(names))
    bases = sorted({results.trained(name) for name in names})
    taken: dict[str, tuple[str, str]] = {}
    for base in bases:
        look = _FIXED.get("".join(filter(str.isalnum, base.lower())))
        if look is not None and look not in taken.values():
            taken[base] = look
    for base in (base for base in bases if base not in taken):
        used = list(taken.values())
        free = [(c, m) for m in MARKERS for c in COLORS if (c, m) not in used]
        if not free:
            most = len(COLORS) * len(MARKERS)
            raise ValueError(f"a plot can show {most} optimizers, got {len(bases)}: select fewer")
        colors = [color for color, _ in used]
        taken[base] = min(free, key=lambda look: colors.count(look[0]))
    return {
        name: Style(*taken[results.trained(name)], results.is_untrained(name)) for name in names
    }


def new_figure(height: float) -> "Figure":
    """An empty figure of the common width, ``height`` inches high, that pyplot knows nothing of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Writes a figure, whole or not at all, in the kind of file that the ending of path says."""
    kind = Path(path).suffix.lstrip(".") or "png"
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=DPI)


def dress(axis: "Axes", title: str, x_label: str, y_label: str) -> None:
    """Labels, letters and grid; called before the data's own tick formats are set."""
    axis.set_title(title, fontsize=FONT + 1)
    axis.set_xlabel(x_label, fontsize=FONT)
    axis.set_ylabel(y_label, fontsize=FONT)
    axis.tick_params(labelsize=FONT)
    axis.grid(color="#DDDDDD", lw=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def legend_below(axis: "Axes", width: float, heading: str | None = None) -> float:
    """Puts the legend below the axes, in as many columns (up to three) as fit.

    Args:
      axis: with its data drawn.
      width: inches that the legend may take.
      heading: above the entries, if any.

    Returns:
      The legend's height in inches, to be added to the figure's.
    """
    sample = 0.62  # inches that a line's sample and the space beside it take
    handles, names = axis.get_legend_handles_labels()
    labels = [textwrap.fill(name, int((width - sample) / LETTER)) for name in names]
    widths = [sample + LETTER * max(map(len, label.splitlines())) for label in labels]
    dealt: list[np.ndarray] = []
    for columns in (3, 2, 1):
        # As matplotlib deals entries out: column by column, the first ones longer by one.
        dealt = [part for part in np.array_split(np.arange(len(labels)), columns) if len(part)]
        if sum(max(widths[i] for i in part) for part in dealt) <= width:
            break
    axis.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),  # below the label of the x axis
        ncols=columns,
        title=heading,
        fontsize=FONT,
        title_fontsize=FONT,
        frameon=False,
    )
    heights = [len(label.splitlines()) for label in labels]
    lines = max(sum(heights[i] for i in part) for part in dealt) + (heading is not None)
    return 0.1 + 0.19 * float(lines)


def draw_line(
    axis: "Axes",
    x: np.ndarray,
    estimate: Band,
    style: Style,
    label: str,
    **sizes: float,
) -> None:
    """Draws a curve with its interval, if it has one.

    Args:
      axis: to draw on.
      x: ``[T]``.
      estimate: what is drawn at these.
      style: of the optimizer.
      label: of the curve in the legend.
      **sizes: ``line`` and ``marker`` in points, and about how many ``markers`` there are.
    """
    sizes = {"line": 1.6, "marker": 4.5, "markers": 8, **sizes}
    middle, low, high = estimate
    if low is not None and high is not None:
        axis.fill_between(x, low, high, color=style.color, alpha=0.18, lw=0)
    axis.plot(
        x,
        middle,
        color=style.color,
        ls="--" if style.dashed else "-",
        lw=sizes["line"],
        marker=style.marker,
        mfc="white" if style.dashed else style.color,
        ms=sizes["marker"],
        markevery=math.ceil(len(x) / sizes["markers"]),
        label=label,
    )


def engineering() -> "Formatter":
    """Writes 2,500,000 as 2.5M."""
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


def return_formatter(limits: tuple[float, float]) -> "Formatter":
    """Ten thousand and more as 10k; small returns as they are, for 500m would be a puzzle."""
    from matplotlib.ticker import ScalarFormatter

    if max(map(abs, limits)) >= 10_000:
        return engineering()
    return ScalarFormatter(useOffset=False)
