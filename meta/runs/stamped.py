"""A summary of a run's results, with tables and plots, that is written when they have changed."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from meta.runs import outputs, tables
from meta.runs.workdir import Workdir

SUMMARY = "summary.md"
STAMP = "stamp.json"  # tells which results the summary is of, and which files belong to it
_TEX = ".tex"
_FORMER_STAMP = "report.json"  # of older versions


def summary(folder: Workdir, results: bytes, write: Callable[[], tuple[str, list[str]]]) -> str:
    """The folder's summary, written anew if the one that is there is not of these results.

    Within ``outputs.also_as`` plots and tables come in further forms, and later calls keep those
    up to date.

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
    with_latex = outputs.asked(outputs.LATEX) or any(map(_is_tex, before))
    there = all((path / name).is_file() for name in (SUMMARY, *before, *_beside(path, before)))
    if old.get("stamp") == stamp and there and with_latex == any(map(_is_tex, before)):
        return (path / SUMMARY).read_text(encoding="utf-8")
    text, files = write()
    files = [SUMMARY, *files, *_beside(path, files)]
    folder.write(path / SUMMARY, text)
    for name, table in tables.latex(text).items() if with_latex else ():
        files.append(f"summary_{name}{_TEX}")
        folder.write(path / files[-1], table)
    for name in {*before, _FORMER_STAMP} - {*files}:  # plots of what is no longer shown
        (path / Path(name).name).unlink(missing_ok=True)
    folder.write(path / STAMP, json.dumps({"stamp": stamp, "files": files}) + "\n")
    return text


def _beside(path: Path, files: Sequence[str]) -> list[str]:
    """The names of all further forms in which the plots among the files are to be there."""
    plots = [path / name for name in files if name.endswith(".png")]
    return [other.name for plot in plots for other in outputs.beside(plot)]


def _is_tex(name: str) -> bool:
    return name.endswith(_TEX)


def _read(path: Path) -> dict[str, Any]:
    """A stamp; empty if there is none, or it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) and isinstance(value.get("files"), list) else {}
