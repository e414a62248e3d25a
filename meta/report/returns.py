"""A report's section on returns: tables and plots of all results, of all folders at once.

Plots and statistics come from the same code as those in the folders.
"""

import functools
from typing import NamedTuple

from meta import results
from meta.evaluation import legends, reporting
from meta.report import names, page, sources
from meta.report.sources import Folder, task_settings
from meta.results import normalised, normalised_plots, plots, summary
from meta.results.looks import Looks
from meta.results.normalised import Comparison
from third_party.published import Published


class Pooled(NamedTuple):
    """The results of all folders.

    Attributes:
      table: with the names on the page.
      looks: of its optimizers.
      named: what the folders' optimizers are called there.
      notes: on how names were told apart, a sentence each.
    """

    table: results.Table
    looks: Looks
    named: names.Names
    notes: list[str]


def pool(folders: list[Folder]) -> tuple[results.Table | None, list[str]]:
    """The table and the notes of ``pooled``; None without results."""
    found = pooled(folders)
    return (None, []) if found is None else (found.table, found.notes)


def pooled(folders: list[Folder]) -> Pooled | None:
    """The results of all folders in one table; None if there are none.

    A task whose settings differ between folders is another task in each of them. An optimizer
    has one name (``names.unify``); where several folders have results of it, not the same ones,
    the first folder's keep the name.
    """
    known = {folder.label: folder.table for folder in folders if folder.table is not None}
    tasks, notes = _tasks_apart(folders, known)
    named = names.unify(folders)
    groups: dict[tuple[str, str], dict[str, list[results.Row]]] = {}
    for label, table in known.items():
        for row in results.to_rows(table):
            task, name = tasks.get((label, row.task), row.task), named.of(label, row.optimizer)
            found = groups.setdefault((task, name), {})
            found.setdefault(label, []).append(row._replace(task=task, optimizer=name))
    analyses = {folder.label for folder in folders if folder.kind in ("analysis", "gradients")}
    distinct = {key: _distinct(by_folder, analyses) for key, by_folder in groups.items()}
    apart: dict[tuple[str, str, str], str] = {}
    for (task, name), (first, *others) in distinct.items():
        apart |= {(task, label, name): _named(name, label) for label in others}
        if others:
            notes.append(
                f"{name} on {task}: several folders have results; the plain name is that of "
                f"{first}, those of {', '.join(others)} stand beside it."
            )
    rows = [
        row._replace(optimizer=apart.get((task, label, name), name))
        for (task, name), labels in distinct.items()
        for label in labels
        for row in groups[task, name][label]
    ]
    if not rows:
        return None
    pooled_table = results.from_rows(rows)
    looks = names.looks(folders, pooled_table, named, apart, tasks)
    return Pooled(pooled_table, looks, named, [*named.notes, *notes])


def _tasks_apart(
    folders: list[Folder], known: dict[str, results.Table]
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """(folder's label, task) -> another name, where tasks of one name differ; and notes."""
    renamed: dict[tuple[str, str], str] = {}
    notes = []
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
    return renamed, notes


def _distinct(by_folder: dict[str, list[results.Row]], analyses: set[str]) -> list[str]:
    """The labels of folders whose results are not all among those of another."""
    # An analysis repeats runs of an evaluation; its own count where there is none.
    evaluated = {k: set(v) for k, v in by_folder.items() if k not in analyses} or {
        k: set(v) for k, v in by_folder.items()
    }
    kept: list[str] = []
    for label, rows in sorted(evaluated.items(), key=lambda item: -len(item[1])):
        if not any(rows <= evaluated[other] for other in kept):
            kept.append(label)
    return [label for label in evaluated if label in kept]


def _named(optimizer: str, label: str) -> str:
    if results.is_untrained(optimizer):
        return results.untrained(f"{results.trained(optimizer)} [{label}]")
    return f"{optimizer} [{label}]"


def section(folders: list[Folder], by: str, references: tuple[str, ...]) -> str:
    """Tables and plots of all results.

    Args:
      folders: whose ``results.csv`` are pooled.
      by: the normalising optimizer.
      references: names in ``reporting.REFERENCES``.
    """
    every = pooled(folders)
    if every is None:
        return page.missing("No folder has results that can be read.")
    looks = every.looks
    table, failed = normalised.failures_as_worst(every.table)
    try:
        found = normalised.normalise(table, by)
        rows = looks.shown(normalised.rows(table, found), found.tasks)
    except ValueError as error:
        return page.missing(f"The results cannot be compared: {error}")
    said = [failed, *every.notes, *found.notes]
    said += legends.pooled_notes(looks, found.optimizers, found.tasks)
    body = page.bullets([note for note in said if note])
    for folder in folders:
        own = [note for note in sources.notes(folder) if note not in said]
        body += page.paragraph(f"Notes of {folder.label}:") + page.bullets(own) if own else ""
    published = [value for name in references for value in reporting.REFERENCES[name]]
    body += _tables(rows, found) + _hyperparameters(folders)
    return body + _plots(table, rows, found, looks, published)


def _hyperparameters(folders: list[Folder]) -> str:
    rows = [
        [folder.label, *row]
        for folder in folders
        if folder.kind != "tuning"
        for row in legends.table(folder.manifest)
    ]
    if not rows:
        return ""
    return page.table(
        ("folder", *legends.HYPERPARAMETERS),
        rows,
        "Handcrafted optimizers, under the names that the folders have for them: all "
        "hyperparameters, and where the learning rate is from.",
    )


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
    scores, control = ("IQM", "mean", "median", "optimality gap"), found.control or "control"
    return body + page.table(
        ("task", "optimizer", *scores, f"P(better: {control})"),
        reporting.normalised_cells(rows),
        f"Scores have no unit. {found.rule} Optimality gap: by how much scores, cut off at 1, fall "
        f"short of 1. P(better: {control}): probability that a run's return is higher than "
        f"one of {control}.",
    )


def _plots(
    table: results.Table,
    rows: summary.Summary,
    found: Comparison,
    looks: Looks,
    published: list[Published],
) -> str:
    raw = [row for row in rows if row["task"] != normalised.ALL_TASKS]
    body = page.drawn(
        lambda path: plots.interval_plot(raw, path, looks=looks),
        "Final episode returns on each task: IQM over seeds and 95 % interval (as OPEN's figure "
        "2). Hollow: untrained.",
    )
    steps = {row["task"]: row["env_steps"] for row in raw}
    for task in table.tasks():
        beside = reporting.as_long(published, task, steps[task])
        draw = functools.partial(
            plots.return_curves_plot, table, task, references=beside, looks=looks
        )
        body += page.drawn(
            draw,
            f"{looks.task(task)}: episode return against environment steps, IQM over seeds and "
            "95 % interval (as OPEN's figure 9). Dashed: untrained.",
        )
    if len(found.tasks) > 1 and len(found.optimizers) < 2:
        # Nothing but the normaliser was run on all tasks: each one's scores by themselves.
        for task in found.tasks:
            one_task = normalised.normalise(results.select(table, task), str(found.by))
            body += _score_plots([row for row in raw if row["task"] == task], one_task, looks)
        return body
    return body + (_score_plots(rows, found, looks) if found.tasks else "")


def _score_plots(rows: summary.Summary, found: Comparison, looks: Looks) -> str:
    """Plots of normalised scores."""
    where = looks.task(found.tasks[0]) if len(found.tasks) == 1 else "all tasks"
    captions = {
        "aggregate": f"normalised scores ({found.unit}): IQM, mean, median and "
        "optimality gap with 95 % intervals (as OPEN's figure 3).",
        "improvement": f"probability that a run's return is higher than one of {found.control}, "
        "with 95 % intervals; 0.5: no difference.",
        "profile": "performance profile, the share of runs whose normalised score is above each "
        "threshold.",
        "sample_efficiency": "sample efficiency, IQM of normalised returns over tasks and seeds "
        "against training.",
    }
    drawings = normalised_plots.drawings(rows, found, looks)
    return "".join(page.drawn(draw, f"{where}: {captions[n]}") for n, draw in drawings.items())
