"""A summary of a run's results, with tables and plots, that is written when they have changed."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meta.runs.workdir import Workdir

SUMMARY = "summary.md"
STAMP = "stamp.json"  # tells which results the summary is of, and which files belong to it
_FORMER_STAMP = "report.json"  # of older versions


def summary(folder: Workdir, results: bytes, write: Callable[[], tuple[str, list[str]]]) -> str:
    """The folder's summary, written anew if the one that is there is not of these results.

    Args:
      folder: of the run.
      results: all that the summary and the files beside it depend on.
      write: writes these files; returns the summary as Markdown, and the files' names. Files of
        an older summary that are not among them are removed.

    Returns:
      The summary as Markdown.
    """
    path, stamp = folder.path, hashlib.sha256(results).hexdigest()
    old = _read(path / STAMP)
    before = old.get("files", _read(path / _FORMER_STAMP).get("files", []))
    if old.get("stamp") == stamp and all((path / name).is_file() for name in (SUMMARY, *before)):
        return (path / SUMMARY).read_text(encoding="utf-8")
    text, files = write()
    files = [SUMMARY, *files]
    folder.write(path / SUMMARY, text)
    for name in {*before, _FORMER_STAMP} - {*files}:  # plots of what is no longer shown
        (path / Path(name).name).unlink(missing_ok=True)
    folder.write(path / STAMP, json.dumps({"stamp": stamp, "files": files}) + "\n")
    return text


def _read(path: Path) -> dict[str, Any]:
    """A stamp; empty if there is none, or it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) and isinstance(value.get("files"), list) else {}
