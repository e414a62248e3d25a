"""A report's section of what folders hold besides: other launchers' pages, tables and plots."""

import io
from pathlib import Path

from meta.report import page
from meta.report.sources import Folder, read_csv, read_text

_MAX_LINES = 60  # of a table that is taken over

# Made anew by this report, in folders of the kinds that it knows.
_REBUILT = {
    "summary.md", "summary.csv", "results.csv", "metrics.csv", "intervals.png", "aggregate.png",
    "improvement.png", "profile.png", "sample_efficiency.png", "meta_training.png",
}  # fmt: skip
_REBUILT_STARTS = ("returns_", "overview_")
# By how a file's name begins or, after the task's, ends.
_TITLES = {
    "tuning": "Tuned hyperparameters: score of each candidate (chosen: 1)",
    "report": "Page of the study",
    "summary": "Summary",
    "analysis": "Statistics of updates, a line for each point",
    "gradients": "Distributions of gradients and updates over training",
    "dormancy": "Dormancy: share of dormant neurons over training (as OPEN's figure 10)",
    "cosine": "Cosine similarity of updates (as OPEN's figure 11)",
    "update_size": "Size of updates (as OPEN's figure 12)",
    "stochasticity": "Stochasticity of updates (as OPEN's figure 13)",
    "norms": "Norms of parameters over training",
    "heat_map": "Mean final return over the grid",
}


def section(folders: list[Folder]) -> str:
    """Pages, tables and plots in the folders that this report does not make itself."""
    body = ""
    for folder in folders:
        parts = "".join(_taken(folder, path) for path in _others(folder))
        body += page.heading(folder.label) + parts if parts else ""
    return body or page.paragraph("The folders hold no other pages, tables or plots.", "note")


def _others(folder: Folder) -> list[Path]:
    """Pages first, then tables, then plots; each by name."""
    known = folder.is_training or folder.kind in ("study", "evaluation")
    found = []
    for ending in (".md", ".csv", ".png"):
        for path in sorted(folder.path.glob(f"*{ending}")):
            # A table that is no results table is one of another launcher's.
            rebuilt = path.name in _REBUILT or path.name.startswith(_REBUILT_STARTS)
            pooled = path.name == "results.csv" and folder.table is not None
            if path.is_file() and not pooled and not (known and rebuilt):
                found.append(path)
    return found


def _taken(folder: Folder, path: Path) -> str:
    where = f"{_title(path.stem)} ({folder.label}/{path.name})"
    try:
        if path.suffix == ".png":
            return page.figure(_whole_image(path), f"{where}.")
        if path.suffix == ".md":
            return page.folded(where, page.markdown(read_text(path)))
        lines = read_csv(path)
    except (OSError, ValueError) as error:
        return page.missing(f"{path.name} cannot be shown: {error}")
    if not lines:
        return page.missing(f"{path.name} is empty.")
    more = len(lines) - 1 - _MAX_LINES
    caption = f"{where}." + (f" {more:,} more lines are in the file." if more > 0 else "")
    return page.folded(where, page.table(lines[0], lines[1 : 1 + _MAX_LINES], caption))


def _whole_image(path: Path) -> bytes:
    """The file's content; raises an OSError or ValueError if it is no image, or half of one."""
    from PIL import Image

    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except (SyntaxError, Image.DecompressionBombError) as error:  # how pillow tells of damage
        raise ValueError(str(error)) from error
    return content


def _title(stem: str) -> str:
    for name, title in _TITLES.items():
        if stem == name:
            return title
        for rest in (stem.removeprefix(f"{name}_"), stem.removesuffix(f"_{name}")):
            if rest != stem:
                return f"{title}: {rest.replace('_', ' ')}"
    return stem.replace("_", " ")
