"""What an evaluation's folder tells: summary tables and plots of its results."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agents import task_presets
from learned_opt.names import did_you_mean
from meta import results
from meta.evaluation import baselines, contestants, runner
from meta.evaluation.contestants import Contestant
from meta.evaluation.runner import Request
from meta.evaluation.store import Store, slug
from meta.results import markdown, normalised, normalised_plots, plots, summary
from meta.results.normalised import Comparison
from meta.results.summary import Summary
from meta.runs import stamped
from third_party.open_rl import reference as open_reference
from third_party.optim4rl import reference as optim4rl_reference
from third_party.published import Published

REFERENCES = {"open": open_reference.PUBLISHED, "optim4rl": optim4rl_reference.PUBLISHED}
DEFAULT_NORMALISER = "adam"

_VERSION = 1  # of what is drawn: a newer one draws old results anew


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
    if by and by not in names:
        raise ValueError(
            f"--normalise_by={by}{did_you_mean(by, names)} is not among the optimizers "
            f"evaluated: {', '.join(names)}"
        )
    evaluation = request.evaluation(entries)  # raises on settings that do not fit
    if request.tune_baselines:
        with store.writing():
            entries = baselines.tuned(request, entries)
        evaluation = request.evaluation(entries)
    runner.evaluate(evaluation, store)
    return write(store, wishes, entries)


def write(store: Store, wishes: Wishes, entries: Sequence[Contestant]) -> str:
    """Writes ``summary.csv``, ``summary.md`` and plots, if they are not of these results yet.

    Args:
      store: the evaluation.
      wishes: how to show it.
      entries: the optimizers that were asked for.

    Returns:
      The summary as Markdown.
    """
    what: list[Any] = [_VERSION, wishes.normalise_by, wishes.references]
    depends_on = json.dumps(what).encode() + store.folder.results.read_bytes()
    return stamped.summary(store.folder, depends_on, lambda: _write(store, wishes, entries))


def _write(store: Store, wishes: Wishes, entries: Sequence[Contestant]) -> tuple[str, list[str]]:
    folder = store.folder.path
    table, note = normalised.failures_as_worst(results.read(store.folder.results))
    compared = normalised.normalise(table, wishes.normalise_by or DEFAULT_NORMALISER)
    rows = normalised.rows(table, compared)
    references = _published(wishes, table)
    text = _markdown(rows, compared, references, [note, *_preset_notes(entries, table)])
    lines = ([row[name] for name in normalised.COLUMNS] for row in rows)
    store.folder.write_table(folder / "summary.csv", normalised.COLUMNS, lines)
    return text, ["summary.csv", *_plot(folder, table, rows, compared, references)]


def _plot(
    folder: Path,
    table: results.Table,
    rows: Summary,
    compared: Comparison,
    references: Sequence[Published],
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
    plots.interval_plot(raw, folder / files[0], beside)
    for task, mine in alike.items():
        files.append(f"returns_{slug(task)}.png")
        # Returns of runs many times as long would press one's own curves flat.
        plots.return_curves_plot(table, task, folder / files[-1], references=mine)
    if not compared.tasks:
        return files
    drawings = normalised_plots.drawings(rows, compared)
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


def _preset_notes(entries: Sequence[Contestant], table: results.Table) -> list[str]:
    """Says where a handcrafted optimizer runs with values that nobody tuned."""
    notes = []
    for entry, task in itertools.product(entries, table.tasks()):
        if entry.lacks_preset(task) and entry.name in table.optimizers(task):
            values = ", ".join(f"{k}={v:g}" for k, v in entry.hyperparameters(task).items())
            notes.append(
                f"{entry.name} on {task}: no tuned values are shipped for this task, so these "
                f"are its defaults ({values}); --tune_baselines would tune it first."
            )
    return notes


def _markdown(
    rows: Summary, compared: Comparison, references: Sequence[Published], notes: Sequence[str]
) -> str:
    raw = [row for row in rows if row["task"] != normalised.ALL_TASKS]
    parts = ["# Returns", summary.to_markdown(raw, compared.by or "control")]
    if compared.by is not None and compared.tasks:
        parts += [f"# Normalised by {compared.by}", _normalised_table(rows, compared.by)]
    if references:
        parts += ["# Published values", _published_table(references)]
    said = [note for note in [*notes, *compared.notes] if note]
    if said:
        parts += ["# Notes", "\n".join(f"- {note}" for note in said) + "\n"]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _normalised_table(rows: Summary, by: str) -> str:
    header = [
        "task",
        "optimizer",
        "IQM",
        "mean",
        "median",
        "optimality gap",
        f"P(better than {by})",
    ]
    note = (
        f"Last returns divided by the mean of {by}'s, whose own uncertainty is not in the "
        "intervals. On one task the median is the mean: rliable's is the median over tasks of "
        "the means over seeds. Optimality gap: by how much scores, cut off at 1, fall short "
        "of 1."
    )
    return markdown.table(header, normalised_cells(rows), "llrrrrr") + f"\n\n{note}\n"


def normalised_cells(rows: Summary) -> list[list[str]]:
    """Task, optimizer and all normalised scores of the rows that have any, with intervals."""
    names, ends = (*normalised.NORMALISED, "improvement"), ("", "_low", "_high")
    return [
        [row["task"], row["optimizer"]]
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
