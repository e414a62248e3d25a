"""What an evaluation's folder tells: summary tables and plots of its results."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agents import task_presets
from learned_opt.names import did_you_mean
from meta import results
from meta.evaluation import baselines, contestants, legends, runner
from meta.evaluation.runner import Request
from meta.evaluation.store import Store, slug
from meta.results import markdown, normalised, normalised_plots, plots, summary
from meta.results.looks import Looks
from meta.results.normalised import Comparison
from meta.results.summary import Summary
from meta.runs import stamped
from third_party.open_rl import reference as open_reference
from third_party.optim4rl import reference as optim4rl_reference
from third_party.published import Published

REFERENCES = {"open": open_reference.PUBLISHED, "optim4rl": optim4rl_reference.PUBLISHED}
DEFAULT_NORMALISER = normalised.DEFAULT_NORMALISER

_VERSION = 2  # of what is drawn: a newer one draws old results anew


class Wishes(NamedTuple):
    """How results are to be shown.

    Attributes:
      normalise_by: an optimizer's name; empty: Adam if it was evaluated.
      references: names in ``REFERENCES``, whose published values are drawn beside.
    """

    normalise_by: str = ""
    references: tuple[str, ...] = ()


def check_references(names: Sequence[str]) -> None:
    """Raises a ``ValueError`` if one of the names is not in ``REFERENCES``."""
    for name in names:
        if name not in REFERENCES:
            hint = did_you_mean(name, list(REFERENCES))
            raise ValueError(
                f"unknown --reference={name}{hint}; known: {', '.join(sorted(REFERENCES))}"
            )


def evaluate(request: Request, wishes: Wishes) -> str:
    """Computes what is missing and reports; the same command again adds nothing.

    Returns:
      The summary as Markdown.

    Raises:
      ValueError: bad input, before anything runs.
      progress.Stopped: stopped by a signal; finished chunks are kept.
    """
    entries = contestants.resolve(request.optimizers, request.neutral_dormancy)
    store = Store(request.workdir, request.settings)
    check_references(wishes.references)
    by = wishes.normalise_by
    names = [*dict.fromkeys(e.name for e in entries), *(name for _, name in store.cells())]
    if by and by not in (*names, normalised.MIN_MAX):
        raise ValueError(
            f"--normalise_by={by}{did_you_mean(by, names)} is not among the optimizers "
            f"evaluated: {', '.join(names)}; or give {normalised.MIN_MAX}, for reference values"
        )
    evaluation = request.evaluation(entries)  # raises on settings that do not fit
    if request.tune_baselines:
        with store.writing():
            entries = baselines.tuned(request, entries)
        evaluation = request.evaluation(entries)
    runner.evaluate(evaluation, store)
    return write(store, wishes)


def write(store: Store, wishes: Wishes) -> str:
    """Writes ``summary.csv``, ``summary.md`` and plots, if they are not of these results yet.

    Args:
      store: the evaluation.
      wishes: how to show it.

    Returns:
      The summary as Markdown.
    """
    what: list[Any] = [_VERSION, wishes.normalise_by, wishes.references]
    depends_on = json.dumps(what).encode() + legends.fingerprint(store.manifest)
    depends_on += store.folder.results.read_bytes()
    return stamped.summary(store.folder, depends_on, lambda: _write(store, wishes))


def folder_looks(store: Store, table: results.Table) -> Looks:
    """How the optimizers in an evaluation's folder appear on all of its tables and plots."""
    return legends.looks(store.manifest, table.optimizers(), smoke=legends.is_smoke(store.settings))


def _write(store: Store, wishes: Wishes) -> tuple[str, list[str]]:
    folder = store.folder.path
    table, failed = normalised.failures_as_worst(results.read(store.folder.results))
    looks, smoke = folder_looks(store, table), legends.is_smoke(store.settings)
    compared = normalised.normalise(table, wishes.normalise_by or DEFAULT_NORMALISER)
    rows = looks.shown(normalised.rows(table, compared), compared.tasks)
    references = _published(wishes, table)
    notes = [
        failed,
        *legends.notes(store.manifest, smoke=smoke),
        *legends.pooled_notes(looks, compared.optimizers, compared.tasks),
        *compared.notes,
    ]
    parameters = legends.table(store.manifest)
    text = _markdown(rows, compared, references, parameters, notes)
    text = f"{legends.SMOKE_NOTE}\n\n{text}" if smoke else text
    mode = legends.SMOKE if smoke else ""
    lines = ([*(row[name] for name in normalised.COLUMNS), row["label"], mode] for row in rows)
    header = [*normalised.COLUMNS, "label", "mode"]
    store.folder.write_table(folder / "summary.csv", header, lines)
    return text, ["summary.csv", *_plot(folder, table, rows, compared, references, looks)]


def _plot(
    folder: Path,
    table: results.Table,
    rows: Summary,
    compared: Comparison,
    references: Sequence[Published],
    looks: Looks,
) -> list[str]:
    """Draws everything; returns the files' names."""
    raw = [row for row in rows if row["task"] != normalised.ALL_TASKS]
    files = ["intervals.png"]
    steps = {row["task"]: row["env_steps"] for row in raw}
    alike = {task: as_long(references, task, steps[task]) for task in table.tasks()}
    beside = [
        value
        for task, mine in alike.items()
        for value in mine or references
        if value.task == task_presets.short_name(task)
    ]
    plots.interval_plot(raw, folder / files[0], beside, looks)
    for task, mine in alike.items():
        files.append(f"returns_{slug(task)}.png")
        # Returns of runs many times as long would press one's own curves flat.
        plots.return_curves_plot(table, task, folder / files[-1], mine, looks)
    if not compared.tasks:
        return files
    drawings = normalised_plots.drawings(rows, compared, looks)
    for name, draw in drawings.items():
        draw(folder / f"{name}.png")
    return files + [f"{name}.png" for name in drawings]


def _published(wishes: Wishes, table: results.Table) -> list[Published]:
    """The published values on the table's tasks."""
    tasks = {task_presets.short_name(task) for task in table.tasks()}
    return [
        value for name in wishes.references for value in REFERENCES[name] if value.task in tasks
    ]


def as_long(references: Sequence[Published], task: str, env_steps: int) -> list[Published]:
    """The published values on a task that are of runs as long as these, within 5 %."""
    return [
        value
        for value in references
        if value.task == task_presets.short_name(task)
        and abs(value.env_steps / env_steps - 1.0) < 0.05
    ]


def _markdown(
    rows: Summary,
    compared: Comparison,
    references: Sequence[Published],
    parameters: Sequence[Sequence[str]],
    notes: Sequence[str],
) -> str:
    raw = [row for row in rows if row["task"] != normalised.ALL_TASKS]
    parts = ["# Returns", summary.to_markdown(raw, compared.control or "control")]
    if compared.by is not None and compared.tasks:
        parts += [f"# Normalised by {compared.by}", _normalised_table(rows, compared)]
    if references:
        parts += ["# Published values", _published_table(references)]
    if parameters:
        header = legends.HYPERPARAMETERS
        parts += ["# Handcrafted optimizers", markdown.table(header, parameters, "llrlll")]
    said = [note for note in notes if note]
    if said:
        parts += ["# Notes", "\n".join(f"- {note}" for note in said) + "\n"]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _normalised_table(rows: Summary, compared: Comparison) -> str:
    header = [
        "task",
        "optimizer",
        "IQM",
        "mean",
        "median",
        "optimality gap",
        f"P(better than {compared.control or 'control'})",
    ]
    note = (
        f"{compared.rule} On one task the median is the mean: rliable's is the median over tasks "
        "of the means over seeds. Optimality gap: by how much scores, cut off at 1, fall short "
        "of 1."
    )
    return markdown.table(header, normalised_cells(rows), "llrrrrr") + f"\n\n{note}\n"


def normalised_cells(rows: Summary) -> list[list[str]]:
    """Task, optimizer and all normalised scores of the rows that have any, with intervals."""
    names, ends = (*normalised.NORMALISED, "improvement"), ("", "_low", "_high")
    return [
        summary.names(row)
        + [summary.with_interval(*(row[name + end] for end in ends)) for name in names]
        for row in rows
        if row["normalised_iqm"] is not None
    ]


def _published_table(references: Sequence[Published]) -> str:
    header = ["task", "optimizer", "final return", "env steps", "statistic", "seeds", "source"]
    lines = [
        [
            value.task,
            value.optimizer,
            f"{value.value:,.4g}" if value.exact else f"about {value.value:,.4g}",
            f"{value.env_steps:,}",
            value.statistic,
            str(value.seeds),
            value.source,
        ]
        for value in references
    ]
    note = "Compare only runs of as many environment steps."
    return markdown.table(header, lines, "llrrlrl") + f"\n\n{note}\n"
