"""A report's section on meta-training: curves of each, and held-out returns of all."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from meta.report import page
from meta.report.sources import Folder, with_variants
from meta.results import meta_gradient_plots, plot_style, plots


def section(folders: list[Folder]) -> str:
    """Curves of each meta-training, and the held-out returns of all in one figure."""
    runs = [run for run in with_variants(folders) if run.is_training]
    if not runs:
        return page.paragraph("No folder is of a meta-training.", "note")
    body = ""
    validated = [run for run in runs if len(_validations(run))]
    if len(validated) > 1:
        body += page.drawn(
            lambda path: _validation_plot(validated, path),
            "Held-out return of theta (mean over validation seeds, each task divided by its "
            "normaliser) against meta-steps. A meta-step takes other numbers of environment steps "
            "in other configs.",
        )
    for run in runs:
        body += page.heading(run.label) + _curves(run)
    return body


def _curves(run: Folder) -> str:
    if not run.metrics:
        return page.missing("There is no meta-step to draw.")
    if run.kind == "es":
        return page.drawn(
            lambda path: plots.meta_training_plot(_history(run), path),
            f"{run.label}: fitness (episode return, divided by each task's normaliser) of the "
            "population by generation, and held-out returns of the mean theta.",
        )
    tasks = list(run.config.get("tasks", {}))
    return page.drawn(
        lambda path: meta_gradient_plots.meta_training_plot(run.metrics, tasks, path),
        f"{run.label}: outer loss, meta-gradient norm, relative change of theta, and the agents' "
        "episode returns by age, by meta-step.",
    )


def _history(run: Folder) -> dict[str, Any]:
    names = {name: name for name in ("fitness_mean", "fitness_min", "fitness_max")}
    names["generation"] = "meta_step"
    history: dict[str, Any] = {
        name: [row.get(column, math.nan) for row in run.metrics] for name, column in names.items()
    }
    return history | {"validation": _validations(run)}


def _validations(run: Folder) -> np.ndarray:
    """``[V, 2]``: meta-step, held-out return."""
    pairs = [(row["meta_step"], row.get("validation", math.nan)) for row in run.metrics]
    return np.array([p for p in pairs if math.isfinite(p[1])], float).reshape(-1, 2)


def _validation_plot(runs: list[Folder], path: Path) -> None:
    figure = plot_style.new_figure(plots.AXES)
    axis = figure.add_subplot()
    for index, run in enumerate(runs):
        color, marker = plot_style.COLORS[index % 8], plot_style.MARKERS[index % 7]
        axis.plot(*_validations(run).T, color=color, marker=marker, ms=4, lw=1.3, label=run.label)
    plot_style.dress(axis, "Held-out return of theta", "meta-step", "normalised episode return")
    legend = plot_style.legend_below(axis, plot_style.WIDTH)
    figure.set_figheight(plots.AXES + legend)
    plot_style.save(figure, path)
