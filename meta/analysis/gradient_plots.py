"""The figure of gradients and updates: a column for each task, axes in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agents import task_presets
from meta.analysis.distributions import Distributions, phases
from meta.analysis.gradient_counts import EDGES, PER_DECADE, QUANTITIES
from meta.results import plot_style
from meta.results.plot_style import BLACK, BLUE, FONT, GREEN, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Sizes below this, in log10, are left to the text, as zeros are: what is left of old gradients
# where new ones are 0.
LEAST = -10
MOST_TASKS = 4  # columns that can be read at a page's width
_PHASES = (("first", BLUE, "-"), ("second", GREEN, "--"), ("last third", VERMILLION, "-."))
_KINDS = {"supervised": "supervised", "ppo": "RL, PPO", "a2c": "RL, A2C"}


def plot(path: Path, optimizer: str, tasks: Mapping[str, Distributions], agent: str) -> None:
    """Draws how gradients and updates are distributed, of one optimizer.

    Args:
      tasks: name -> what was counted there, of one seed or more; the first four are drawn.
      agent: who learns the tasks that are environments.
    """
    shown = dict(list(tasks.items())[:MOST_TASKS])
    figure = plot_style.new_figure(8.6)
    axes = figure.subplots(5, len(shown), squeeze=False, sharey="row")
    for column, (task, found) in enumerate(shown.items()):
        kind = _KINDS.get(task_presets.agent_for(task, agent), agent)
        panels = axes[:, column]
        for row, quantity in enumerate(QUANTITIES):
            _histograms(panels[row], found, quantity)
            plot_style.dress(panels[row], "", f"log10 |{quantity}|", "")
            _bands(panels[row + 2], found, quantity)
            plot_style.dress(panels[row + 2], "", "", "")
        _shares(panels[4], found)
        plot_style.dress(panels[4], "", "% of training", "")
        for axis in panels[2:]:
            axis.set_xlim(0, 100)
        panels[0].set_title(f"{task} ({kind})", fontsize=FONT + 1)
    density = "density\nper decade"
    labels = (density, density, "log10 |gradient|", "log10 |update|", "share; cosine")
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label, fontsize=FONT)
    for row, quantity in enumerate(QUANTITIES):
        limits = _limits(shown, quantity)
        for axis in axes[row]:
            axis.set_xlim(*limits)
        axes[row + 2][0].set_ylim(*limits)
        axes[row][0].set_ylim(0, 1.3 * axes[row][0].get_ylim()[1])  # room for the text
    axes[4][0].set_ylim(top=1.02)
    for row in range(5):
        axes[row][-1].legend(
            fontsize=FONT, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
    seeds = sorted({len(found.by_seed) for found in shown.values()})
    count = " or ".join(map(str, seeds))
    figure.suptitle(
        f"Gradients and updates of {optimizer}, {count} seed{'s' * (seeds != [1])}",
        fontsize=FONT + 1,
    )
    plot_style.save(figure, path)


def _histograms(axis: "Axes", found: Distributions, quantity: str) -> None:
    drawn = EDGES >= LEAST
    edges = np.r_[EDGES[drawn], EDGES[-1] + 1 / PER_DECADE]
    zeros, tiny = [], []
    for (label, color, dashes), rows in zip(_PHASES, phases(len(found.env_steps)), strict=True):
        part = found.sizes[quantity].part(rows)
        # Of those that are drawn, so that shapes can be compared however many are 0.
        shares = part.shares[0][drawn] / max(float(part.shares[0][drawn].sum()), 1e-12)
        zeros.append(f"{100 * part.zeros[0]:.0f}")
        tiny.append(100 * float(part.shares[0][~drawn].sum()))
        axis.stairs(shares * PER_DECADE, edges, color=color, ls=dashes, lw=1.3, label=label)
    text = f"zeros: {', '.join(zeros)} %"
    if max(tiny) >= 0.5:
        below = ", ".join(f"{share:.0f}" for share in tiny)
        text += f"\n< 1e{LEAST}: {below} %"
    axis.text(0.03, 0.97, text, transform=axis.transAxes, fontsize=FONT, va="top")


def _bands(axis: "Axes", found: Distributions, quantity: str) -> None:
    x = _training(found)
    low, lower, middle, upper, high = found.sizes[quantity].quantiles().T
    axis.fill_between(x, low, high, color=BLUE, alpha=0.15, lw=0, label="5 to 95 %")
    axis.fill_between(x, lower, upper, color=BLUE, alpha=0.35, lw=0, label="25 to 75 %")
    axis.plot(x, middle, color=BLACK, lw=1.3, label="median")


def _shares(axis: "Axes", found: Distributions) -> None:
    x = _training(found)
    axis.plot(x, found.sizes["gradient"].zeros, color=BLUE, lw=1.3, label="zeros")
    axis.plot(x, found.sign_changes, color=VERMILLION, ls="--", lw=1.3, label="sign flips")
    axis.plot(x, found.cosine, color=BLACK, ls="-.", lw=1.3, label="cosine")
    axis.axhline(0.0, color="#999999", lw=0.6)


def _training(found: Distributions) -> np.ndarray:
    """The points as a percentage of training."""
    return 100.0 * found.env_steps / found.env_steps[-1]


def _limits(shown: Mapping[str, Distributions], quantity: str) -> tuple[float, float]:
    """The sizes, in log10, within which all but a thousandth of the elements lie anywhere."""
    low, high = [], []
    for found in shown.values():
        for shares in found.sizes[quantity].shares:
            if shares.sum() > 0:
                cumulative = np.cumsum(shares) / shares.sum()
                low.append(EDGES[int(np.searchsorted(cumulative, 0.002))])
                high.append(EDGES[int(np.searchsorted(cumulative, 0.9995))] + 1 / PER_DECADE)
    if not low:
        return float(EDGES[0]), float(EDGES[-1])
    return float(max(min(low), LEAST)) - 0.25, float(max(high)) + 0.25
