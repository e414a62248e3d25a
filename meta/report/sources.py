"""Reading workdirs of any kind for a report: never writes, never fails on what is damaged."""

import csv
import dataclasses
import io
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from agents import task_presets
from meta import results
from meta.engine.tasks import make_agent_config
from meta.evaluation import legends
from meta.runs.workdir import WorkdirError, flatten
from meta.training import outer_loop

# A folder that holds one of these was left by one of the launchers.
_MARKS = (
    "config.json", "manifest.json", "results.csv", "metrics.csv", "summary.csv", "summary.md",
    "tuning.csv", "optimizer.npz",
)  # fmt: skip
_KINDS = {
    "study": "comparison of meta-trainings",
    "evaluation": "evaluation",
    "analysis": "analysis of updates",
    "gradients": "statistics of gradients and updates",
    "tuning": "tuning",
}
WITH_MANIFEST = ("evaluation", "analysis", "gradients", "tuning")
_WITH_RESULTS = ("study", "evaluation", "analysis", "gradients")
Row = dict[str, float]


class Folder(NamedTuple):
    """One workdir.

    Attributes:
      path: as the user gave it.
      label: a short name, unique in a report.
      kind: of a meta-training the name of its outer loop; else what its config says it is, or
        ``unknown``.
      config: as plain dicts; empty if missing or damaged.
      manifest: of an evaluation: its cells; else empty.
      metrics: of a meta-training: a row for each meta-step; empty if there are none.
      table: its results, or None.
      variants: of a study: the folders of its meta-trainings.
      problems: what is missing or damaged, a sentence each.
    """

    path: Path
    label: str
    kind: str
    config: dict[str, Any]
    manifest: list[dict[str, Any]]
    metrics: list[Row]
    table: results.Table | None
    variants: list["Folder"]
    problems: list[str]

    @property
    def is_training(self) -> bool:
        return _is_training(self.config)

    @property
    def title(self) -> str:
        """What kind of folder it is, in words."""
        smoke = " (smoke run)" if legends.is_smoke(self.config) else ""
        if self.kind in outer_loop.names():
            return f"meta-training by {outer_loop.get(self.kind).title}{smoke}"
        return _KINDS.get(self.kind, self.kind) + smoke


def read_all(paths: list[str]) -> list[Folder]:
    """Reads folders, each once, in the order given.

    Raises:
      WorkdirError: there are none, or one is no workdir.
    """
    if not paths:
        raise WorkdirError("no folders: give at least one workdir, e.g. runs/demo")
    given = list(dict.fromkeys(Path(path) for path in paths))
    for path in given:
        if not path.is_dir():
            raise WorkdirError(f"{path} is not a folder: give the --workdir of a run")
        if not any((path / name).exists() for name in _MARKS):
            raise WorkdirError(
                f"{path} is no workdir: it has none of {', '.join(_MARKS)}; give the --workdir "
                "of a run"
            )
    return [read(path, label) for path, label in zip(given, _labels(given), strict=True)]


def read(path: Path, label: str) -> Folder:
    """Reads one folder; what cannot be read is told in ``problems``."""
    problems: list[str] = []
    config = _read_json(path / "config.json", problems, needed=True)
    kind, is_training = _kind(config), _is_training(config)
    manifest = _read_json(path / "manifest.json", problems, needed=kind in WITH_MANIFEST)
    cells = manifest.get("cells")
    metrics: list[Row] = []
    if is_training or (path / "metrics.csv").exists():
        metrics = _read_metrics(path / "metrics.csv", problems)
    variants = []
    if kind == "study":
        inner = sorted(entry.parent for entry in path.glob("*/config.json"))
        variants = [read(entry, f"{label}/{entry.name}") for entry in inner]
        if not variants:
            problems.append("none of its meta-trainings was begun.")
    needed = is_training or kind in _WITH_RESULTS
    return Folder(
        path,
        label,
        kind,
        config,
        [cell for cell in cells if _is_cell(cell)] if isinstance(cells, list) else [],
        metrics,
        _read_results(path / "results.csv", problems, needed=needed),
        variants,
        problems,
    )


def with_variants(folders: list[Folder]) -> list[Folder]:
    """The folders, each followed by its variants."""
    return [inner for folder in folders for inner in (folder, *folder.variants)]


def task_settings(folders: list[Folder]) -> dict[str, dict[str, dict[str, Any]]]:
    """Task -> folder's label -> flat settings that decide what a return on the task means."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for folder in folders:
        for task, block in task_blocks(folder).items():
            try:
                config = make_agent_config(block["agent"], block["total_timesteps"])
                agent = json.loads(json.dumps(dataclasses.asdict(config)))
            except (ValueError, KeyError, TypeError, AttributeError):
                agent = block.get("agent", {})  # of another version: compared as it stands
            settings = {
                "env": task_presets.short_name(str(block.get("env", task))),
                "env_options": block.get("env_options", {}),
                **(agent if isinstance(agent, dict) else {}),
            }
            found.setdefault(task, {})[folder.label] = flatten(settings)
    return found


def task_blocks(folder: Folder) -> dict[str, dict[str, Any]]:
    """The tasks of a folder of any kind as ``tasks.make_task`` takes them; possibly none."""
    config = folder.config
    if folder.kind == "study":
        config = config.get("base", {})
    blocks = config.get("tasks") if isinstance(config, dict) else None
    if isinstance(blocks, dict):
        return {str(k): v for k, v in blocks.items() if isinstance(v, dict)}
    found = {}
    for cell in folder.manifest:
        setting = cell["identity"].get("task")
        if isinstance(setting, dict) and isinstance(setting.get("agent"), dict):
            agent = dict(setting["agent"])
            found[cell["task"]] = {
                "env": legends.about(cell).get("env", cell["task"]),
                "env_options": setting.get("env_options", {}),
                "total_timesteps": agent.pop("total_timesteps", 0),
                "normalizer": 1.0,
                "agent": {"name": agent.pop("algorithm", "ppo"), **agent},
            }
    return found


def file_of(folder: Folder, cell: dict[str, Any]) -> Path:
    """The file of an evaluation's cell: the folder's copy, or in older folders its source."""
    kept = legends.about(cell).get("file")
    return folder.path / kept if isinstance(kept, str) else Path(cell["source"])


def notes(folder: Folder) -> list[str]:
    """The notes of a folder's own summary, a sentence each; none if there is no summary."""
    try:
        text = read_text(folder.path / "summary.md")
    except OSError:
        return []
    _, _, rest = text.partition("\n# Notes\n")
    section, _, _ = rest.partition("\n# ")
    return [line[2:] for line in section.splitlines() if line.startswith("- ")]


def read_text(path: Path) -> str:
    """A text file; bytes that are no UTF-8 appear as replacement characters."""
    return path.read_text(encoding="utf-8", errors="replace")


def read_csv(path: Path) -> list[list[str]]:
    """The lines of a CSV file that are not empty.

    Raises:
      OSError, ValueError: it cannot be read, or is no CSV.
    """
    try:
        return [line for line in csv.reader(io.StringIO(read_text(path))) if line]
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _labels(paths: list[Path]) -> list[str]:
    """The last part of each path, and as many before it as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    length = 1
    while len({part[-length:] for part in parts}) < len({*parts}):
        length += 1
    shown = ["/".join(part[-length:]) for part in parts]
    # One folder given under two names would be compared with itself.
    if len(set(shown)) < len(shown):
        raise WorkdirError("the same folder was given twice")
    return shown


def _kind(config: dict[str, Any]) -> str:
    kind, outer = config.get("kind"), config.get("outer")
    if isinstance(kind, str):
        return kind
    if isinstance(outer, dict) and isinstance(outer.get("name"), str):
        return str(outer["name"])
    return "study" if {"base", "budget"} <= set(config) else "unknown"


def _is_training(config: dict[str, Any]) -> bool:
    return "kind" not in config and isinstance(config.get("outer"), dict)


def _is_cell(cell: Any) -> bool:
    return isinstance(cell, dict) and all(
        isinstance(cell.get(name), kind)
        for name, kind in (("task", str), ("optimizer", str), ("source", str), ("identity", dict))
    )


def _read_json(path: Path, problems: list[str], *, needed: bool) -> dict[str, Any]:
    if not path.is_file():
        if needed:
            problems.append(f"{path.name} is missing.")
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        problems.append(f"{path.name} is damaged ({error}).")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{path.name} is damaged: it must hold a JSON object.")
        return {}
    return value


def _read_metrics(path: Path, problems: list[str]) -> list[Row]:
    """Whole rows with a meta-step; cells that are no numbers are left out."""
    if not path.is_file():
        problems.append(f"{path.name} is missing: no meta-step was finished.")
        return []
    text = read_text(path)
    rows: list[Row] = []
    dropped = 0
    try:
        lines = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))
    except csv.Error as error:
        problems.append(f"{path.name} is damaged ({error}).")
        return []
    for cells in lines:
        row: Row = {}
        for name, cell in cells.items():
            if name and isinstance(cell, str) and cell:
                try:
                    row[name] = float(cell)
                except ValueError:
                    dropped += 1
        if "generation" in row:  # what early versions called it
            row.setdefault("meta_step", row["generation"])
        if "meta_step" in row:
            rows.append(row)
        else:
            dropped += 1
    if dropped:
        problems.append(f"{path.name}: {dropped} cells or rows could not be read.")
    if not rows:
        problems.append(f"{path.name} has no meta-steps.")
    return rows


def _read_results(path: Path, problems: list[str], *, needed: bool) -> results.Table | None:
    if not path.is_file():
        if needed:
            problems.append(f"{path.name} is missing: nothing was evaluated yet.")
        return None
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            table = results.read(path)
    except (OSError, ValueError) as error:
        # Other launchers may keep tables of other columns under this name.
        problems.append(f"{path.name} is not shown among the results: {error}")
        return None
    problems += [str(warning.message) for warning in told]
    return table if len(table) else None
