"""The results table: one row per logged point of every evaluated training run.

The table is a plain CSV file with the columns of ``COLUMNS``, so anything can read it. Where no
episode has ended yet the return is ``NA``, and that of a failed run ``nan``. It
grows by whole files (written beside the table, then renamed), so a crash leaves either the
old table or the new one. Should a table have been cut off all the same (a full disk, an
interrupted copy), then its last line lacks the newline: such a line is dropped with a
warning, because ``12`` may be what is left of ``1234.5``.

Axes: S seeds, T logged points of a run.
"""

import csv
import dataclasses
import io
import operator
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from meta.runs import atomic

COLUMNS = ("task", "agent", "optimizer", "seed", "env_steps", "episode_return")

_UNTRAINED = " (untrained)"
_NO_EPISODE = "NA"  # read as NaN by other programs, too


class Row(NamedTuple):
    """One logged point of one training run.

    Attributes:
      task: name of the task (an environment, an agent and a horizon); not empty.
      agent: name of the agent, e.g. ``ppo``; not empty.
      optimizer: name of the optimizer; an untrained control is ``untrained(name)``.
      seed: >= 0.
      env_steps: environment steps that the run had taken, >= 0.
      episode_return: mean return of the episodes at that point; NaN is a failed run, None one
        in which no episode has ended yet.
    """

    task: str
    agent: str
    optimizer: str
    seed: int
    env_steps: int
    episode_return: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """The columns of a results table, all of the same length; see ``Row`` for meanings.

    Attributes:
      task, agent, optimizer: arrays of str.
      seed, env_steps: int64 arrays.
      episode_return: float64 array, in units of return; NaN of a failed run, and where no
        episode has ended yet.
      no_episode: bool array, where it is NaN for the latter reason; nowhere if not given.
    """

    task: np.ndarray
    agent: np.ndarray
    optimizer: np.ndarray
    seed: np.ndarray
    env_steps: np.ndarray
    episode_return: np.ndarray
    no_episode: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        if not len(self.no_episode):
            object.__setattr__(self, "no_episode", np.zeros(len(self.task), bool))

    def __len__(self) -> int:
        return len(self.task)

    def tasks(self) -> list[str]:
        """The tasks, in order of first appearance."""
        return list(dict.fromkeys(self.task.tolist()))

    def optimizers(self, task: str | None = None) -> list[str]:
        """The optimizers (of one task, if given), in order of first appearance."""
        chosen = self.optimizer if task is None else self.optimizer[self.task == task]
        return list(dict.fromkeys(chosen.tolist()))


def untrained(optimizer: str) -> str:
    """The name under which the untrained control of an optimizer is logged."""
    return optimizer if is_untrained(optimizer) else optimizer + _UNTRAINED


def is_untrained(optimizer: str) -> bool:
    """Whether a name is that of an untrained control."""
    return optimizer.endswith(_UNTRAINED)


def trained(optimizer: str) -> str:
    """The name of the optimizer that an untrained control belongs to."""
    return optimizer.removesuffix(_UNTRAINED)


def from_rows(rows: Iterable[Row]) -> Table:
    """A table of rows in memory.

    Raises:
      ValueError: if a row holds an empty name, a name with a line break, a seed or a count
        of steps that is no whole number >= 0, or a return that is no number.
    """
    checked = [_checked(row) for row in rows]
    columns = list(zip(*checked, strict=True)) or [()] * len(COLUMNS)
    kinds = (np.str_, np.str_, np.str_, np.int64, np.int64, np.float64)
    no_episode = np.array([value is None for value in columns[-1]], bool)
    arrays: list[np.ndarray] = [
        np.array(c, dtype=kind) for c, kind in zip(columns, kinds, strict=True)
    ]
    return Table(*arrays, no_episode=no_episode)  # type: ignore[misc]


def to_rows(table: Table) -> Iterator[Row]:
    """The rows that ``from_rows`` would make the table of."""
    columns = [getattr(table, name).tolist() for name in COLUMNS]
    for *values, none in zip(*columns, table.no_episode.tolist(), strict=True):
        row = Row(*values)
        yield row._replace(episode_return=None) if none else row


def append(path: str | os.PathLike[str], rows: Iterable[Row]) -> None:
    """Adds rows to a table, which is made if it is missing or empty.

    The old rows and the new ones are written to a file beside the table, which then takes
    its place, so no reader ever sees half of the rows. Two processes must not append to one
    table at the same time: the later one would undo the other's rows.

    Raises:
      ValueError: as ``from_rows`` does, or if the file is no results table. The table is
        left as it was.
    """
    path = Path(path)
    old = ",".join(COLUMNS) + "\n"
    if path.exists() and path.stat().st_size:
        old = _whole_lines(path)
        _check_header(path, next(csv.reader(io.StringIO(old)), []))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([*row[:5], _cell(row.episode_return)] for row in map(_checked, rows))
    with atomic.replacing(path) as temporary:
        temporary.write_text(old + text.getvalue(), encoding="utf-8", newline="\n")


def read(path: str | os.PathLike[str]) -> Table:
    """Reads a results table.

    A last line without its newline is unfinished; it is dropped, with a ``UserWarning``
    that shows it.

    Raises:
      ValueError: naming the file and what to do, if it is missing or empty, if its columns
        are not ``COLUMNS``, or if a line has too many or too few cells or a cell that is no
        number where one must be.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"there is no results table {path}: run an evaluation first, or mend the path"
        )
    reader = csv.reader(io.StringIO(_whole_lines(path)))
    try:
        _check_header(path, next(reader, []))
        return from_rows(_parsed(path, reader.line_num, cells) for cells in reader if cells)
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: {error}; mend the line or take it out"
        ) from error


def select(
    table: Table,
    task: str | None = None,
    agent: str | None = None,
    optimizer: str | None = None,
) -> Table:
    """The rows that have all the names given; possibly none."""
    keep = np.ones(len(table), dtype=bool)
    for column, name in ((table.task, task), (table.agent, agent), (table.optimizer, optimizer)):
        if name is not None:
            keep &= column == name
    return Table(*(getattr(table, field.name)[keep] for field in dataclasses.fields(Table)))


def curves(table: Table, task: str, optimizer: str) -> tuple[np.ndarray, np.ndarray]:
    """The learning curves of one optimizer on one task.

    Returns:
      env_steps: [T] int64, rising.
      returns: [S, T] float64, seeds in rising order; NaN where a run failed, and before its
        first episode has ended.

    Raises:
      ValueError: if there are no such rows, if they come from several agents, if a point was
        logged twice, or if the seeds were not logged at the same points.
    """
    rows = select(table, task, optimizer=optimizer)
    where = f"task {task!r}, optimizer {optimizer!r}"
    if not len(rows):
        known = {name: table.optimizers(name) for name in table.tasks()}
        raise ValueError(f"no results for {where}; the table has {known or 'no rows'}")
    agents = sorted(set(rows.agent.tolist()))
    if len(agents) > 1:
        raise ValueError(
            f"{where}: rows of several agents {agents}; take one with select(table, agent=...)"
        )
    order = np.lexsort((rows.env_steps, rows.seed))
    seed, steps = rows.seed[order], rows.env_steps[order]
    twice = np.flatnonzero((np.diff(seed) == 0) & (np.diff(steps) == 0))
    if len(twice):
        raise ValueError(
            f"{where}: seed {seed[twice[0]]} has {steps[twice[0]]} environment steps more than "
            "once; take out the rows of one of the two runs"
        )
    seeds, starts = np.unique(seed, return_index=True)
    points = np.split(steps, starts[1:])
    for other, mine in zip(seeds[1:], points[1:], strict=True):
        if not np.array_equal(mine, points[0]):
            raise ValueError(
                f"{where}: seed {other} was logged at other points ({_span(mine)}) than seed "
                f"{seeds[0]} ({_span(points[0])}); finish the runs, or take out the unfinished ones"
            )
    return points[0], rows.episode_return[order].reshape(len(seeds), -1)


def known_curves(table: Table, task: str, optimizer: str) -> tuple[np.ndarray, np.ndarray]:
    """What can be drawn of ``curves``.

    Returns:
      env_steps: [T'] int64, from where an episode has ended in each of these seeds.
      returns: [S', T'] float64, of the seeds in which an episode has ended by the last point.

    Raises:
      ValueError: as ``curves`` does, or for failed runs.
    """
    env_steps, returns = curves(table, task, optimizer)
    refuse_failed(table, task, optimizer)
    returns = returns[~np.isnan(returns[:, -1])]
    first = int(np.isnan(returns).sum(axis=1).max(initial=0))
    return env_steps[first:], returns[:, first:]


def refuse_failed(table: Table, task: str, optimizer: str) -> None:
    """Raises a ``ValueError`` that counts the failed runs of an optimizer on a task."""
    rows = select(table, task, optimizer=optimizer)
    failed = ~np.isfinite(rows.episode_return) & ~rows.no_episode
    if failed.any():
        raise ValueError(
            f"{int(failed.sum())} of {len(rows)} returns are NaN or infinite, in "
            f"{len(set(rows.seed[failed].tolist()))} of {len(set(rows.seed.tolist()))} seeds: "
            "these runs failed; count them, e.g. with normalised.failures_as_worst(table)"
        )


def final_returns(table: Table, task: str, optimizer: str) -> np.ndarray:
    """The return of each seed at its last logged point: [S], seeds in rising order.

    NaN where a run failed, or ended no episode.

    Raises:
      ValueError: as ``curves`` does; seeds that stopped at different points are not comparable.
    """
    return curves(table, task, optimizer)[1][:, -1]


def area_under_curve(table: Table, task: str, optimizer: str) -> np.ndarray:
    """The mean return over the environment steps of each run: [S], in units of return.

    The mean is that of the straight lines between logged points (the trapezoid rule), so it
    does not depend on how the points are spaced. A run of one point has that point's return.
    Points before a run's first episode has ended are left out; a run without one, and one that
    failed, has NaN.

    Raises:
      ValueError: as ``curves`` does.
    """
    steps, returns = curves(table, task, optimizer)
    whole = ~np.isnan(returns[:, 0])
    areas = np.full(len(returns), np.nan)
    areas[whole] = _area(steps, returns[whole])
    for seed in np.flatnonzero(~whole & ~np.isnan(returns[:, -1])):
        first = int(np.argmax(~np.isnan(returns[seed])))
        areas[seed] = _area(steps[first:], returns[seed : seed + 1, first:])[0]
    return areas


def _area(steps: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """[S, T] -> [S]."""
    if len(steps) == 1:  # no width to divide by; the limit of a shrinking run
        return returns[:, 0]
    area = np.trapezoid(returns, steps.astype(np.float64), axis=1)
    return np.asarray(area / float(steps[-1] - steps[0]))


def _cell(value: float | None) -> str:
    return _NO_EPISODE if value is None else repr(value)


def _span(steps: np.ndarray) -> str:
    return f"{len(steps)} points from {steps[0]} to {steps[-1]}"


def _checked(row: Row) -> Row:
    for column, name in zip(COLUMNS[:3], row[:3], strict=True):
        if not isinstance(name, str) or not name or "\n" in name or "\r" in name:
            raise ValueError(f"{column} must be one line of text, got {name!r} in {row}")
    try:
        counts = operator.index(row.seed), operator.index(row.env_steps)
        value = None if row.episode_return is None else float(row.episode_return)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"seed and env_steps must be whole numbers and episode_return a number, got {row}"
        ) from error
    if min(counts) < 0:
        raise ValueError(f"seed and env_steps must be >= 0, got {row}")
    return Row(row.task, row.agent, row.optimizer, *counts, value)


def _whole_lines(path: Path) -> str:
    """The text of a file up to its last newline; warns if more follows."""
    data = path.read_bytes()
    # Cut before decoding: half a line may end in half a character.
    end = data.rfind(b"\n") + 1
    if data[end:].strip():
        warnings.warn(
            f"{path}: the last line is unfinished (no newline) and is left out: "
            f"{data[end:].decode('utf-8', 'replace')!r}; log that point again",
            UserWarning,
            stacklevel=3,
        )
    try:
        return data[:end].decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: save it as CSV in UTF-8") from error


def _check_header(path: Path, header: list[str]) -> None:
    if tuple(header) == COLUMNS:
        return
    missing = [name for name in COLUMNS if name not in header]
    surplus = [name for name in header if name not in COLUMNS]
    found = f"missing {missing}, unknown {surplus}" if header else "it has no finished line"
    if header and not missing and not surplus:
        found = f"found them in another order or twice: {','.join(header)}"
    raise ValueError(
        f"{path} is no results table: its first line must be {','.join(COLUMNS)} ({found}); "
        "mend that line, or move the file away and evaluate again"
    )


def _parsed(path: Path, line: int, cells: list[str]) -> Row:
    where = f"{path}, line {line}"
    if len(cells) != len(COLUMNS):
        raise ValueError(
            f"{where}: {len(cells)} cells where {','.join(COLUMNS)} must be; "
            "mend the line or take it out"
        )
    no_episode = cells[-1] == _NO_EPISODE
    cells = [*cells[:-1], "nan" if no_episode else cells[-1]]
    for column, cell, kind in zip(COLUMNS[3:], cells[3:], (int, int, float), strict=True):
        try:
            kind(cell)
        except ValueError as error:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(
                f"{where}: {column} must be {what}, got {cell!r}; mend the cell"
            ) from error
    task, agent, optimizer, seed, env_steps, episode_return = cells
    try:
        value = None if no_episode else float(episode_return)
        return _checked(Row(task, agent, optimizer, int(seed), int(env_steps), value))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
