"""The summary of a results table: one row for each task and optimizer, to read or to plot."""

import csv
import os
from collections.abc import Sequence
from typing import Any

from meta import results
from meta.results import bootstrap, markdown
from meta.runs import atomic

SUMMARY_COLUMNS = (
    "task",
    "optimizer",
    "seeds",
    "env_steps",
    "iqm",
    "iqm_low",
    "iqm_high",
    "mean",
    "auc_iqm",
    "auc_low",
    "auc_high",
)
CONTROL_COLUMNS = ("improvement", "improvement_low", "improvement_high")

Summary = list[dict[str, Any]]


def summary(
    table: results.Table, control: str | None = None, repetitions: int = 2000, seed: int = 0
) -> Summary:
    """One row for each task and optimizer of a results table.

    Args:
      table: the logged points.
      control: an optimizer to compare the others with on every task, if any.
      repetitions: bootstrap samples, >= 1.
      seed: of the bootstrap, in [0, 2**32).

    Returns:
      Dicts in the order of the table, with the keys ``SUMMARY_COLUMNS``: the number of seeds;
      ``env_steps`` of the last logged point; IQM with interval and mean of the returns there;
      IQM with interval of the area under the curve (mean return over the run). With a
      ``control`` also ``CONTROL_COLUMNS``: the probability that the last return is greater
      than the control's. With a single seed the ends of intervals are None, and so are the
      control's own comparison and any with a single seed on either side.

    Raises:
      ValueError: naming task and optimizer, for failed runs, for seeds that were not logged
        at the same points, or for a control that is missing from a task.
    """
    rows: Summary = []
    for task in table.tasks():
        optimizers = table.optimizers(task)
        if control is not None and control not in optimizers:
            raise ValueError(
                f"the control {control!r} has no results on task {task!r}; there are {optimizers}"
            )
        for optimizer in optimizers:
            try:
                row = _summary_row(table, task, optimizer, repetitions, seed)
                if control is not None:
                    row |= _comparison(table, task, optimizer, control, repetitions, seed)
            except ValueError as error:
                raise ValueError(f"task {task!r}, optimizer {optimizer!r}: {error}") from error
            rows.append(row)
    return rows


def to_markdown(rows: Summary, control: str = "control") -> str:
    """A summary as a Markdown table with a note on what the numbers are.

    Args:
      rows: of ``summary``.
      control: what the control is called in the heading.
    """
    compared = any("improvement" in row for row in rows)
    header = ["task", "optimizer", "seeds", "env steps", "IQM", "mean", "area under curve (IQM)"]
    header += [f"P(better than {control})"] if compared else []
    lines = []
    for row in rows:
        cells = [
            row["task"],
            row["optimizer"],
            str(row["seeds"]),
            f"{row['env_steps']:,}",
            with_interval(row["iqm"], row["iqm_low"], row["iqm_high"]),
            _number(row["mean"]),
            with_interval(row["auc_iqm"], row["auc_low"], row["auc_high"]),
        ]
        cells += [with_interval(*(row.get(name) for name in CONTROL_COLUMNS))] if compared else []
        lines.append(cells)
    note = (
        "IQM: interquartile mean of the last episode returns over seeds; in brackets the 95 % "
        "stratified bootstrap interval (Agarwal et al. 2021). Area under curve: mean return "
        "over the run."
    )
    return markdown.table(header, lines, "ll" + "r" * (len(header) - 2)) + f"\n\n{note}\n"


def write_csv(
    rows: Summary, path: str | os.PathLike[str], columns: Sequence[str] | None = None
) -> None:
    """Writes a summary as CSV, whole or not at all; what is undefined is an empty cell.

    Args:
      rows: dicts with the same keys.
      path: of the file to write.
      columns: the keys; None: those of ``summary``.
    """
    if columns is None:
        compared = any("improvement" in row for row in rows)
        columns = SUMMARY_COLUMNS + (CONTROL_COLUMNS if compared else ())
    with (
        atomic.replacing(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _summary_row(
    table: results.Table, task: str, optimizer: str, repetitions: int, seed: int
) -> dict[str, Any]:
    env_steps, returns = results.curves(table, task, optimizer)
    bootstrap.refuse_failures(returns, "returns")
    final = returns[:, -1]
    area = results.area_under_curve(table, task, optimizer)
    estimates: list[tuple[float, float | None, float | None]] = []
    for scores in (final, area):
        if len(scores) < bootstrap.LEAST_SEEDS:
            estimates.append((float(scores[0]), None, None))
        else:
            estimates.append(bootstrap.interval(scores, "iqm", repetitions, seed))
    values = (
        task,
        optimizer,
        len(final),
        int(env_steps[-1]),
        *estimates[0],
        float(final.mean()),
        *estimates[1],
    )
    return dict(zip(SUMMARY_COLUMNS, values, strict=True))


def _comparison(
    table: results.Table, task: str, optimizer: str, control: str, repetitions: int, seed: int
) -> dict[str, Any]:
    x, y = (results.final_returns(table, task, name) for name in (optimizer, control))
    if optimizer == control or min(len(x), len(y)) < bootstrap.LEAST_SEEDS:
        return dict.fromkeys(CONTROL_COLUMNS)
    estimate = bootstrap.probability_of_improvement(x, y, repetitions, seed)
    return dict(zip(CONTROL_COLUMNS, estimate, strict=True))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def with_interval(point: float | None, low: float | None, high: float | None) -> str:
    """``3.2 [2.8, 3.5]``, or what there is of it."""
    if point is None:
        return "–"
    if low is None or high is None:
        return f"{_number(point)} (one seed)"
    return f"{_number(point)} [{_number(low)}, {_number(high)}]"
