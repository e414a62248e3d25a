"""Plots of a meta-training run and of an evaluation, as files.

They are made for print (see ``plot_style``), and legends stand below the data, never on it.
Figures are made without pyplot, so nothing here opens a window, needs a display or leaves
state behind. A file appears whole or not at all; its kind follows its ending (png, pdf, svg).
"""

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from agents import task_presets
from meta import results
from meta.results import bootstrap, plot_style
from meta.results.looks import Looks, of_table, plain
from meta.results.plot_style import AXES, BLACK, BLUE, FONT, GREY, ORANGE, VERMILLION, WIDTH
from third_party.published import Published

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARGIN = 0.9  # inches of half a page's width that labels and ticks beside axes take

Rows = Sequence[Mapping[str, float]]  # of a run's metrics table, one for each meta-step


def column(rows: Rows, name: str) -> np.ndarray:
    """A column of a metrics table, ``[rows]``; NaN where a row has none."""
    return np.array([row.get(name, np.nan) for row in rows], float)


def evolution_plot(rows: Rows, path: str | os.PathLike[str]) -> None:
    """Plots fitness by generation and the held-out returns of the mean theta.

    Args:
      rows: with ``meta_step``, ``fitness_mean``, ``fitness_min``, ``fitness_max``, in units of
        return, and some with ``validation``. What is missing, NaN or infinite leaves a gap.

    Raises:
      ValueError: if there are no rows.
    """
    figure = plot_style.new_figure(AXES)
    _draw_evolution(figure.add_subplot(), rows)
    plot_style.save_with_legend(figure, path)


def return_curves_plot(
    table: results.Table,
    task: str,
    path: str | os.PathLike[str],
    references: Sequence[Published] = (),
    looks: Looks | None = None,
) -> None:
    """Plots the IQM of the returns over seeds against environment steps, for each optimizer.

    Bands are pointwise 95 % bootstrap intervals; an optimizer with a single seed has none.
    Untrained controls are dashed. A curve begins where an episode has ended in all seeds.

    Args:
      table: the logged points.
      references: published final returns on this task, drawn as dotted lines.
      looks: of all optimizers that are shown together; None: those of the table.

    Raises:
      ValueError: if the task has no results, or naming the optimizer, for failed runs and for
        seeds that were not logged at the same points.
    """
    figure = plot_style.new_figure(AXES)
    looks = of_table(table, looks)
    title = textwrap.fill(looks.task(task), 80)
    heading = _draw_curves(figure.add_subplot(), table, task, title, looks, references)
    plot_style.save_with_legend(figure, path, heading)


def interval_plot(
    summary: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    references: Sequence[Published] = (),
    looks: Looks | None = None,
) -> None:
    """Plots the IQM of the last returns with its interval, for each optimizer and task.

    Args:
      summary: rows of ``summary.summary``. Untrained controls have hollow markers.
      references: published final returns, drawn as stars in rows of their own.
      looks: of all optimizers that are shown together; None: those of the rows.

    Raises:
      ValueError: if there are no rows.
    """
    if not summary:
        raise ValueError("there is nothing to plot: the summary has no rows")
    tasks = list(dict.fromkeys(row["task"] for row in summary))
    optimizers = list(dict.fromkeys(row["optimizer"] for row in summary))
    lines = math.ceil(len(tasks) / 3)
    columns = math.ceil(len(tasks) / lines)  # four tasks are two by two
    published = list(dict.fromkeys(map(reference_label, references)))
    looks = plain(optimizers) if looks is None else looks
    names = [looks.label(name, _tasks_of(name, summary)) for name in optimizers]
    labels = [textwrap.fill(name, 24) for name in [*names, *published]]
    letters = [max(map(len, label.splitlines())) for label in labels]
    title_width = int((WIDTH / plot_style.LETTER - max(letters)) / columns) - 2
    titles = [_interval_title(summary, task, looks.task(task), title_width) for task in tasks]
    title_lines = max(title.count("\n") + 1 for title in titles)
    row_height = 0.1 + 0.15 * max(label.count("\n") + 1 for label in labels)
    panel_height = 0.5 + 0.17 * title_lines + row_height * len(labels)
    figure = plot_style.new_figure(0.3 + lines * panel_height)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    styles = {name: looks.styles[name] for name in optimizers}
    for axis, task, title in zip(axes.flat, tasks, titles, strict=False):
        rows = {row["optimizer"]: row for row in summary if row["task"] == task}
        for value in references:
            if value.task == task_presets.short_name(task):
                position = len(optimizers) + published.index(reference_label(value))
                axis.plot(value.value, position, "*", color=GREY, ms=9)
        plot_style.draw_intervals(axis, rows, "iqm", styles, labels, title, ticks=6 - columns)
        axis.xaxis.set_major_formatter(plot_style.return_formatter(axis.get_xlim()))
    for axis in axes.flat[len(tasks) :]:
        axis.set_visible(False)
    what = plot_style.seeds_heading([row["seeds"] for row in summary], "IQM and 95 % interval")
    figure.supxlabel(f"episode return ({what})", fontsize=FONT)
    plot_style.save(figure, path)


def overview_plot(
    rows: Rows,
    table: results.Table,
    task: str,
    path: str | os.PathLike[str],
    looks: Looks | None = None,
) -> None:
    """Plots evolution and the return curves of a task side by side.

    Args and errors are those of ``evolution_plot`` and ``return_curves_plot``.
    """
    looks = of_table(table, looks)
    figure = plot_style.new_figure(AXES)
    left, right = figure.subplots(1, 2)
    _draw_evolution(left, rows)
    heading = _draw_curves(right, table, task, textwrap.fill(looks.task(task), 36), looks)
    width = WIDTH / 2 - _MARGIN
    legend = plot_style.legend_below(left, width)
    legend = max(legend, plot_style.legend_below(right, width, heading))
    figure.set_figheight(AXES + legend)
    plot_style.save(figure, path)


def _draw_evolution(axis: "Axes", rows: Rows) -> None:
    from matplotlib.ticker import MaxNLocator

    if not rows:
        raise ValueError("no generations to plot")
    # An infinite fitness, of a failed member, would stretch the axis without end.
    fitness = (column(rows, f"fitness_{name}") for name in ("mean", "min", "max"))
    mean, least, greatest = (np.where(np.isfinite(x), x, np.nan) for x in fitness)
    generation = column(rows, "meta_step")
    validation = np.stack([generation, column(rows, "validation")], axis=1)
    label = "population, min to max"
    if len(generation) == 1:  # a band needs two
        axis.vlines(generation, least, greatest, color=BLUE, alpha=0.18, lw=8, label=label)
        axis.set_xlim(generation[0] - 1, generation[0] + 1)
    else:
        axis.fill_between(generation, least, greatest, color=BLUE, alpha=0.18, lw=0, label=label)
    marker = "." if len(generation) == 1 else ""
    axis.plot(generation, mean, color=BLUE, lw=1.6, marker=marker, label="population, mean")
    validation = validation[np.isfinite(validation).all(axis=1)]
    if len(validation):
        axis.plot(*validation.T, "o", color=VERMILLION, ms=4, label="mean theta, held out")
        best = validation[np.argmax(validation[:, 1])]
        label = f"best held out: {best[1]:,.4g} (generation {best[0]:.0f})"
        axis.plot(*best, "*", color=ORANGE, mec=BLACK, mew=0.8, ms=12, label=label)
    plot_style.dress(axis, "Meta-training", "generation", "fitness (episode return)")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axis.yaxis.set_major_formatter(plot_style.return_formatter(axis.get_ylim()))


def reference_label(value: Published) -> str:
    """``OPEN, published, 10M steps``."""
    return f"{value.optimizer}, published, {plot_style.engineering()(value.env_steps)} steps"


def _draw_curves(
    axis: "Axes",
    table: results.Table,
    task: str,
    title: str,
    looks: Looks,
    references: Sequence[Published] = (),
) -> str:
    """Returns the legend's heading."""
    optimizers = table.optimizers(task)
    if not optimizers:
        raise ValueError(f"no results for task {task!r}; the table has {table.tasks()}")
    curves = {}
    for name in optimizers:
        try:
            curves[name] = results.known_curves(table, task, name)
        except ValueError as error:
            raise ValueError(f"optimizer {name!r}: {error}") from error
    counts = {len(returns) for _, returns in curves.values()}
    for name, (env_steps, returns) in curves.items():
        seeds = len(returns)
        label = looks.label(name, [task])
        label += "" if len(counts) == 1 else f" ({seeds} seed{'s' * (seeds != 1)})"
        if seeds:
            band = bootstrap.curve_of_seeds(returns)
            plot_style.draw_line(axis, env_steps, band, looks.styles[name], label)
        else:  # a line of the legend alone
            color = looks.styles[name].color
            axis.plot([], [], color=color, label=f"{label} (no episode ended)")
    for number, value in enumerate(references):
        gaps = (0, (1, 1.5 + 2 * number))  # each with dots of its own
        axis.axhline(value.value, color=GREY, ls=gaps, lw=1.8, label=reference_label(value))
    plot_style.dress(axis, title, *_axis_labels(table, task))
    axis.xaxis.set_major_formatter(plot_style.engineering())
    axis.yaxis.set_major_formatter(plot_style.return_formatter(axis.get_ylim()))
    what = "IQM and 95 % interval"
    return plot_style.seeds_heading(counts, what) if len(counts) == 1 else what


def _axis_labels(table: results.Table, task: str) -> tuple[str, str]:
    """What a table's ``env_steps`` and ``episode_return`` are of a task."""
    if "supervised" in table.agent[table.task == task]:
        return "training examples", "accuracy on held-out examples"
    return "environment steps", "episode return"


def _tasks_of(optimizer: str, summary: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["task"] for row in summary if row["optimizer"] == optimizer]


def _interval_title(
    summary: Sequence[Mapping[str, Any]], task: str, shown: str, letters: int
) -> str:
    """The task and how long its runs were, in lines of so many letters."""
    steps = sorted({row["env_steps"] for row in summary if row["task"] == task})
    write = plot_style.engineering()
    span = " to ".join(dict.fromkeys(write(count) for count in (steps[0], steps[-1])))
    return f"{textwrap.fill(shown, max(letters, 8))}\n{span} env. steps"
