"""Optimizers compared on one or several tasks, normalised by one of them.

A task's scores are the last logged returns of its seeds; normalised, they are divided by the
mean of the normalising optimizer's, or put on a scale from one reference value to another. The
normaliser is taken as exact: its own uncertainty is not in the intervals.

Axes: S seeds, T logged points of a run.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from agents import task_presets
from meta import results
from meta.results import bootstrap, summary
from meta.results.summary import Summary

ALL_TASKS = "(all tasks)"
DEFAULT_NORMALISER = "adam"
MIN_MAX = "min_max"  # normalises by task_presets.RETURN_RANGES, and by no optimizer
NORMALISED = ("normalised_iqm", "normalised_mean", "normalised_median", "optimality_gap")
COLUMNS = (
    *summary.SUMMARY_COLUMNS,
    "mean_low",
    "mean_high",
    *summary.CONTROL_COLUMNS,
    *(name + end for name in NORMALISED for end in ("", "_low", "_high")),
)


Curve = tuple[np.ndarray, np.ndarray]  # environment steps [T], returns [S, T]


class Comparison(NamedTuple):
    """A results table, normalised.

    Attributes:
      by: the normalising optimizer, or ``MIN_MAX``; None if it has no results.
      scale: task -> the mean last return of the normaliser there, or how far reference values
        are apart.
      tasks: those whose scores could be normalised, in the table's order.
      optimizers: those with results on all of these tasks.
      scores: optimizer -> [S, tasks] normalised last returns.
      curves: optimizer -> [S, tasks, T] normalised returns; empty if the tasks were logged at
        different numbers of points.
      points: [T] environment steps, or the share of training in percent where tasks differ.
      points_are_steps: which of the two.
      notes: what a reader has to know, a sentence each.
      offset: task -> what is taken off a return before it is divided by the scale.
      control: the optimizer that the others are compared with, or None.
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
    offset: dict[str, float]
    control: str | None

    @property
    def unit(self) -> str:
        """What a normalised score of 1 is."""
        if self.by == MIN_MAX:
            return "reference values = 0 and 1"
        return f"{self.by}'s final mean = 1"

    @property
    def rule(self) -> str:
        """How returns become scores, as the beginning of a sentence."""
        if self.by == MIN_MAX:
            return (
                "Last returns on a scale where a task's lower reference value is 0 and its upper "
                "one 1."
            )
        return (
            f"Last returns divided by the mean of {self.by}'s, whose own uncertainty is not in the "
            "intervals."
        )


def failures_as_worst(table: results.Table) -> tuple[results.Table, str]:
    """Counts failed runs as the worst return seen on their task, so that none flatters a mean.

    Returns:
      The table, in which nothing is NaN but where no episode had ended, and a sentence on what
      was done, empty if nothing was. A task of which nothing is finite counts as 0.
    """
    finite = np.isfinite(table.episode_return) | table.no_episode
    if finite.all():
        return table, ""
    returns = table.episode_return.copy()
    told = []
    for task in table.tasks():
        of_task = table.task == task
        failed = of_task & ~finite
        if failed.any():
            seen = table.episode_return[of_task & finite & ~table.no_episode]
            worst = float(seen.min()) if len(seen) else 0.0
            returns[failed] = worst
            told.append(f"{int(failed.sum())} on {task} (as {worst:g})")
    return dataclasses.replace(table, episode_return=returns), (
        f"Points of failed runs count as the worst return seen on their task: {', '.join(told)}."
    )


def without_episode(table: results.Table) -> list[str]:
    """Says where a table has no values because no episode had ended, a sentence or two each."""
    said: dict[tuple[str, str], list[str]] = {}
    for task in table.tasks():
        for optimizer in table.optimizers(task):
            rows = results.select(table, task, optimizer=optimizer)
            if rows.no_episode.any():
                said.setdefault((task, _without_episode(rows)), []).append(optimizer)
    return [f"{', '.join(names)} on {task}: {what}" for (task, what), names in said.items()]


def _without_episode(rows: results.Table) -> str:
    """What there is to say of one optimizer's rows on one task."""
    last = rows.env_steps.max()
    seeds, none = len({*rows.seed.tolist()}), int(rows.no_episode[rows.env_steps == last].sum())
    if none == seeds:
        return (
            f"no episode had ended by {last:,} steps, the end of training: there is no return. "
            "Train for longer, or in fewer parallel environments."
        )
    told = []
    if none:
        told.append(f"no episode has ended in {none} of {seeds} seeds, which are left out.")
    before = rows.env_steps[rows.no_episode & (rows.env_steps < last)]
    if len(before):
        told.append(
            f"no episode had ended in some or all seeds up to {before.max():,} steps: these points "
            "have no value, and are left out of the area under the curve."
        )
    return " ".join(told)


def normalise(table: results.Table, by: str) -> Comparison:
    """Normalises a table by one of its optimizers, or by reference values.

    Args:
      table: without failed runs.
      by: an optimizer, or ``MIN_MAX``.

    Returns:
      The comparison, over the tasks that can be normalised: by an optimizer those that it was
      run on with a mean last return above 0, as dividing by a negative one would turn the order
      around; by reference values those that have some. Seeds in which no episode has ended are
      left out, and so are optimizers without any other.
    """
    notes = without_episode(table)
    known = {
        (task, name): results.known_curves(table, task, name)
        for task in table.tasks()
        for name in table.optimizers(task)
    }
    known = {key: curve for key, curve in known.items() if curve[1].size}
    offset, scale = (_references if by == MIN_MAX else _means)(table.tasks(), known, by, notes)
    tasks = [task for task in scale if scale[task] > 0]
    optimizers = [
        name
        for name in table.optimizers()
        if tasks and all((task, name) in known for task in tasks)
    ]
    left_out = [name for name in table.optimizers() if name not in optimizers]
    if left_out and len(tasks) > 1:
        notes.append(
            f"Not in the scores over all tasks, as not run on each: {', '.join(left_out)}."
        )
    scaled: dict[str, list[Curve]] = {}
    for name in optimizers:
        of_tasks = [known[task, name] for task in tasks]
        seeds = min(len(returns) for _, returns in of_tasks)
        if any(len(returns) != seeds for _, returns in of_tasks):
            notes.append(f"{name}: the first {seeds} seeds of each task, as some have more.")
        scaled[name] = [
            (steps, (returns[:seeds] - offset[task]) / scale[task])
            for task, (steps, returns) in zip(tasks, of_tasks, strict=True)
        ]
    scores = {
        name: np.stack([returns[:, -1] for _, returns in of_tasks], axis=1)
        for name, of_tasks in scaled.items()
    }
    points, are_steps, pooled = _pool(scaled)
    if tasks and not pooled:
        notes.append("No curve over all tasks: they were logged at different numbers of points.")
    control = by if by in table.optimizers() else None
    if by == MIN_MAX and DEFAULT_NORMALISER in table.optimizers():
        control = DEFAULT_NORMALISER
    return Comparison(
        by if scale else None, scale, tasks, optimizers, scores, pooled, points, are_steps, notes,
        offset, control,
    )  # fmt: skip


def _means(
    tasks: list[str], known: dict[tuple[str, str], Curve], by: str, notes: list[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """What is taken off returns (0), and what they are divided by: the optimizer's mean."""
    scale = {}
    for task in tasks:
        if (task, by) not in known:
            notes.append(
                f"No normalised scores on {task}: {by} was not run there, or ended no episode."
            )
            continue
        scale[task] = float(known[task, by][1][:, -1].mean())
        if scale[task] <= 0:
            span = task_presets.RETURN_RANGES.get(task_presets.short_name(task))
            notes.append(
                f"No normalised scores on {task}: {by}'s mean return there is "
                f"{scale[task]:g}, and only a divisor above 0 keeps the order."
                + (f" --normalise_by={MIN_MAX} takes {span[0]:g} as 0 and {span[1]:g} as 1."
                   if span else "")
            )  # fmt: skip
    return dict.fromkeys(scale, 0.0), scale


def _references(
    tasks: list[str], known: dict[tuple[str, str], Curve], by: str, notes: list[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """The least reference value, and how far the greatest is above it."""
    del known, by
    offset, scale = {}, {}
    for task in tasks:
        span = task_presets.RETURN_RANGES.get(task_presets.short_name(task))
        if span is None:
            notes.append(f"No normalised scores on {task}: there are no reference values for it.")
            continue
        offset[task], scale[task] = span[0], span[1] - span[0]
        notes.append(f"{task}: a return of {span[0]:g} has the score 0, one of {span[1]:g} 1.")
    return offset, scale


def _pool(scaled: dict[str, list[Curve]]) -> tuple[np.ndarray, bool, dict[str, np.ndarray]]:
    """Points [T], whether they are steps, and curves [S, tasks, T] if T is common to all.

    Points before all of them have a value are left out, counted from the end of training.
    """
    ends = [steps for of_tasks in scaled.values() for steps, _ in of_tasks]
    if not ends:
        return np.zeros(0), True, {}
    count = min(map(len, ends))
    steps = [points[-count:] for points in ends]
    shares = [points / points[-1] for points in steps]
    same = all(np.array_equal(points, steps[0]) for points in steps)
    # Runs logged at as many points, some of which had no value, are alike in those that are left.
    if len({*map(len, ends)}) > 1 and not all(np.allclose(s, shares[0], rtol=0.02) for s in shares):
        return np.zeros(0), True, {}
    pooled = {
        name: np.stack([returns[:, -count:] for _, returns in of_tasks], axis=1)
        for name, of_tasks in scaled.items()
    }
    if same:
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
        control = compared.control if compared.control in one_task.optimizers() else None
        for summed in summary.summary(one_task, control):
            final = results.final_returns(table, task, summed["optimizer"])
            final = final[~np.isnan(final)]
            row = summed | summary.columns("mean", summary.of_known(final, "mean"))
            if task in compared.tasks and len(final):
                row |= _of_one_task(row, final, compared.offset[task], compared.scale[task])
            found.append({name: row.get(name) for name in COLUMNS})
    if len(compared.tasks) > 1:
        found += [_over_tasks(compared, name) for name in compared.optimizers]
    return found


def _of_one_task(
    row: dict[str, Any], final: np.ndarray, offset: float, scale: float
) -> dict[str, Any]:
    """The normalised columns of a task: all but the optimality gap are the raw ones, scaled."""
    columns: dict[str, Any] = {}
    for name, raw in zip(NORMALISED, ("iqm", "mean", "mean"), strict=False):
        for end in ("", "_low", "_high"):
            value = row[raw + end]
            columns[name + end] = None if value is None else (value - offset) / scale
    gap = bootstrap.of_seeds((final - offset) / scale, "optimality_gap")
    return columns | summary.columns("optimality_gap", gap)


def _over_tasks(compared: Comparison, optimizer: str) -> dict[str, Any]:
    scores = compared.scores[optimizer]
    row = {"task": ALL_TASKS, "optimizer": optimizer, "seeds": len(scores)}
    for name in NORMALISED:
        statistic = name.removeprefix("normalised_")
        row |= summary.columns(name, bootstrap.of_seeds(scores, statistic))
    if compared.control in compared.scores and compared.control != optimizer:
        row |= summary.improvement(scores, compared.scores[compared.control])
    return {column: row.get(column) for column in COLUMNS}
