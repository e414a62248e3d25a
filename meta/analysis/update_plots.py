"""Plots of an analysis: panels of curves over training, a line for each optimizer."""

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from learned_opt.families.open_optimizer import MOMENTUM_DECAYS
from meta.analysis.curves import Curves
from meta.results import plot_style
from meta.results.looks import Looks
from meta.results.plot_style import FONT, LETTER, WIDTH, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NETWORKS = ("all", "actor", "critic")

# Statistics in the order in which they are shown, with the label of their axis.
_COSINES = ("cos_gradient", *(f"cos_momentum_{decay}" for decay in MOMENTUM_DECAYS))
_LABELS = {
    "cos_gradient": "cosine with\nthe gradient",
    **{f"cos_momentum_{decay}": f"cosine with\nmomentum {decay}" for decay in MOMENTUM_DECAYS},
    "relative_update": "norm of the update\n/ of the parameters",
    "update_over_parameter": "mean of\n|update / parameter|",
    "relative_noise": "norm of the noise\n/ of the update",
    "noise_over_parameter": "mean of\n|noise / parameter|",
    "parameter_norm": "norm of the\nparameters",
    "gradient_norm": "norm of the\ngradient",
    "update_norm": "norm of the\nupdate",
}
_FIGURES = {
    "cosine": _COSINES,
    "update_size": ("relative_update", "update_over_parameter"),
    "stochasticity": ("relative_noise", "noise_over_parameter"),
    "norms": ("parameter_norm", "gradient_norm", "update_norm"),
}
_LOGARITHMIC = {"update_over_parameter", "update_norm", "relative_update"}


def position(name: str) -> tuple[int, int, str]:
    """A key that sorts ``STATISTIC/NETWORK``: both networks together before each apart.

    Within them dormancy is first, then all is as in ``_LABELS``.
    """
    statistic, _, network = name.partition("/")
    is_dormancy = statistic.startswith("dormant_")
    place = 0 if is_dormancy else 1 + list(_LABELS).index(statistic)
    return NETWORKS.index(network), place, statistic


def plot(
    folder: Path, task: str, prefix: str, found: Mapping[str, Curves], looks: Looks
) -> list[str]:
    """Draws the curves of a task.

    Args:
      prefix: what files begin with.
      found: optimizer -> its curves; those without any (all seeds failed) are left out.
      looks: of all optimizers in the folder.

    Returns:
      The names of the files: a figure for each kind of statistic that there is.
    """
    shown = {name: curves for name, curves in found.items() if curves.values}
    names = {name for curves in shown.values() for name in curves.values}
    dormant = sorted(
        {name.partition("/")[0] for name in names if name.startswith("dormant_")},
        key=lambda name: float(name.removeprefix("dormant_")),
    )
    written = []
    for kind, rows in {"dormancy": tuple(dormant), **_FIGURES}.items():
        there = [row for row in rows if any(f"{row}/{network}" in names for network in NETWORKS)]
        if kind == "stochasticity" and not any(_any_noise(curves) for curves in shown.values()):
            continue
        if there:
            figure = _draw(task, kind, there, shown, looks)
            plot_style.save(figure, folder / f"{prefix}_{kind}.png")
            written.append(f"{prefix}_{kind}.png")
    return written


def _any_noise(curves: Curves) -> bool:
    return any(
        name.startswith("relative_noise") and bool(np.any(values != 0))
        for name, values in curves.values.items()
    )


def _draw(
    task: str, kind: str, rows: list[str], shown: Mapping[str, Curves], looks: Looks
) -> "Figure":
    """A panel for each statistic (down) and network (across)."""
    from matplotlib.ticker import MaxNLocator

    names = {name: looks.label(name, [task]) for name in shown}
    entries = len(shown)
    columns = max(1, min(entries, int(WIDTH / (0.7 + LETTER * max(map(len, names.values()))))))
    legend = 0.35 + 0.19 * math.ceil(entries / columns)
    figure = plot_style.new_figure(0.5 + 1.55 * len(rows) + legend)
    axes = figure.subplots(len(rows), len(NETWORKS), squeeze=False, sharex=True, sharey="row")
    for line, statistic in enumerate(rows):
        for column, network in enumerate(NETWORKS):
            axis = axes[line][column]
            for name, curves in shown.items():
                band = f"{statistic}/{network}"
                _draw_band(axis, curves, band, looks.styles[name], names[name])
            above = {"all": "actor and critic"}.get(network, network) if line == 0 else ""
            plot_style.dress(axis, above, "", "" if column else _label(statistic))
            axis.tick_params(labelleft=column == 0)
        _scale(axes[line], statistic)
    axes[0][0].xaxis.set_major_formatter(plot_style.engineering())
    axes[0][0].xaxis.set_major_locator(MaxNLocator(3))
    title = f"{looks.task(task)}: {kind.replace('_', ' ')}"
    figure.suptitle(textwrap.fill(title, 80), fontsize=FONT + 1)
    # A label of the whole figure would lie under the legend.
    axes[-1][1].set_xlabel("environment steps", fontsize=FONT)
    handles, labels = axes[0][0].get_legend_handles_labels()
    seeds = [len(next(iter(curves.values.values()))) for curves in shown.values()]
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        title=plot_style.seeds_heading(seeds, "mean and 95 % interval"),
        fontsize=FONT,
        title_fontsize=FONT,
        frameon=False,
    )
    return figure


def _label(statistic: str) -> str:
    if statistic.startswith("dormant_"):
        return f"dormant neurons,\nshare (tau = {statistic.removeprefix('dormant_')})"
    return _LABELS[statistic]


def _draw_band(axis: "Axes", curves: Curves, name: str, style: Style, label: str) -> None:
    band = curves.bands.get(name)
    if band is None:
        return
    ends = (band.low, band.high) if len(curves.values[name]) > 1 else (None, None)
    estimate = (band.point, *ends)
    plot_style.draw_line(
        axis, curves.env_steps, estimate, style, label, line=1.4, marker=3.5, markers=6
    )


def _scale(axes: np.ndarray, statistic: str) -> None:
    """Scales of a row, whose axes share the vertical one."""
    low, high = axes[0].get_ylim()
    lines = [np.asarray(line.get_ydata(), float) for axis in axes for line in axis.get_lines()]
    values = np.concatenate([*lines, np.full(1, np.nan)])
    values = values[np.isfinite(values)]
    positive = len(values) > 0 and values.min() > 0
    if statistic in _LOGARITHMIC and positive and values.max() > 20 * values.min():
        axes[0].set_yscale("log")
    elif statistic.startswith("dormant_"):
        axes[0].set_ylim(-0.02, max(0.1, high))
    elif not statistic.startswith("cos_"):
        axes[0].set_ylim(min(0.0, low), high)
