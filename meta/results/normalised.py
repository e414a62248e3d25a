"""Optimizers compared on one or several tasks, normalised by one of them.

A task's scores are the last logged returns of its seeds; normalised, they are divided by the
mean of the normalising optimizer's. The normaliser is taken as exact: its own uncertainty is
not in the intervals.

Axes: S seeds, T logged points of a run.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from meta import results
from meta.results import bootstrap, summary
from meta.results.summary import Summary

ALL_TASKS = "(all tasks)"
NORMALISED = ("normalised_iqm", "normalised_mean", "normalised_median", "optimality_gap")
COLUMNS = (
    *summary.SUMMARY_COLUMNS,
    "mean_low",
    "mean_high",
    *summary.CONTROL_COLUMNS,
    *(name + end for name in NORMALISED for end in ("", "_low", "_high")),
)


class Comparison(NamedTuple):
    """A results table, normalised.

    Attributes:
      by: the normalising optimizer, or None if it has no results.
      scale: task -> the mean last return of the normaliser there.
      tasks: those whose scores could be normalised, in the table's order.
      optimizers: those with results on all of these tasks.
      scores: optimizer -> [S, tasks] normalised last returns.
      curves: optimizer -> [S, tasks, T] normalised returns; empty if the tasks were logged at
        different numbers of points.
      points: [T] environment steps, or the share of training in percent where tasks differ.
      points_are_steps: which of the two.
      notes: what a reader has to know, a sentence each.
    """

    by: str | None
    scale: dict[str, float]
    tasks: list[str]
    optimizers: list[str]
    scores: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]
    points: np.ndarray
    points_are_steps: bool
    notes: list[str]


def failures_as_worst(table: results.Table) -> tuple[results.Table, str]:
    """Counts failed runs as the worst return seen on their task, so that none flatters a mean.

    Returns:
      The table without NaN, and a sentence on what was done, empty if nothing was. A task of
      which nothing is finite counts as 0.
    """
    finite = np.isfinite(table.episode_return)
    if finite.all():
        return table, ""
    returns = table.episode_return.copy()
    told = []
    for task in table.tasks():
        of_task = table.task == task
        failed = of_task & ~finite
        if failed.any():
            seen = table.episode_return[of_task & finite]
            worst = float(seen.min()) if len(seen) else 0.0
            returns[failed] = worst
            told.append(f"{int(failed.sum())} on {task} (as {worst:g})")
    return dataclasses.replace(table, episode_return=returns), (
        f"Points of failed runs count as the worst return seen on their task: {', '.join(told)}."
    )


def normalise(table: results.Table, by: str) -> Comparison:
    """Normalises a table by one of its optimizers.

    Args:
      table: without failed runs.

    Returns:
      The comparison, over the tasks that the normaliser was run on with a mean last return
      above 0: dividing by a negative one would turn the order around.
    """
    notes: list[str] = []
    tasks, scale = [], {}
    for task in table.tasks():
        if by not in table.optimizers(task):
            notes.append(f"No normalised scores on {task}: {by} was not run there.")
            continue
        scale[task] = float(results.final_returns(table, task, by).mean())
        if scale[task] > 0:
            tasks.append(task)
        else:
            notes.append(
                f"No normalised scores on {task}: {by}'s mean return there is "
                f"{scale[task]:g}, and only a divisor above 0 keeps the order."
            )
    optimizers = [
        name
        for name in table.optimizers()
        if tasks and all(name in table.optimizers(task) for task in tasks)
    ]
    left_out = [name for name in table.optimizers() if name not in optimizers]
    if left_out and len(tasks) > 1:
        notes.append(
            f"Not in the scores over all tasks, as not run on each: {', '.join(left_out)}."
        )
    steps: list[np.ndarray] = []
    normalised: dict[str, list[np.ndarray]] = {}
    for name in optimizers:
        of_tasks = [results.curves(table, task, name) for task in tasks]
        steps += [points for points, _ in of_tasks]
        seeds = min(len(returns) for _, returns in of_tasks)
        if any(len(returns) != seeds for _, returns in of_tasks):
            notes.append(f"{name}: the first {seeds} seeds of each task, as some have more.")
        normalised[name] = [
            returns[:seeds] / scale[task]
            for task, (_, returns) in zip(tasks, of_tasks, strict=True)
        ]
    scores = {
        name: np.stack([of_task[:, -1] for of_task in scaled], axis=1)
        for name, scaled in normalised.items()
    }
    points, are_steps, pooled = _pool(steps, normalised)
    if tasks and not pooled:
        notes.append("No curve over all tasks: they were logged at different numbers of points.")
    return Comparison(
        by if scale else None, scale, tasks, optimizers, scores, pooled, points, are_steps, notes
    )


def _pool(
    steps: list[np.ndarray], normalised: dict[str, list[np.ndarray]]
) -> tuple[np.ndarray, bool, dict[str, np.ndarray]]:
    """Points [T], whether they are steps, and curves [S, tasks, T] if T is common to all."""
    if not steps or len({len(points) for points in steps}) > 1:
        return np.zeros(0), True, {}
    pooled = {name: np.stack(of_tasks, axis=1) for name, of_tasks in normalised.items()}
    if all(np.array_equal(points, steps[0]) for points in steps):
        return steps[0].astype(np.float64), True, pooled
    return 100.0 * steps[0] / float(steps[0][-1]), False, pooled


def rows(table: results.Table, compared: Comparison) -> Summary:
    """The summary of a table: one row for each task and optimizer, and over all tasks.

    Args:
      table: without failed runs.
      compared: the same table, normalised.

    Returns:
      Dicts with the keys ``COLUMNS``; what is undefined is None. Returns are raw in the
      columns of ``summary.SUMMARY_COLUMNS`` and the mean's; ``NORMALISED`` columns are of
      normalised scores, with their intervals. On one task the median is the mean, as
      rliable's is the median over tasks of means over seeds. Rows over all tasks are there
      where there are several, and have the task ``ALL_TASKS``.
    """
    found: Summary = []
    for task in table.tasks():
        one_task = results.select(table, task)
        control = compared.by if compared.by in one_task.optimizers() else None
        for summed in summary.summary(one_task, control):
            final = results.final_returns(table, task, summed["optimizer"])
            row = summed | summary.columns("mean", bootstrap.of_seeds(final, "mean"))
            if task in compared.tasks:
                row |= _of_one_task(row, final, compared.scale[task])
            found.append({name: row.get(name) for name in COLUMNS})
    if len(compared.tasks) > 1:
        found += [_over_tasks(compared, name) for name in compared.optimizers]
    return found


def _of_one_task(row: dict[str, Any], final: np.ndarray, scale: float) -> dict[str, Any]:
    """The normalised columns of a task: all but the optimality gap are the raw ones, scaled."""
    columns: dict[str, Any] = {}
    for name, raw in zip(NORMALISED, ("iqm", "mean", "mean"), strict=False):
        for end in ("", "_low", "_high"):
            value = row[raw + end]
            columns[name + end] = None if value is None else value / scale
    gap = bootstrap.of_seeds(final / scale, "optimality_gap")
    return columns | summary.columns("optimality_gap", gap)


def _over_tasks(compared: Comparison, optimizer: str) -> dict[str, Any]:
    scores = compared.scores[optimizer]
    row = {"task": ALL_TASKS, "optimizer": optimizer, "seeds": len(scores)}
    for name in NORMALISED:
        statistic = name.removeprefix("normalised_")
        row |= summary.columns(name, bootstrap.of_seeds(scores, statistic))
    if compared.by not in (None, optimizer):
        row |= summary.improvement(scores, compared.scores[compared.by])
    return {column: row.get(column) for column in COLUMNS}
