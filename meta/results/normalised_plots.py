"""Plots of a comparison in normalised scores, in the manner of rliable.

Aggregate scores, the probability of improvement, performance profiles and sample efficiency
(Agarwal et al. 2021). Style and files as in ``plots``; the normaliser's mean is 1.
"""

import functools
import os
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from meta.results import bootstrap, normalised, plot_style
from meta.results.looks import Looks, plain
from meta.results.normalised import Comparison
from meta.results.plot_style import AXES, FONT, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TITLES = {
    "normalised_iqm": "IQM",
    "normalised_mean": "mean",
    "normalised_median": "median",
    "optimality_gap": "optimality gap",
}
_LABEL = 24  # letters of an optimizer's name in one line

Row = Mapping[str, Any]


def drawings(
    rows: Sequence[Row], compared: Comparison, looks: Looks | None = None
) -> dict[str, Callable[[Path], None]]:
    """What there is to draw of normalised scores: name -> a function that draws to a path.

    Here as below ``looks`` are those of all optimizers that are shown together; None: of those
    compared, by name alone.
    """
    plots: dict[str, Callable[[Path], None]] = {}
    plots["aggregate"] = functools.partial(aggregate_plot, rows, compared, looks=looks)
    if any(row["improvement"] is not None for row in rows):
        plots["improvement"] = functools.partial(improvement_plot, rows, compared, looks=looks)
    plots["profile"] = functools.partial(profile_plot, compared, looks=looks)
    if compared.curves:
        plots["sample_efficiency"] = functools.partial(efficiency_plot, compared, looks=looks)
    return plots


def aggregate_plot(
    rows: Sequence[Row],
    compared: Comparison,
    path: str | os.PathLike[str],
    looks: Looks | None = None,
) -> None:
    """Plots IQM, mean, median and optimality gap of normalised scores with their intervals.

    Args:
      rows: of ``normalised.rows``; those over all tasks if there are any, else the task's.
      compared: what they are of.
    """
    shown = {row["optimizer"]: row for row in _overall(rows, compared)}
    looks = _of(compared, looks)
    figure = plot_style.new_figure(_height(_labels(shown, compared, looks), panels=2))
    axes = figure.subplots(2, 2, sharey=True)
    for axis, (name, title) in zip(axes.flat, _TITLES.items(), strict=True):
        better = "lower is better" if name == "optimality_gap" else "higher is better"
        _draw_rows(axis, shown, name, compared, looks, f"{title} ({better})")
    seeds = plot_style.seeds_heading([row["seeds"] for row in shown.values()], "95 % interval")
    figure.supxlabel(_score_label(compared, "score", seeds), fontsize=FONT)
    plot_style.save(figure, path)


def improvement_plot(
    rows: Sequence[Row],
    compared: Comparison,
    path: str | os.PathLike[str],
    looks: Looks | None = None,
) -> None:
    """Plots the probability that a run of each optimizer scores more than the normaliser's.

    Raises:
      ValueError: if there is nothing to compare with the normaliser.
    """
    shown = {
        row["optimizer"]: row for row in _overall(rows, compared) if row["improvement"] is not None
    }
    if not shown:
        raise ValueError(
            f"there is nothing to compare with {compared.control}: run other optimizers"
        )
    looks = _of(compared, looks)
    figure = plot_style.new_figure(_height(_labels(shown, compared, looks), panels=1))
    axis = figure.subplots()
    _draw_rows(axis, shown, "improvement", compared, looks, _where(compared, looks))
    axis.axvline(0.5, color=GREY, lw=1.0, ls="--", zorder=0)
    axis.set_xlim(-0.02, 1.02)
    axis.set_xlabel(
        f"probability of a higher return than {compared.control} (95 % interval; 0.5: no "
        "difference)",
        fontsize=FONT,
    )
    plot_style.save(figure, path)


def profile_plot(
    compared: Comparison, path: str | os.PathLike[str], looks: Looks | None = None
) -> None:
    """Plots the share of runs whose normalised score is above each threshold.

    Bands are pointwise 95 % intervals; an optimizer with a single seed has none.
    """
    values = np.concatenate([scores.ravel() for scores in compared.scores.values()])
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    thresholds = np.linspace(low, high + 0.02 * (high - low), 201)
    figure = plot_style.new_figure(AXES)
    axis = figure.add_subplot()
    looks = _of(compared, looks)
    for name in compared.optimizers:
        scores = compared.scores[name]
        if len(scores) >= bootstrap.LEAST_SEEDS:
            band: bootstrap.Band = bootstrap.performance_profile(scores, thresholds)
        else:
            band = np.mean(scores.ravel()[:, None] > thresholds, axis=0), None, None
        label = looks.label(name, compared.tasks)
        plot_style.draw_line(axis, thresholds, band, looks.styles[name], label)
    title = f"Performance profile, {_where(compared, looks)}"
    plot_style.dress(axis, title, _score_label(compared, "threshold"), "share of runs above it")
    heading = plot_style.seeds_heading(map(len, compared.scores.values()), "95 % interval")
    plot_style.save_with_legend(figure, path, heading)


def efficiency_plot(
    compared: Comparison, path: str | os.PathLike[str], looks: Looks | None = None
) -> None:
    """Plots the IQM of normalised returns over tasks and seeds against training.

    Raises:
      ValueError: if there are no curves.
    """
    if not compared.curves:
        raise ValueError("there are no curves over all tasks to plot")
    figure = plot_style.new_figure(AXES)
    axis = figure.add_subplot()
    looks = _of(compared, looks)
    for name in compared.optimizers:
        band = bootstrap.curve_of_seeds(compared.curves[name])
        label = looks.label(name, compared.tasks)
        plot_style.draw_line(axis, compared.points, band, looks.styles[name], label)
    axis.axhline(1.0, color=GREY, lw=1.0, ls=":")
    x_label = "environment steps" if compared.points_are_steps else "share of training (%)"
    title = f"Sample efficiency, {_where(compared, looks)}"
    plot_style.dress(axis, title, x_label, _score_label(compared, "return"))
    if compared.points_are_steps:
        axis.xaxis.set_major_formatter(plot_style.engineering())
    heading = plot_style.seeds_heading(map(len, compared.scores.values()), "IQM and 95 % interval")
    plot_style.save_with_legend(figure, path, heading)


def _overall(rows: Sequence[Row], compared: Comparison) -> list[Row]:
    """The rows over all tasks, or of the one task."""
    task = normalised.ALL_TASKS if len(compared.tasks) > 1 else compared.tasks[0]
    return [row for row in rows if row["task"] == task]


def _of(compared: Comparison, looks: Looks | None) -> Looks:
    return plain(compared.optimizers) if looks is None else looks


def _where(compared: Comparison, looks: Looks) -> str:
    if len(compared.tasks) == 1:
        return textwrap.fill(looks.task(compared.tasks[0]), 60)
    return f"over {len(compared.tasks)} tasks"


def _score_label(compared: Comparison, what: str, more: str = "") -> str:
    details = compared.unit + (f"; {more}" if more else "")
    return f"normalised {what} ({details})"


def _labels(names: Iterable[str], compared: Comparison, looks: Looks) -> list[str]:
    return [textwrap.fill(looks.label(name, compared.tasks), _LABEL) for name in names]


def _height(labels: Sequence[str], panels: int) -> float:
    lines = max(label.count("\n") + 1 for label in labels)
    return 0.5 + panels * (0.55 + (0.12 + 0.15 * lines) * len(labels))


def _draw_rows(
    axis: "Axes",
    shown: Mapping[str, Row],
    column: str,
    compared: Comparison,
    looks: Looks,
    title: str,
) -> None:
    of_shown = {name: looks.styles[name] for name in shown}
    labels = _labels(shown, compared, looks)
    plot_style.draw_intervals(axis, shown, column, of_shown, labels, title)
