"""An evaluation's folder: settings, a manifest, and a file for each finished chunk of seeds.

    config.json     the settings, which all results in the folder share; of a meta-training in
                    its own folder, that training's config
    manifest.json   the cells (an optimizer on a task), in the order in which they were asked for,
                    each with what there is to know ``about`` it
    optimizers/...  a copy of each file that was evaluated, so that the folder stands by itself
    chunks/...      one file for each finished chunk of a cell
    results.csv     all of it as a table

A chunk's file appears whole or not at all, and carries a checksum: a damaged one is computed
again. So a crash loses the chunk under way and nothing else.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from meta import results
from meta.runs import atomic
from meta.runs.workdir import Workdir, WorkdirError, flatten

FORMAT_VERSION = 1  # of all files here
KIND = "evaluation"


class Cell(NamedTuple):
    """An optimizer on a task.

    Attributes:
      task, optimizer: as results name them.
      identity: what its results depend on beside the folder's settings; plain JSON.
      source: where the optimizer came from, for readers.
    """

    task: str
    optimizer: str
    identity: dict[str, Any]
    source: str

    @property
    def key(self) -> tuple[str, str]:
        return self.task, self.optimizer


class Curve(NamedTuple):
    """One seed's learning curve, T numbers each.

    Attributes:
      env_steps, episode_return: of each logged point; NaN where the run failed, and at the
        first points, before an episode has ended.
      no_episode: how many these first points are.
      series: what else was logged along the curve, by name.
    """

    env_steps: list[int]
    episode_return: list[float]
    no_episode: int
    series: dict[str, list[float]]


class Store:
    """What an evaluation leaves in its folder.

    Args:
      path: the folder; made if missing.
      settings: plain JSON that all results in the folder must share.
      kind: of run: ``evaluation``, or what builds on it.

    Raises:
      WorkdirError: the folder is of another version, of other settings, or of another kind.
    """

    def __init__(self, path: str | Path, settings: dict[str, Any], kind: str = KIND):
        self.folder = Workdir(path)
        self._kind = kind
        self._settings = _plain({"kind": kind, "format_version": FORMAT_VERSION, **settings})
        self._manifest = self.folder.path / "manifest.json"
        self._check()
        self._cells = self._read_manifest()

    @classmethod
    def of_run(cls, path: str | Path) -> "Store":
        """The store in a folder that is a meta-training's or a study's already.

        Its config has all that results in the folder must share.

        Raises:
          WorkdirError: nothing was begun there.
        """
        config = _read_json(Path(path) / "config.json")
        if config is None:
            raise WorkdirError(f"{path} holds no run: train there first")
        store = cls.__new__(cls)
        store.folder = Workdir(path)
        store._kind = KIND
        store._settings = config
        store._manifest = store.folder.path / "manifest.json"
        store._cells = store._read_manifest()
        return store

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Makes the folder this evaluation's, and keeps other processes from writing to it."""
        self.folder.claim(self._settings)
        with open(self.folder.path / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise WorkdirError(
                    f"another {self._kind} is writing to {self.folder.path}: wait for it, or "
                    "give another --workdir"
                ) from error
            self._cells = self._read_manifest()
            yield

    def drop(self, cells: Iterable[tuple[str, str]]) -> None:
        """Forgets the results of cells, (task, optimizer) each."""
        gone = set(cells) & set(self._cells)
        for task, optimizer in gone:  # before the manifest, which says whose they are
            shutil.rmtree(self._chunks(task, optimizer), ignore_errors=True)
            del self._cells[task, optimizer]
        if gone:
            self._write_manifest()
            self.write_results()

    def outdated(self, cells: Sequence[Cell]) -> list[tuple[str, str]]:
        """(task, optimizer) of those cells whose name stands for something else here."""
        return [cell.key for cell in cells if self._is_outdated(cell)]

    def _is_outdated(self, cell: Cell) -> bool:
        known = self._cells.get(cell.key)
        return known is not None and known["identity"] != _plain(cell.identity)

    def check_cell(self, cell: Cell) -> None:
        """Raises a ``WorkdirError`` if the cell's name stands for something else here."""
        if not self._is_outdated(cell):
            return
        old, new = flatten(self._cells[cell.key]["identity"]), flatten(_plain(cell.identity))
        changed = [
            f"  {name}: {old.get(name, 'none')} in the folder, {new.get(name, 'none')} asked for"
            for name in sorted(set(old) | set(new))
            if old.get(name) != new.get(name)
        ]
        raise WorkdirError(
            f"{self.folder.path} has results of another {cell.optimizer!r} on {cell.task!r}:\n"
            + "\n".join(changed)
            + "\ngive another --workdir, or name it otherwise: --optimizer=LABEL=..."
        )

    def width(self, cell: Cell) -> int:
        """Seeds that a device runs at once in this cell; 0 where nothing was begun."""
        known = self._cells.get(cell.key)
        return int(known["seeds_per_device"]) if known else 0

    def begin(self, cell: Cell, width: int) -> None:
        """Notes a cell, before its first chunk, with the number of seeds per device."""
        self.check_cell(cell)
        if cell.key not in self._cells:
            self._cells[cell.key] = {**_plain(cell._asdict()), "seeds_per_device": width}
            self._write_manifest()

    @property
    def manifest(self) -> list[dict[str, Any]]:
        """The cells that were begun: the fields of ``Cell``, ``seeds_per_device`` and ``about``."""
        return list(self._cells.values())

    @property
    def settings(self) -> dict[str, Any]:
        """What all results in the folder share; of a meta-training its config."""
        return self._settings

    def is_described(self, cell: Cell) -> bool:
        """Whether ``describe`` was called for a cell, and the file that it kept is there.

        True for a cell that was not begun: there is nothing to describe.
        """
        about = self._cells.get(cell.key, {"about": {}}).get("about")
        return about is not None and (
            "file" not in about or (self.folder.path / about["file"]).is_file()
        )

    def describe(self, cell: Cell, about: dict[str, Any], sha256: str = "") -> None:
        """Notes what there is to know about a cell that was begun, and keeps its file.

        Args:
          about: plain JSON, on which results do not depend; ``file`` is added to it, the path in
            this folder of what the cell's ``source`` names, where that is a file.
          sha256: of the file, if that is known.

        Raises:
          WorkdirError: the file has another digest by now.
        """
        file = self._keep(Path(cell.source), cell.optimizer, sha256)
        kept = {"file": file} if file else {}
        self._cells[cell.key]["about"] = {**_plain(about), **kept}
        self._write_manifest()

    def _keep(self, source: Path, optimizer: str, sha256: str) -> str:
        """The path in the folder of a file, copied unless it is there; empty if it is no file."""
        if not source.is_file():
            return ""
        folder = self.folder.path.resolve()
        if source.resolve().is_relative_to(folder):
            return source.resolve().relative_to(folder).as_posix()
        content = source.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if sha256 not in ("", digest):
            raise WorkdirError(
                f"{source} has changed since this evaluation began: evaluate it anew"
            )
        name = slug(results.trained(optimizer))
        path = self.folder.path / "optimizers" / f"{name}-{digest[:8]}{source.suffix}"
        with atomic.replacing(path) as temporary:
            temporary.write_bytes(content)
        return path.relative_to(self.folder.path).as_posix()

    def curves(self, task: str, optimizer: str) -> dict[int, Curve]:
        """The finished curves of a cell by seed, in rising order.

        A damaged chunk is left out with a warning.

        Raises:
          WorkdirError: a chunk is of another version.
        """
        found: dict[int, Curve] = {}
        for path in sorted(self._chunks(task, optimizer).glob("seeds_*.json")):
            chunk = _read_chunk(path)
            if chunk is None:
                warnings.warn(f"{path} is damaged: its seeds are computed again", stacklevel=2)
                continue
            for place, seed in enumerate(chunk["seeds"]):
                series = {
                    name: _numbers(curves[place])
                    for name, curves in chunk.get("series", {}).items()
                }
                returns = _numbers(chunk["episode_return"][place])
                no_episode = chunk.get("no_episode", {}).get(str(seed), 0)
                found[int(seed)] = Curve(chunk["env_steps"], returns, no_episode, series)
        return dict(sorted(found.items()))

    def series(self, task: str, optimizer: str) -> dict[int, dict[str, list[float]]]:
        """What else was logged along the finished curves of a cell: seed -> name -> T numbers."""
        return {seed: curve.series for seed, curve in self.curves(task, optimizer).items()}

    def write_chunk(
        self,
        cell: Cell,
        seeds: Sequence[int],
        env_steps: np.ndarray,
        returns: np.ndarray,
        series: Mapping[str, np.ndarray] | None = None,
        no_episode: np.ndarray | None = None,
    ) -> None:
        """Writes a finished chunk: seeds S, ``env_steps`` [T], the others [S, T].

        ``no_episode`` says where returns are NaN because no episode has ended.
        """
        content: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "seeds": [int(seed) for seed in seeds],
            "env_steps": [int(steps) for steps in env_steps],
            # JSON has no NaN: a failed run's points are null, as are those without an episode.
            "episode_return": _curves(returns),
        }
        if no_episode is not None and no_episode.any():
            counts = zip(content["seeds"], no_episode.sum(axis=1), strict=True)
            content["no_episode"] = {str(seed): int(count) for seed, count in counts if count}
        if series:
            content["series"] = {name: _curves(values) for name, values in series.items()}
        content["sha256"] = _checksum(content)
        name = f"seeds_{min(seeds):06d}-{max(seeds):06d}.json"
        path = self._chunks(cell.task, cell.optimizer) / name
        with atomic.replacing(path) as temporary:
            temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def write_results(self) -> None:
        """Writes ``results.csv`` anew if it is not what the chunks say.

        Its rows are all finished curves, cells in the manifest's order.
        """
        rows, path = [], self.folder.results
        for (task, optimizer), cell in self._cells.items():
            agent = cell["identity"]["task"]["agent"]["algorithm"]
            for seed, curve in self.curves(task, optimizer).items():
                points = zip(curve.env_steps, curve.episode_return, strict=True)
                for place, (steps, value) in enumerate(points):
                    known = None if place < curve.no_episode else value
                    rows.append(results.Row(task, agent, optimizer, seed, steps, known))
        if not path.exists() or not _same(results.read(path), results.from_rows(rows)):
            with atomic.replacing(path) as temporary:
                results.append(temporary, rows)

    def cells(self) -> list[tuple[str, str]]:
        """(task, optimizer) of every cell that was begun."""
        return list(self._cells)

    def _write_manifest(self) -> None:
        content = {"format_version": FORMAT_VERSION, "cells": list(self._cells.values())}
        self.folder.write(self._manifest, json.dumps(content, indent=2) + "\n")

    def _chunks(self, task: str, optimizer: str) -> Path:
        return self.folder.path / "chunks" / slug(task) / slug(optimizer)

    def _check(self) -> None:
        """Raises if the folder's settings are others; writes nothing."""
        there = _read_json(self.folder.config)
        if there is None:
            return
        if there.get("kind") != self._kind:
            raise WorkdirError(
                f"{self.folder.path} holds a run that is no {self._kind}: give another --workdir"
            )
        _check_version(there, self.folder.config)
        if there != self._settings:
            self.folder.claim(self._settings)  # raises, with the difference

    def _read_manifest(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(task, optimizer) -> the cell and its seeds per device."""
        there = _read_json(self._manifest)
        if there is None:
            return {}
        _check_version(there, self._manifest)
        return {(cell["task"], cell["optimizer"]): cell for cell in there["cells"]}


def _same(one: results.Table, other: results.Table) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "episode_return")
        for name in (*results.COLUMNS, "no_episode")
    )


def slug(name: str) -> str:
    """A file name for any name; no two names have the same."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:60]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _curves(values: np.ndarray) -> list[list[float | None]]:
    return [[float(v) if math.isfinite(v) else None for v in curve] for curve in values]


def _numbers(curve: list[float | None]) -> list[float]:
    return [math.nan if value is None else float(value) for value in curve]


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value))


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is no such file."""
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WorkdirError(
            f"{path} is damaged ({error}): mend it, or give another --workdir"
        ) from error
    if not isinstance(value, dict):
        raise WorkdirError(f"{path} is damaged: it must hold a JSON object")
    return value


def _check_version(there: dict[str, Any], path: Path) -> None:
    version = there.get("format_version")
    if version != FORMAT_VERSION:
        raise WorkdirError(
            f"{path} has results of format version {version}, this is version {FORMAT_VERSION}: "
            "go on with the version of the toolkit that wrote them, or give another --workdir"
        )


def _checksum(content: dict[str, Any]) -> str:
    text = json.dumps({k: v for k, v in content.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_chunk(path: Path) -> dict[str, Any] | None:
    """A chunk's content, or None if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        return None
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("format_version"), int):
        _check_version(content, path)
    return content if content.get("sha256") == _checksum(content) else None
