"""A report's section on returns: tables and plots of all results, of all folders at once.

Plots and statistics come from the same code as those in the folders.
"""

import functools
from collections.abc import Iterator

from meta import results
from meta.evaluation import reporting
from meta.report import page
from meta.report.sources import Folder, task_settings
from meta.results import normalised, normalised_plots, plots, summary
from meta.results.normalised import Comparison
from third_party.published import Published


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


def section(folders: list[Folder], by: str, references: tuple[str, ...]) -> str:
    """Tables and plots of all results.

    Args:
      folders: whose ``results.csv`` are pooled.
      by: the normalising optimizer.
      references: names in ``reporting.REFERENCES``.
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
    means = [summary.with_interval(r["mean"], r["mean_low"], r["mean_high"]) for r in raw]
    body = page.table(
        summary.HEADER,
        [summary.cells(row, mean) for row, mean in zip(raw, means, strict=True)],
        "Episode returns at the last logged point (IQM: interquartile mean over seeds); in "
        "brackets the 95 % stratified bootstrap interval. Area under curve: mean return over the "
        "run.",
    )
    if found.by is None or not found.tasks:
        return body
    return body + page.table(
        ("task", "optimizer", "IQM", "mean", "median", "optimality gap", f"P(better: {found.by})"),
        reporting.normalised_cells(rows),
        f"Scores: last returns divided by the mean of {found.by}'s (no unit). Optimality gap: by "
        f"how much scores, cut off at 1, fall short of 1. P(better: {found.by}): probability that "
        f"a run's return is higher than one of {found.by}.",
    )


def _plots(
    table: results.Table, rows: summary.Summary, found: Comparison, published: list[Published]
) -> str:
    raw = [row for row in rows if row["task"] != normalised.ALL_TASKS]
    body = page.drawn(
        lambda path: plots.interval_plot(raw, path),
        "Final episode returns on each task: IQM over seeds and 95 % interval (as OPEN's figure "
        "2). Hollow: untrained.",
    )
    steps = {row["task"]: row["env_steps"] for row in raw}
    for task in table.tasks():
        beside = reporting.as_long(published, task, steps[task])
        draw = functools.partial(plots.return_curves_plot, table, task, references=beside)
        body += page.drawn(
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
    captions = {
        "aggregate": f"normalised scores ({found.by}'s mean is 1): IQM, mean, median and "
        "optimality gap with 95 % intervals (as OPEN's figure 3).",
        "improvement": f"probability that a run's return is higher than one of {found.by}, with "
        "95 % intervals; 0.5: no difference.",
        "profile": "performance profile, the share of runs whose normalised score is above each "
        "threshold.",
        "sample_efficiency": "sample efficiency, IQM of normalised returns over tasks and seeds "
        "against training.",
    }
    drawings = normalised_plots.drawings(rows, found)
    return "".join(page.drawn(draw, f"{where}: {captions[n]}") for n, draw in drawings.items())
