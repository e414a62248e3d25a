"""A report's sections on folders: what they are, what differs, and versions."""

import dataclasses
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import learned_opt
from agents import task_presets
from meta.engine.tasks import make_agent_config
from meta.report import html as page
from meta.report.sources import Folder
from meta.training import outer_loop

_PACKAGES = (
    "lopt-rl", "jax", "jaxlib", "numpy", "optax", "flax", "dm-haiku", "evosax", "gymnax", "brax",
    "rliable", "matplotlib", "pillow",
)  # fmt: skip
_ROOT = Path(__file__).resolve().parents[1]


def overview(folders: list[Folder]) -> str:
    """A line for each folder, and what is missing in it."""
    header = ("folder", "path as given", "kind", "optimizers", "tasks", "progress", "seeds")
    rows = [_overview_row(inner) for folder in folders for inner in (folder, *folder.variants)]
    body = page.table(
        header, rows, "The folders of this report. Progress: meta-steps done; seeds: evaluated."
    )
    for folder in folders:
        for inner in (folder, *folder.variants):
            told = inner.problems
            if inner is not folder:  # a study evaluates its variants itself
                told = [problem for problem in told if not problem.startswith("results.csv")]
            body += "".join(page.missing(f"{inner.label}: {problem}") for problem in told)
    return body


def _overview_row(folder: Folder) -> list[object]:
    table = folder.table
    names, tasks, seeds = "–", ", ".join(_task_blocks(folder)) or "–", "–"
    if table is not None:
        names, tasks = ", ".join(table.optimizers()), ", ".join(table.tasks())
        seeds = str(len(set(table.seed.tolist())))
    elif isinstance(folder.config.get("optimizer"), dict):
        names = str(folder.config["optimizer"].get("name", "–"))
    done = "–"
    if folder.metrics:
        known = folder.is_training and folder.kind in outer_loop.names()
        length = outer_loop.get(folder.kind).length if known else ""
        total = folder.config.get("outer", {}).get(length, "?")
        done = f"{folder.metrics[-1]['meta_step']:.0f} of {total}"
    return [folder.label, folder.path, folder.title, names, tasks, done, seeds]


def differences(folders: list[Folder]) -> str:
    """Tables of the fields in which folders of one kind differ, and of tasks' settings."""
    body = ""
    every = [inner for folder in folders for inner in (folder, *folder.variants)]
    groups: dict[str, list[Folder]] = {}
    for folder in every:
        if folder.config:
            groups.setdefault("training" if folder.is_training else folder.kind, []).append(folder)
    for group in groups.values():
        if len(group) > 1:
            flat = {folder.label: flatten(folder.config) for folder in group}
            title = "training" if group[0].is_training else group[0].title
            body += page.heading(f"Configs: {title}")
            body += _difference_table(flat, "Fields of the configs that differ.")
    for task, by_folder in task_settings(every).items():
        if len(by_folder) > 1:
            body += page.heading(f"Settings of the task {task}")
            body += _difference_table(
                by_folder,
                "What agents were trained with, where it differs; total_timesteps are environment "
                "steps of each run. All else is equal.",
            )
    if not body:
        body = page.paragraph("No two folders have anything to compare in their configs.", "note")
    for folder in every:
        if folder.config:
            shown = json.dumps(folder.config, indent=2, sort_keys=True)
            body += page.folded(f"Config of {folder.label}, whole", page.code(shown))
    return body


def _difference_table(flat: dict[str, dict[str, Any]], caption: str) -> str:
    fields = list(dict.fromkeys(field for fields in flat.values() for field in fields))
    rows = []
    for field in fields:
        values = [_shown(fields.get(field)) for fields in flat.values()]
        if len(set(values)) > 1:
            rows.append([field, *values])
    if not rows:
        return page.paragraph(f"Equal in {', '.join(flat)}.")
    return page.table(["field", *flat], rows, caption)


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{'a': {'b': 1}}`` as ``{'a.b': 1}``."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        is_block = isinstance(value, dict) and value
        flat |= flatten(value, f"{prefix}{name}.") if is_block else {f"{prefix}{name}": value}
    return flat


def task_settings(folders: list[Folder]) -> dict[str, dict[str, dict[str, Any]]]:
    """Task -> folder's label -> flat settings that decide what a return on the task means."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for folder in folders:
        for task, block in _task_blocks(folder).items():
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


def _task_blocks(folder: Folder) -> dict[str, dict[str, Any]]:
    """Task -> its block, as ``tasks.make_task`` takes it; of all kinds of folder."""
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
                "env": cell["task"],
                "env_options": setting.get("env_options", {}),
                "total_timesteps": agent.pop("total_timesteps", 0),
                "normalizer": 1.0,
                "agent": {"name": agent.pop("algorithm", "ppo"), **agent},
            }
    return found


def task_blocks(folder: Folder) -> dict[str, dict[str, Any]]:
    """The tasks of a folder as blocks that ``tasks.make_task`` takes; possibly none."""
    return {
        task: block for task, block in _task_blocks(folder).items() if {"env", "agent"} <= {*block}
    }


def versions(folders: list[Folder]) -> str:
    """Versions of what wrote this report, and of what trained the optimizers."""
    rows: list[list[object]] = [["python", platform.python_version()]]
    for name in _PACKAGES:
        try:
            rows.append([name, metadata.version(name)])
        except metadata.PackageNotFoundError:
            rows.append([name, "not installed"])
    rows.append(["commit of the toolkit", commit() or "unknown (not run from a git checkout)"])
    body = page.table(("package", "version"), rows, "What this report was made with.")
    trained = [_trained_with(inner) for folder in folders for inner in (folder, *folder.variants)]
    known = [row for row in trained if row is not None]
    if known:
        body += page.table(
            ("folder", "toolkit", "jax", "meta-steps", "environment steps", "theta of meta-step"),
            known,
            "What the optimizers in the folders were trained with, as their files say.",
        )
    return body


def _trained_with(folder: Folder) -> list[object] | None:
    path = folder.path / "optimizer.npz"
    if not path.is_file():
        return None
    try:
        training = learned_opt.load(path).metadata.get("training", {})
    except (OSError, ValueError, KeyError) as error:
        return [folder.label, f"unreadable: {error}", None, None, None, None]
    fields = ("toolkit", "jax", "meta_steps", "env_steps", "theta_of_meta_step")
    return [folder.label, *(training.get(field) for field in fields)]


def commit() -> str:
    """The toolkit's commit, with a plus sign if files were changed since; empty if unknown."""
    try:
        known = [
            subprocess.run(
                ["git", "-C", str(_ROOT), *words],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            ).stdout.strip()
            for words in (
                ("rev-parse", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
                ("rev-parse", "--show-toplevel"),
            )
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    # Installed somewhere inside another project's checkout, the commit would be that one's.
    if Path(known[2]).resolve() != _ROOT:
        return ""
    return known[0] + ("+" if known[1] else "")
