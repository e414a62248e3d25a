"""The summary of a results table: one row for each task and optimizer, to read or to plot."""

from typing import Any

import numpy as np

from meta import results
from meta.results import bootstrap, markdown

SUMMARY_COLUMNS = (
    "task", "optimizer", "seeds", "env_steps", "iqm", "iqm_low", "iqm_high", "mean",
    "auc_iqm", "auc_low", "auc_high",
)  # fmt: skip
CONTROL_COLUMNS = ("improvement", "improvement_low", "improvement_high")
HEADER = ("task", "optimizer", "seeds", "env steps", "IQM", "mean", "area under curve (IQM)")

Summary = list[dict[str, Any]]


def summary(table: results.Table, control: str | None = None) -> Summary:
    """One row for each task and optimizer of a results table.

    Args:
      table: the logged points.
      control: an optimizer to compare the others with on every task, if any.

    Returns:
      Dicts in the order of the table, with the keys ``SUMMARY_COLUMNS``: the number of seeds;
      ``env_steps`` of the last logged point; IQM with interval and mean of the returns there;
      IQM with interval of the area under the curve (mean return over the run). With a
      ``control`` also ``CONTROL_COLUMNS``: the probability that the last return is greater
      than the control's. With a single seed the ends of intervals are None, and so are the
      control's own comparison and any with a single seed on either side. Seeds in which no
      episode has ended are not counted; without any other, there are no values: None.

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
                row = _summary_row(table, task, optimizer)
                if control is not None:
                    row |= dict.fromkeys(CONTROL_COLUMNS)
                if control not in (None, optimizer):
                    names = (optimizer, control)
                    row |= improvement(*(results.final_returns(table, task, n) for n in names))
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
    header = [*HEADER, f"P(better than {control})"]
    lines = [
        [
            *cells(row, "–" if row["mean"] is None else _number(row["mean"])),
            with_interval(*map(row.get, CONTROL_COLUMNS)),
        ]
        for row in rows
    ]
    note = (
        "IQM: interquartile mean of the last episode returns over seeds; in brackets the 95 % "
        "stratified bootstrap interval (Agarwal et al. 2021). Area under curve: mean return "
        "over the run."
    )
    return markdown.table(header, lines, "ll" + "r" * (len(header) - 2)) + f"\n\n{note}\n"


def cells(row: dict[str, Any], mean: str) -> list[str]:
    """A row of a summary as text under ``HEADER``, with its mean as the caller writes it."""
    return [
        *names(row),
        str(row["seeds"]),
        f"{row['env_steps']:,}",
        with_interval(row["iqm"], row["iqm_low"], row["iqm_high"]),
        mean,
        with_interval(row["auc_iqm"], row["auc_low"], row["auc_high"]),
    ]


def names(row: dict[str, Any]) -> list[str]:
    """A row's task and optimizer as tables show them (``Looks.shown``), or their plain names."""
    return [row.get("shown_task", row["task"]), row.get("label", row["optimizer"])]


def columns(name: str, estimate: tuple[float | None, float | None, float | None]) -> dict[str, Any]:
    """A statistic and the ends of its interval under their columns' names."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), estimate, strict=True))


def improvement(scores: np.ndarray, control: np.ndarray) -> dict[str, Any]:
    """``CONTROL_COLUMNS`` of scores [S] or [S, tasks]; None with a single seed on either side.

    Scores [S] may be NaN, of seeds that are not counted.
    """
    scores, control = (x[~np.isnan(x)] if x.ndim == 1 else x for x in (scores, control))
    if min(len(scores), len(control)) < bootstrap.LEAST_SEEDS:
        return dict.fromkeys(CONTROL_COLUMNS)
    return columns("improvement", bootstrap.probability_of_improvement(scores, control))


def _summary_row(table: results.Table, task: str, optimizer: str) -> dict[str, Any]:
    env_steps, returns = results.curves(table, task, optimizer)
    results.refuse_failed(table, task, optimizer)
    final, area = returns[:, -1], results.area_under_curve(table, task, optimizer)
    final, area = final[~np.isnan(final)], area[~np.isnan(area)]
    values = (
        task,
        optimizer,
        len(final),
        int(env_steps[-1]),
        *of_known(final),
        float(final.mean()) if len(final) else None,
        *of_known(area),
    )
    return dict(zip(SUMMARY_COLUMNS, values, strict=True))


def of_known(
    scores: np.ndarray, statistic: str = "iqm"
) -> tuple[float | None, float | None, float | None]:
    """What ``bootstrap.of_seeds`` says of scores [S]; of none: None."""
    return bootstrap.of_seeds(scores, statistic) if len(scores) else (None, None, None)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def with_interval(point: float | None, low: float | None, high: float | None) -> str:
    """``3.2 [2.8, 3.5]``, or what there is of it."""
    if point is None:
        return "–"
    if low is None or high is None:
        return f"{_number(point)} (one seed)"
    return f"{_number(point)} [{_number(low)}, {_number(high)}]"
