"""How meta-training by meta-gradients went: one figure of four panels."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from meta.results import plot_style
from meta.results.plots import Rows, column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL = 2.6  # inches: height of a panel


def meta_gradient_plot(rows: Rows, tasks: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Plots outer loss, meta-gradient, change of theta, and agents' returns by age.

    Args:
      rows: of the metrics table, with ``meta_step`` and what ``MetaGradientTrainer.step`` gives.
      tasks: names; the last panel shows the first task if there are several.

    Raises:
      ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("no meta-steps to plot")
    figure = plot_style.new_figure(2 * _PANEL)
    (loss, gradient), (theta, returns) = figure.subplots(2, 2)
    steps = column(rows, "meta_step")
    for index, task in enumerate(tasks):
        color = plot_style.COLORS[index % len(plot_style.COLORS)]
        _line(loss, steps, column(rows, f"outer_loss/{task}"), color, task)
    _dress(loss, "Outer loss", "agents' loss on fresh data", legend=len(tasks) > 1)
    mean = column(rows, "meta_gradient_agent_mean")
    spread = column(rows, "meta_gradient_agent_std")
    gradient.fill_between(
        steps, np.maximum(mean - spread, 0.0), mean + spread, color=plot_style.SKY, alpha=0.3, lw=0
    )
    _line(gradient, steps, mean, plot_style.SKY, "of an agent, mean and std")
    _line(gradient, steps, column(rows, "meta_gradient_norm"), plot_style.BLUE, "averaged")
    _dress(gradient, "Meta-gradient", "norm", legend=True)
    _line(theta, steps, column(rows, "theta_relative_change"), plot_style.BLUE, "")
    _dress(theta, "Change of theta since the start", "relative norm", legend=False)
    _returns_by_age(returns, rows, steps, tasks[0])
    plot_style.save(figure, path)


def _returns_by_age(axis: "Axes", rows: Rows, steps: np.ndarray, task: str) -> None:
    prefix = f"return_by_age/{task}/"
    groups = sorted({name for row in rows for name in row if name.startswith(prefix)})
    for index, name in enumerate(groups):
        color = plot_style.COLORS[index % len(plot_style.COLORS)]
        _line(axis, steps, column(rows, name), color, f"quarter {name.removeprefix(prefix)}")
    if not groups:  # agents without resets have one age
        _line(axis, steps, column(rows, f"episode_return/{task}"), plot_style.BLUE, "all")
    title = "Returns by agents' age" if groups else "Agents' returns"
    _dress(axis, f"{title}, {task}", "episode return", legend=bool(groups))


def _line(axis: "Axes", x: np.ndarray, y: np.ndarray, color: str, label: str) -> None:
    marker = "." if len(x) < 3 else ""
    axis.plot(x, y, color=color, lw=1.3, marker=marker, label=label or None)


def _dress(axis: "Axes", title: str, y_label: str, *, legend: bool) -> None:
    plot_style.dress(axis, title, "meta-step", y_label)
    if legend:
        axis.legend(fontsize=plot_style.FONT - 1, frameon=False)
