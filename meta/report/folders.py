"""A report's sections on its folders: what they are, and what differs between them."""

import json
from typing import Any

from meta.report import page
from meta.report.sources import Folder, task_blocks, task_settings, with_variants
from meta.runs.workdir import flatten
from meta.training import outer_loop


def overview(folders: list[Folder]) -> str:
    """A line for each folder, and what is missing in it."""
    header = ("folder", "path as given", "kind", "optimizers", "tasks", "progress", "seeds")
    rows = [_overview_row(folder) for folder in with_variants(folders)]
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
    names, tasks, seeds = "–", ", ".join(task_blocks(folder)) or "–", "–"
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
    every = with_variants(folders)
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
        values = [fields.get(field) for fields in flat.values()]
        values = ["–" if value is None else str(value) for value in values]
        if len(set(values)) > 1:
            rows.append([field, *values])
    if not rows:
        return page.paragraph(f"Equal in {', '.join(flat)}.")
    return page.table(["field", *flat], rows, caption)
