"""A report's sections on numbers: meta-training and comparisons.

Plots and statistics come from the same code as those in the folders, over all folders at once.
"""

import functools
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from meta import results
from meta.evaluation import reporting
from meta.report import html as page
from meta.report.setup import task_settings
from meta.report.sources import Folder
from meta.results import (
    normalised,
    normalised_plots,
    plot_style,
    plots,
    summary,
)
from meta.results.normalised import Comparison
from meta.training import outer_loop
from third_party.published import Published


def drawn(draw: Callable[[Path], Any], caption: str) -> str:
    """A figure made by a function that writes a PNG file; says so if it cannot be drawn."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plot.png"
        try:
            draw(path)
            return page.figure(path.read_bytes(), caption)
        except (ValueError, KeyError, IndexError, OSError) as error:
            return page.missing(f"Not drawn ({caption.split('.')[0]}): {error}")


def meta_training(folders: list[Folder]) -> str:
    """Curves of each meta-training, and the held-out returns of all in one figure."""
    runs = [inner for folder in folders for inner in (folder, *folder.variants)]
    runs = [run for run in runs if run.is_training]
    if not runs:
        return page.paragraph("No folder is of a meta-training.", "note")
    body = ""
    validated = [run for run in runs if len(_validations(run))]
    if len(validated) > 1:
        body += drawn(
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
    if run.kind not in outer_loop.names():
        return page.missing(f"Not drawn: the outer loop {run.kind!r} is not known here.")
    loop, tasks = outer_loop.get(run.kind), list(run.config.get("tasks", {}))
    return drawn(
        lambda path: loop.plot(run.metrics, tasks, path, None), f"{run.label}: {loop.caption}"
    )


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


def pool(folders: list[Folder]) -> tuple[results.Table | None, list[str]]:
    """The results of all folders in one table, and notes on how names were told apart.

    A task whose settings differ between folders is another task in each of them. Of an optimizer
    that several folders have results of, not the same ones, the first folder's keep the name.
    """
    known = {folder.label: folder.table for folder in folders if folder.table is not None}
    notes: list[str] = []
    renamed: dict[tuple[str, str], str] = {}
    for task, settings in task_settings(folders).items():
        alike: dict[str, list[str]] = {}
        for label, fields in settings.items():
            if label in known and task in known[label].tasks():
                alike.setdefault(repr(sorted(fields.items())), []).append(label)
        if len(alike) > 1:
            for group in alike.values():
                renamed |= {(label, task): f"{task} ({', '.join(group)})" for label in group}
            notes.append(
                f"{task}: agents were trained with other settings in other folders (see the "
                "differences), so their returns stand apart."
            )
    groups: dict[tuple[str, str], dict[str, list[results.Row]]] = {}
    for label, table in known.items():
        for row in _rows(table):
            task = renamed.get((label, row.task), row.task)
            found = groups.setdefault((task, row.optimizer), {})
            found.setdefault(label, []).append(row._replace(task=task))
    analyses = {folder.label for folder in folders if folder.kind in ("analysis", "gradients")}
    rows: list[results.Row] = []
    for (task, optimizer), by_folder in groups.items():
        # An analysis repeats runs of an evaluation; its own count where there is none.
        evaluated = {k: v for k, v in by_folder.items() if k not in analyses} or by_folder
        alike_rows = {repr(sorted(v)): (k, v) for k, v in reversed(evaluated.items())}
        (first, _), *others = apart = list(reversed(alike_rows.values()))
        for label, of_folder in apart:
            name = optimizer if label == first else _named(optimizer, label)
            rows += [row._replace(optimizer=name) for row in of_folder]
        if others:
            notes.append(
                f"{optimizer} on {task}: several folders have results; the plain name is that of "
                f"{first}, those of {', '.join(label for label, _ in others)} stand beside it."
            )
    return (results.from_rows(rows) if rows else None), notes


def _named(optimizer: str, label: str) -> str:
    if results.is_untrained(optimizer):
        return results.untrained(f"{results.trained(optimizer)} [{label}]")
    return f"{optimizer} [{label}]"


def _rows(table: results.Table) -> Iterator[results.Row]:
    columns = (getattr(table, name).tolist() for name in results.COLUMNS)
    for values in zip(*columns, strict=True):
        yield results.Row(*values)


def compared(folders: list[Folder], by: str, references: tuple[str, ...]) -> str:
    """Tables and plots of all results.

    Args:
      folders: whose ``results.csv`` are pooled.
      by: the normalising optimizer.
      references: names in ``evaluation_report.REFERENCES``.
    """
    table, notes = pool(folders)
    if table is None:
        return page.missing("No folder has results that can be read.")
    table, failed = normalised.failures_as_worst(table)
    try:
        found = normalised.normalise(table, by)
        rows = normalised.rows(table, found)
    except ValueError as error:
        return page.missing(f"The results cannot be compared: {error}")
    notes = [note for note in (failed, *notes, *found.notes) if note]
    published = [value for name in references for value in reporting.REFERENCES[name]]
    return page.bullets(notes) + _tables(rows, found) + _plots(table, rows, found, published)


def _tables(rows: summary.Summary, found: Comparison) -> str:
    raw = [row for row in rows if row["task"] != normalised.ALL_TASKS]
    interval = summary.with_interval
    body = page.table(
        ("task", "optimizer", "seeds", "env steps", "IQM", "mean", "area under curve (IQM)"),
        [
            [
                row["task"],
                row["optimizer"],
                row["seeds"],
                f"{row['env_steps']:,}",
                interval(row["iqm"], row["iqm_low"], row["iqm_high"]),
                interval(row["mean"], row["mean_low"], row["mean_high"]),
                interval(row["auc_iqm"], row["auc_low"], row["auc_high"]),
            ]
            for row in raw
        ],
        "Episode returns at the last logged point (IQM: interquartile mean over seeds); in "
        "brackets the 95 % stratified bootstrap interval. Area under curve: mean return over the "
        "run.",
    )
    if found.by is None or not found.tasks:
        return body
    names = (*normalised.NORMALISED, "improvement")
    return body + page.table(
        ("task", "optimizer", "IQM", "mean", "median", "optimality gap", f"P(better: {found.by})"),
        [
            [row["task"], row["optimizer"]]
            + [interval(*(row[name + end] for end in ("", "_low", "_high"))) for name in names]
            for row in rows
            if row["normalised_iqm"] is not None
        ],
        f"Scores: last returns divided by the mean of {found.by}'s (no unit). Optimality gap: by "
        f"how much scores, cut off at 1, fall short of 1. P(better: {found.by}): probability that "
        f"a run's return is higher than one of {found.by}.",
    )


def _plots(
    table: results.Table, rows: summary.Summary, found: Comparison, published: list[Published]
) -> str:
    raw = [row for row in rows if row["task"] != normalised.ALL_TASKS]
    body = drawn(
        lambda path: plots.interval_plot(raw, path),
        "Final episode returns on each task: IQM over seeds and 95 % interval (as OPEN's figure "
        "2). Hollow: untrained.",
    )
    steps = {row["task"]: row["env_steps"] for row in raw}
    for task in table.tasks():
        beside = reporting.as_long(published, task, steps[task])
        draw = functools.partial(plots.return_curves_plot, table, task, references=beside)
        body += drawn(
            draw,
            f"{task}: episode return against environment steps, IQM over seeds and 95 % interval "
            "(as OPEN's figure 9). Dashed: untrained.",
        )
    if len(found.tasks) > 1 and len(found.optimizers) < 2:
        # Nothing but the normaliser was run on all tasks: each one's scores by themselves.
        for task in found.tasks:
            one_task = normalised.normalise(results.select(table, task), str(found.by))
            body += _score_plots([row for row in raw if row["task"] == task], one_task)
        return body
    return body + (_score_plots(rows, found) if found.tasks else "")


def _score_plots(rows: summary.Summary, found: Comparison) -> str:
    """Plots of normalised scores."""
    where = found.tasks[0] if len(found.tasks) == 1 else "all tasks"
    body = drawn(
        lambda path: normalised_plots.aggregate_plot(rows, found, path),
        f"{where}: normalised scores ({found.by}'s mean is 1): IQM, mean, median and optimality "
        "gap with 95 % intervals (as OPEN's figure 3).",
    )
    if any(row["improvement"] is not None for row in rows):
        body += drawn(
            lambda path: normalised_plots.improvement_plot(rows, found, path),
            f"{where}: probability that a run's return is higher than one of {found.by}, with 95 % "
            "intervals; 0.5: no difference.",
        )
    body += drawn(
        lambda path: normalised_plots.profile_plot(found, path),
        f"{where}: performance profile, the share of runs whose normalised score is above each "
        "threshold.",
    )
    if found.curves:
        body += drawn(
            lambda path: normalised_plots.efficiency_plot(found, path),
            f"{where}: sample efficiency, IQM of normalised returns over tasks and seeds against "
            "training.",
        )
    return body
