"""What a run leaves in its folder: config, metrics, checkpoints, optimizer, plots."""

import csv
import difflib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from meta.runs.atomic import replacing


class WorkdirError(ValueError):
    """The folder cannot be used for this run."""


class Workdir:
    """Paths and small files of a run's folder.

    Args:
      path: the folder; made by ``claim`` if missing, so that a failed start leaves nothing.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        existing = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not existing.is_dir():
            raise WorkdirError(f"--workdir={self.path} is not a folder; give another")
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.csv"
        self.results = self.path / "results.csv"
        self.optimizer = self.path / "optimizer.npz"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.tuning = self.path / "tuning.csv"

    def claim(self, config: dict[str, Any], length: tuple[str, str] | None = None) -> bool:
        """Makes the folder this config's, or checks that it is.

        Args:
          config: as plain dicts.
          length: (block, field) of the run's length, where a run can go on beyond its end: the
            folder's config may have a smaller number there, and takes over the new one.

        Returns:
          Whether a run of this config was begun here before.

        Raises:
          WorkdirError: the folder belongs to another config; shows the difference.
        """
        text = json.dumps(config, indent=2, sort_keys=True, default=str) + "\n"
        if self.config.exists():
            there = self.config.read_text()
            if there == text:
                return True
            if _goes_on(json.loads(text), there, length):
                self.write(self.config, text)
                return True
            difference = difflib.unified_diff(
                there.splitlines(),
                text.splitlines(),
                "in the folder",
                "asked for",
                n=1,
                lineterm="",
            )
            raise WorkdirError(
                f"{self.path} holds a run of another config:\n"
                + "\n".join(difference)
                + "\ngive another --workdir, or the config that the run began with"
                + (f" ({'.'.join(length)} may be larger)" if length else "")
            )
        self.path.mkdir(parents=True, exist_ok=True)
        foreign = [entry.name for entry in self.path.iterdir()]
        if foreign:
            raise WorkdirError(
                f"{self.path} is not empty and holds no run ({', '.join(sorted(foreign)[:5])}): "
                "give a new --workdir"
            )
        self.write(self.config, text)
        return False

    def write(self, path: Path, text: str) -> None:
        """Writes a text file in one step; makes the folder if need be."""
        self.path.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text)

    def write_table(self, path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
        """Writes a CSV table in one step."""
        with replacing(path) as new, new.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)


def _goes_on(asked: dict[str, Any], text: str, length: tuple[str, str] | None) -> bool:
    """Whether the folder's run is the one asked for, but for what may differ.

    Which is what older versions did not write, and a larger length.
    """
    try:
        there = json.loads(text)
    except json.JSONDecodeError:
        return False
    for block, known in ((asked, there), (asked.get("base"), there.get("base"))):
        if isinstance(block, dict) and isinstance(known, dict) and "mode" not in known:
            block.pop("mode", None)
    return asked == there or (length is not None and _is_longer(asked, there, *length))


def _is_longer(asked: dict[str, Any], there: dict[str, Any], block: str, field: str) -> bool:
    """Whether the configs differ in this field alone, and the one asked for has more."""
    try:
        more = asked[block][field] > there[block][field]
    except (KeyError, TypeError):  # another outer loop's config
        return False
    return more and {**asked, block: {**asked[block], field: there[block][field]}} == there


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{'a': {'b': 1}}`` as ``{'a.b': 1}``."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        is_block = isinstance(value, dict) and value
        flat |= flatten(value, f"{prefix}{name}.") if is_block else {f"{prefix}{name}": value}
    return flat


class MetricsTable:
    """The run's metrics as a CSV table, one row per meta-step, resumable.

    Args:
      path: of the table.
    """

    def __init__(self, path: Path):
        self._path = path
        self.rows: list[dict[str, float]] = []

    def load(self, before: int) -> None:
        """Reads the rows of meta-steps below ``before`` and forgets later ones."""
        self.rows = [row for row in read_metrics(self._path) if row["meta_step"] < before]
        self._write()

    def add(self, row: dict[str, float]) -> None:
        """Appends a row and writes it out."""
        known = self._columns()
        self.rows.append(row)
        if set(row) <= set(known) and self._path.exists():
            with self._path.open("a") as file:
                csv.DictWriter(file, known, lineterminator="\n").writerow(row)
        else:
            self._write()

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def _write(self) -> None:
        with replacing(self._path) as temporary, temporary.open("w") as file:
            writer = csv.DictWriter(file, self._columns(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics table; none where there is no table yet."""
    if not path.exists():
        return []
    text = path.read_text()
    # A row that a crash cut off has no line end, and belongs to a meta-step that is computed
    # again.
    whole = text[: text.rfind("\n") + 1]
    rows = [
        {name: _number(value) for name, value in row.items() if name and value not in (None, "")}
        for row in csv.DictReader(io.StringIO(whole))
    ]
    return [row for row in rows if "meta_step" in row]


def _number(text: str) -> float:
    """What was written, so that a row that is read and written again stays the same."""
    return int(text) if text.lstrip("-").isdigit() else float(text)
