"""A report's section of commands that make its folders again."""

import json
import math
import shlex
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from meta import results
from meta.evaluation import contestants, legends
from meta.report import page
from meta.report.sources import WITH_MANIFEST, Folder, file_of, read_csv
from meta.training import outer_loop


def section(folders: list[Folder]) -> str:
    """The commands that make the folders again, each in a new folder beside it."""
    body = page.paragraph(
        "To run in the toolkit's own folder; those of a folder write to one new folder. Folders do "
        "not record the toolkit's commit: that above is the one that made this page. Optimizer "
        "files are the copies that the folders keep or, in folders of older versions, where they "
        "lay then."
    )
    for folder in folders:
        commands = _commands(folder)
        body += page.heading(folder.label)
        if not commands:
            body += page.missing("Its config is missing or of a kind that tells no command.")
        for words in commands:
            body += page.code(line([*words, f"--workdir={folder.path}-again"]))
        body += "".join(page.paragraph(note, "note") for note in _unfinished(folder))
    return body


def line(words: list[str]) -> str:
    """A launcher's file and flags as a shell command."""
    # Where the toolkit is installed, launchers are commands of the one that comes with it.
    is_installed = __name__.startswith("lopt_rl.")
    program = f"lopt-rl {PurePath(words[0]).stem}" if is_installed else f"python {words[0]}"
    return " \\\n    ".join([program, *map(shlex.quote, words[1:])])


def _commands(folder: Folder) -> list[list[str]]:
    """Launchers and their flags, without the workdir; none if the folder does not tell."""
    if folder.is_training or folder.kind == "study":
        name = "compare" if folder.kind == "study" else "train"
        return [
            [f"launchers/{name}.py", f"--config=configs/saved.py:{folder.path / 'config.json'}"]
        ]
    if folder.kind == "tuning":
        words = _tuning(folder)
        return [] if words is None else [words]
    if folder.kind in WITH_MANIFEST and folder.manifest:
        return _evaluations(folder)
    return []


def _unfinished(folder: Folder) -> list[str]:
    """Says where a command would do more than was done."""
    if folder.is_training and folder.metrics and folder.kind in outer_loop.names():
        total = folder.config["outer"].get(outer_loop.get(folder.kind).length)
        done = int(folder.metrics[-1]["meta_step"])
        if isinstance(total, int) and done < total:
            return [f"The folder's run has come to meta-step {done} of {total}."]
    missing = []
    for (task, optimizer), seeds in _seeds(folder).items():
        gaps = sorted(set(range(max(seeds) + 1)) - seeds)
        if gaps:
            missing.append(
                f"Of {optimizer} on {task} there are no results of seeds "
                f"{', '.join(map(str, gaps))}."
            )
    return missing


def _seeds(folder: Folder) -> dict[tuple[str, str], set[int]]:
    """(task, optimizer) -> the seeds that there are results of."""
    found: dict[tuple[str, str], set[int]] = {}
    if folder.table is not None:
        columns = (folder.table.task, folder.table.optimizer, folder.table.seed)
        for task, optimizer, seed in zip(*(c.tolist() for c in columns), strict=True):
            found.setdefault((task, optimizer), set()).add(seed)
    return found


class _Ran(NamedTuple):
    """What a cell was asked for with, beside optimizer and task."""

    num_seeds: int
    untrained: bool
    neutral: bool
    chunk: str


def _evaluations(folder: Folder) -> list[list[str]]:
    """As few commands as come to exactly the cells and seeds that the folder has results of."""
    seeds, cells = _seeds(folder), {(c["task"], c["optimizer"]): c for c in folder.manifest}
    asked: dict[str, dict[str, _Ran]] = {}  # --optimizer= -> task -> how
    for (task, name), cell in cells.items():
        if results.is_untrained(name) or _is_neutral(cell) or (task, name) not in seeds:
            continue
        beside = [other for other in cells.values() if _is_beside(cell, other)]
        ran = _Ran(
            max(seeds[task, name]) + 1,
            any(results.is_untrained(other["optimizer"]) for other in beside),
            any(_is_neutral(other) for other in beside),
            str(cell.get("seeds_per_device", "")),
        )
        asked.setdefault(_optimizer(folder, cell), {})[task] = ran
    commands: dict[tuple[_Ran, tuple[str, ...]], list[str]] = {}
    for optimizer, tasks in asked.items():
        for ran in dict.fromkeys(tasks.values()):
            of_tasks = tuple(task for task, other in tasks.items() if other == ran)
            commands.setdefault((ran, of_tasks), []).append(optimizer)
    return [_evaluation(folder, *key, optimizers) for key, optimizers in commands.items()]


def _optimizer(folder: Folder, cell: dict[str, Any]) -> str:
    """A cell's optimizer as ``--optimizer`` takes it: what comes to the very same results.

    That is how it was called, or the folder's copy of its file. A handcrafted one that was tuned
    for the folder is written with its hyperparameters.
    """
    file, name = file_of(folder, cell), cell["optimizer"]
    source = cell["source"] if str(file) == str(Path(cell["source"])) else str(file)
    values = legends.hyperparameters(cell)
    if values is not None and not _comes_to(source, cell):
        family = cell["identity"]["optimizer"]["optimizer"]
        written = [f"{key}={_written(value)}" for key, value in values.items()]
        source = f"{family}:{','.join(written)}"
    return source if name == source else f"{name}={source}"


def _comes_to(source: str, cell: dict[str, Any]) -> bool:
    """Whether ``--optimizer`` would make of a source what a handcrafted optimizer's cell is of."""
    try:
        (one,) = contestants.resolve([source])
        return one.identity(cell["task"]) == cell["identity"]["optimizer"]
    except (ValueError, OSError):
        return False


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_beside(cell: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a cell is of another's control, or of the same without its dormancy input."""
    names = {results.untrained(cell["optimizer"]), f"{cell['optimizer']} (dormancy 1)"}
    return other["task"] == cell["task"] and other["optimizer"] in names


def _evaluation(
    folder: Folder, ran: _Ran, tasks: tuple[str, ...], optimizers: list[str]
) -> list[str]:
    words = ["launchers/evaluate.py" if folder.kind == "evaluation" else "launchers/analyze.py"]
    words += ["--what=gradients"] if folder.kind == "gradients" else []
    words += [f"--optimizer={optimizer}" for optimizer in optimizers]
    words += [f"--task={task}" for task in tasks]
    words.append(f"--num_seeds={ran.num_seeds}")
    words.append("--untrained" if ran.untrained else "--nountrained")
    words += ["--neutral_dormancy"] if ran.neutral else []
    taus = folder.config.get("taus")
    if isinstance(taus, list):
        words.append(f"--tau={','.join(map(str, taus))}")
    chunk = [f"--chunk={ran.chunk}"] if ran.chunk.isdigit() else []
    return words + _common(folder) + chunk


def _is_neutral(cell: dict[str, Any]) -> bool:
    """Whether a cell is of an optimizer without its dormancy input."""
    optimizer = cell["identity"].get("optimizer")
    return isinstance(optimizer, dict) and optimizer.get("dormancy") == "neutral"


def _tuning(folder: Folder) -> list[str] | None:
    """The grid that the manifest's candidates span; None if they are no grid."""
    identities = [cell["identity"].get("optimizer") for cell in folder.manifest]
    candidates = [identity for identity in identities if isinstance(identity, dict)]
    task = folder.config.get("task")
    if not candidates or not isinstance(task, str):
        return None
    tried: dict[str, list[Any]] = {}
    for candidate in candidates:
        for name, value in candidate.items():
            values = tried.setdefault(name, [])
            values += [] if value in values else [value]
    families = tried.pop("name", [])
    # Hyperparameters of a random search are no product of lists, and their ranges unknown.
    if len(families) != 1 or math.prod(map(len, tried.values())) != len(candidates):
        return None
    words = ["launchers/tune.py", f"--optimizer={families[0]}", f"--task={task}"]
    words += [f"--{name}={','.join(map(json.dumps, values))}" for name, values in tried.items()]
    return words + _of_table(folder) + _common(folder) + _chunk(folder)


def _of_table(folder: Folder) -> list[str]:
    """What only the table of a tuning tells."""
    try:
        header, values, *_ = read_csv(folder.path / "tuning.csv")
    except (OSError, ValueError):  # missing, damaged or empty
        return []
    first = dict(zip(header, values, strict=False))
    flags = {"criterion": "criterion", "seeds": "num_seeds"}
    return [f"--{flag}={first[name]}" for name, flag in flags.items() if first.get(name)]


def _common(folder: Folder) -> list[str]:
    """Flags that evaluate, analyze and tune share."""
    settings = folder.config
    words = [
        f"--{name}={settings[name]}"
        for name in ("like", "agent", "total_timesteps", "seed", "points")
        if settings.get(name) not in (None, "")
    ]
    for flag, field in (("agent_option", "agent_options"), ("env_option", "env_options")):
        options = settings.get(field)
        for name, value in options.items() if isinstance(options, dict) else ():
            words.append(f"--{flag}={name}={json.dumps(value)}")
    return words


def _chunk(folder: Folder) -> list[str]:
    """How many runs a device does at once: batching changes the last digits."""
    widths = {str(cell.get("seeds_per_device")) for cell in folder.manifest}
    (first, *others) = widths or {"None"}
    return [f"--chunk={first}"] if first.isdigit() and not others else []
