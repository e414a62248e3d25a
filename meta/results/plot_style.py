"""How plots look: size, letters, colours, an optimizer's style, and writing the file.

Made for print: 6.5 inches wide, letters of 9 points or more, colours that colour-blind
readers can tell apart (Okabe and Ito 2008), and a marker for each optimizer besides, so that
grey prints can be read.
"""

import contextlib
import math
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from meta import results
from meta.results.bootstrap import Band
from meta.runs import atomic, outputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

WIDTH = 6.5  # inches: the text of a letter or A4 page
AXES = 3.5  # inches: height of axes with title and labels, without the legend
DPI = 150
FONT = 9  # points: the least size of any letter
LETTER = 0.068  # inches: about the mean width of a letter of that size

BLACK, GREY = "#000000", "#777777"
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILLION, PURPLE = "#D55E00", "#CC79A7"
# Grey stands in for the palette's yellow, which is too pale for lines on white.
COLORS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


_METADATA: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


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


def optimizer_styles(
    names: Iterable[str],
    families: Mapping[str, str] | None = None,
    same: Mapping[str, str] | None = None,
) -> dict[str, Style]:
    """A style for each optimizer, no two the same.

    Known optimizers always look the same, and so does the first of a known family under another
    name. Others take, in alphabetical order, the pairs of colour and marker that are free, first
    those whose colour nobody has. An untrained control looks like its optimizer, but dashed.

    Args:
      families: of optimizers by name (``learned_opt.names``), as far as they are known.
      same: name -> the one of another name that is the same optimizer: they share the colour.

    Raises:
      ValueError: if there are more optimizers than pairs of colour and marker (56).
    """
    names, same = list(dict.fromkeys(names)), same or {}
    bases = sorted({results.trained(name) for name in names})
    apart = [base for base in bases if base not in same]
    taken: dict[str, tuple[str, str]] = {}
    for known in ({}, families or {}):
        for base in (base for base in apart if base not in taken):
            look = _FIXED.get("".join(filter(str.isalnum, known.get(base, base).lower())))
            if look is not None and look not in taken.values():
                taken[base] = look
    for base in (base for base in [*apart, *same] if base in bases and base not in taken):
        used = list(taken.values())
        free = [(c, m) for m in MARKERS for c in COLORS if (c, m) not in used]
        if not free:
            most = len(COLORS) * len(MARKERS)
            raise ValueError(f"a plot can show {most} optimizers, got {len(bases)}: select fewer")
        colors = [color for color, _ in used]
        wanted, _ = taken.get(same.get(base, ""), ("", ""))
        taken[base] = min(free, key=lambda look: (look[0] != wanted, colors.count(look[0])))
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
    """Writes a figure, whole or not at all, in the kind of file that the ending of path says.

    Beside it the kinds that ``outputs.also_as`` asks for, and those that are there already.
    """
    path = Path(path)
    for file in (path, *outputs.beside(path)):
        kind = file.suffix.lstrip(".") or "png"
        with atomic.replacing(file) as temporary, _file_settings():
            figure.savefig(temporary, format=kind, dpi=DPI, metadata=_METADATA.get(kind))


def _file_settings() -> contextlib.AbstractContextManager[None]:
    """What vector graphics are written with: TrueType letters, and the same plot the same file."""
    import matplotlib as mpl

    return mpl.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "lopt-rl"})


def save_with_legend(
    figure: "Figure", path: str | os.PathLike[str], heading: str | None = None
) -> None:
    """Writes a figure of one axes, ``AXES`` high, with the legend below, which adds to it."""
    (axis,) = figure.axes
    figure.set_figheight(AXES + legend_below(axis, WIDTH, heading))
    save(figure, path)


def seeds_heading(counts: Iterable[int], what: str) -> str:
    """What is shown, and of how many seeds: ``one seed`` has no intervals to name."""
    ordered = sorted(set(counts))
    if ordered == [1]:
        return "one seed"
    ends = dict.fromkeys((ordered[0], ordered[-1]))
    return f"{what}, {' to '.join(map(str, ends))} seeds"


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
      width: inches that the legend may take; labels are broken into lines where they must be.
      heading: above the entries, if any.

    Returns:
      The legend's height in inches, to be added to the figure's.
    """
    handles, names = axis.get_legend_handles_labels()
    widest = int(width / LETTER)
    box = axis.bbox
    tries = [(3, widest), (2, widest), *((1, letters) for letters in range(widest, 11, -2))]
    for columns, letters in tries:
        legend = axis.legend(
            handles,
            [textwrap.fill(name, letters) for name in names],
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),  # below the label of the x axis
            ncols=columns,
            title=heading and textwrap.fill(heading, letters),
            fontsize=FONT,
            title_fontsize=FONT,
            frameon=False,
        )
        # Measured, as letters differ in width.
        box = legend.get_window_extent().transformed(axis.figure.dpi_scale_trans.inverted())
        if box.width <= width:
            break
    return 0.1 + box.height


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


def draw_intervals(
    axis: "Axes",
    rows: Mapping[str, Mapping[str, Any]],
    column: str,
    styles: Mapping[str, Style],
    labels: Sequence[str],
    title: str,
    ticks: int = 5,
) -> None:
    """Draws a marker, and a bar for its interval, for each optimizer, the first on top.

    Args:
      rows: by optimizer; one without a row, or without a value, has an empty line.
      column: of the rows; the ends of its interval are ``column_low`` and ``column_high``.
      styles: of the optimizers, in order.
      labels: of these lines and any that follow.
      title: of the axes.
      ticks: about how many there are at most.
    """
    from matplotlib.ticker import MaxNLocator

    for position, (name, style) in enumerate(styles.items()):
        row = rows.get(name)
        if row is None or row[column] is None:
            continue
        ends = [row[f"{column}_low"], row[f"{column}_high"]]
        if ends[0] is not None:
            axis.plot(
                ends, [position] * 2, color=style.color, lw=9, alpha=0.35, solid_capstyle="butt"
            )
        face = "white" if style.dashed else style.color
        axis.plot(row[column], position, style.marker, color=style.color, mfc=face, ms=5)
    dress(axis, "", "", "")
    axis.set_title(title, fontsize=FONT)
    axis.grid(axis="y", visible=False)
    axis.xaxis.set_major_locator(MaxNLocator(ticks))
    axis.margins(x=0.12)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.4, -0.6)


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
