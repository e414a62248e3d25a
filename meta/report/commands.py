"""A report's section of commands that make its folders again."""

import json
import math
import shlex
from pathlib import PurePath
from typing import Any

from meta import results
from meta.report import page
from meta.report.sources import WITH_MANIFEST, Folder, read_csv


def section(folders: list[Folder]) -> str:
    """The commands that make the folders again, each in a new folder beside it."""
    body = page.paragraph(
        "To run in the toolkit's own folder; each writes to a new folder. Folders do not record "
        "the toolkit's commit: that above is the one that made this page. Paths of optimizer "
        "files are as they were given then."
    )
    for folder in folders:
        words = _words(folder)
        body += page.heading(folder.label)
        if words is None:
            body += page.missing("Its config is missing or of a kind that tells no command.")
        else:
            body += page.code(line([*words, f"--workdir={folder.path}-again"]))
    return body


def line(words: list[str]) -> str:
    """A launcher's file and flags as a shell command."""
    # Where the toolkit is installed, launchers are commands of the one that comes with it.
    is_installed = __name__.startswith("lopt_rl.")
    program = f"lopt-rl {PurePath(words[0]).stem}" if is_installed else f"python {words[0]}"
    return " \\\n    ".join([program, *map(shlex.quote, words[1:])])


def _words(folder: Folder) -> list[str] | None:
    """The launcher and its flags, without the workdir; None if the folder does not tell."""
    if folder.is_training or folder.kind == "study":
        name = "compare" if folder.kind == "study" else "train"
        return [f"launchers/{name}.py", f"--config=configs/saved.py:{folder.path / 'config.json'}"]
    if folder.kind == "tuning":
        return _tuning(folder)
    if folder.kind in WITH_MANIFEST and folder.manifest:
        return _evaluation(folder)
    return None


def _evaluation(folder: Folder) -> list[str]:
    words = ["launchers/evaluate.py" if folder.kind == "evaluation" else "launchers/analyze.py"]
    words += ["--what=gradients"] if folder.kind == "gradients" else []
    neutral = [cell for cell in folder.manifest if _is_neutral(cell)]
    controls = [cell for cell in folder.manifest if results.is_untrained(cell["optimizer"])]
    trained = [cell for cell in folder.manifest if cell not in [*neutral, *controls]]
    for name, source in dict.fromkeys((cell["optimizer"], cell["source"]) for cell in trained):
        words.append(f"--optimizer={source if name == source else f'{name}={source}'}")
    words += [f"--task={task}" for task in dict.fromkeys(c["task"] for c in folder.manifest)]
    if folder.table is not None:
        words.append(f"--num_seeds={len(set(folder.table.seed.tolist()))}")
    words.append("--untrained" if controls else "--nountrained")
    words += ["--neutral_dormancy"] if neutral else []
    taus = folder.config.get("taus")
    if isinstance(taus, list):
        words.append(f"--tau={','.join(map(str, taus))}")
    return words + _common(folder) + _chunk(folder)


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
