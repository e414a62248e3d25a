"""A report's section on meta-training: curves of each, and held-out returns of all."""

import math
from pathlib import Path

import numpy as np

from meta.report import page, returns
from meta.report.sources import Folder, with_variants
from meta.results import plot_style
from meta.training import outer_loop


def section(folders: list[Folder]) -> str:
    """Curves of each meta-training, and the held-out returns of all in one figure."""
    runs = [run for run in with_variants(folders) if run.is_training]
    if not runs:
        return page.paragraph("No folder is of a meta-training.", "note")
    body = ""
    validated = [run for run in runs if len(_validations(run))]
    if len(validated) > 1:
        body += page.drawn(
            lambda path: _validation_plot(validated, folders, path),
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
    if run.kind not in outer_loop.names():
        return page.missing(f"Not drawn: the outer loop {run.kind!r} is not known here.")
    loop, tasks = outer_loop.get(run.kind), list(run.config.get("tasks", {}))
    return page.drawn(
        lambda path: loop.plot(run.metrics, tasks, path, None), f"{run.label}: {loop.caption}"
    )


def _validations(run: Folder) -> np.ndarray:
    """``[V, 2]``: meta-step, held-out return."""
    pairs = [(row["meta_step"], row.get("validation", math.nan)) for row in run.metrics]
    return np.array([p for p in pairs if math.isfinite(p[1])], float).reshape(-1, 2)


def _validation_plot(runs: list[Folder], folders: list[Folder], path: Path) -> None:
    figure = plot_style.new_figure(plot_style.AXES)
    axis = figure.add_subplot()
    for label, (style, run) in _looks(runs, folders).items():
        axis.plot(
            *_validations(run).T, color=style.color, marker=style.marker, ms=4, lw=1.3, label=label
        )
    plot_style.dress(axis, "Held-out return of theta", "meta-step", "normalised episode return")
    plot_style.save_with_legend(figure, path)


def _looks(runs: list[Folder], folders: list[Folder]) -> dict[str, tuple[plot_style.Style, Folder]]:
    """Label -> look and run: those of its result among the returns, where there are any."""
    every = returns.pooled(folders)
    known = {} if every is None else every.looks.styles
    shown = {}
    for run in runs:
        name = str(run.config.get("optimizer", {}).get("name", ""))
        study, _, variant = run.label.rpartition("/")
        is_variant = study in (folder.label for folder in folders)
        place = (study, f"{name} ({variant})") if is_variant else (run.label, name)
        found = name if every is None else every.named.of(*place)
        shown[found if found in known and found not in shown else run.label] = run
    styles = plot_style.optimizer_styles([*known, *shown])
    return {label: (known.get(label, styles[label]), run) for label, run in shown.items()}
