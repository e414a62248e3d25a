"""What readers are told of optimizers beside their results: labels, looks, hyperparameters, notes.

All of it is read off a manifest's cells, so that it is the same in a folder that several calls
have added to and in a report made elsewhere.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agents import task_presets
from learned_opt import handcrafted
from meta import results
from meta.evaluation.contestants import ORIGINS
from meta.results import plot_style
from meta.results.looks import Detail, Looks

Cells = Sequence[Mapping[str, Any]]  # of a manifest: ``Store.manifest``

HYPERPARAMETERS = ("task", "optimizer", "learning rate", "from", "annealed", "others")
SMOKE = "smoke"  # what configs call the mode that is too short to learn anything
OF_SMOKE = "from a smoke run"
SMOKE_NOTE = (
    "Smoke run: everything is shrunk to minutes, far too little training to learn "
    "anything. Its numbers say that the code runs, and nothing about optimizers."
)


def looks(cells: Cells, names: Iterable[str], *, smoke: bool = False) -> Looks:
    """How the optimizers of a folder appear.

    Args:
      cells: of its manifest.
      names: all optimizers that are shown.
      smoke: whether the folder is of a smoke run: its tasks say so.
    """
    styles = plot_style.optimizer_styles(names, families(cells))
    found = {(cell["task"], cell["optimizer"]): detail(cell, smoke=smoke) for cell in cells}
    tasks = {cell["task"]: shown_task(cell["task"], smoke) for cell in cells}
    return Looks(styles, found, tasks)


def shown_task(task: str, smoke: bool) -> str:
    """``catch``, or ``catch (smoke run)``."""
    return f"{task} (smoke run)" if smoke else task


def families(cells: Cells) -> dict[str, str]:
    """The optimizers' families by name, as far as they are known."""
    known = {results.trained(cell["optimizer"]): about(cell).get("family") for cell in cells}
    return {name: str(family) for name, family in known.items() if family}


def about(cell: Mapping[str, Any]) -> dict[str, Any]:
    """What ``Contestant.about`` said of a cell; empty in folders of older versions."""
    found = cell.get("about")
    return found if isinstance(found, dict) else {}


def is_smoke(config: Mapping[str, Any]) -> bool:
    """Whether a folder's config is of a smoke run: of a training, or of a study."""
    base = config.get("base")
    return SMOKE in (config.get("mode"), base.get("mode") if isinstance(base, Mapping) else None)


def detail(cell: Mapping[str, Any], *, smoke: bool = False) -> Detail:
    """What the label of a cell says beside the optimizer's name.

    Args:
      smoke: whether all that stands beside it is of smoke runs, so that it goes without saying.
    """
    values = hyperparameters(cell)
    if values is None:
        alone = about(cell).get("smoke") and not results.is_untrained(cell["optimizer"])
        return Detail("", OF_SMOKE if alone and not smoke else "")
    is_said = "learning_rate=" in cell["optimizer"]  # a name as it was given
    return Detail("" if is_said else rate(values), origin(cell))


def hyperparameters(cell: Mapping[str, Any]) -> dict[str, Any] | None:
    """All hyperparameters of a handcrafted optimizer's cell; None of a learned one's."""
    identity = cell["identity"].get("optimizer")
    if not isinstance(identity, dict) or "optimizer" not in identity:
        return None
    return {name: value for name, value in identity.items() if name != "optimizer"}


def rate(values: Mapping[str, Any]) -> str:
    """The learning rate as labels write it: ``0.03``, ``3e-4``; empty if there is none."""
    value = values.get("learning_rate")
    return "" if value is None else _number(value)


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    text = f"{value:.4g}"
    if 0 < abs(value) < 1e-3:
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    return text


def origin(cell: Mapping[str, Any]) -> str:
    """Where a handcrafted optimizer's learning rate is from; empty where nothing tells.

    Folders of older versions do not say; what has exactly the family's or the paper's values
    has them from there.
    """
    if "origin" in about(cell):
        return str(about(cell)["origin"])
    values, identity = hyperparameters(cell), cell["identity"]["optimizer"]
    family, task = identity["optimizer"], task_presets.optimizer_preset(cell["task"])
    if family in handcrafted.FAMILIES:
        if task in handcrafted.PRESETS.get(family, {}):
            if values == handcrafted.hyperparameters(family, preset=task):
                return "paper's"
        elif values == handcrafted.hyperparameters(family):
            return "default"
    return ""


def table(cells: Cells) -> list[list[str]]:
    """Rows under ``HYPERPARAMETERS``: one for each handcrafted optimizer and task."""
    rows = []
    for cell in cells:
        values = hyperparameters(cell)
        if values is None:
            continue
        others = [
            f"{name} {_number(value)}"
            for name, value in values.items()
            if name not in ("learning_rate", "anneal")
        ]
        said = origin(cell)
        rows.append(
            [
                cell["task"],
                cell["optimizer"],
                rate(values) or "–",
                ORIGINS.get(said, said or "unknown"),
                "yes" if values.get("anneal") else "no",
                ", ".join(others) or "–",
            ]
        )
    return rows


def notes(cells: Cells, *, smoke: bool = False) -> list[str]:
    """What has to be known of the optimizers in a folder (of a smoke run?), a sentence each."""
    found = []
    for cell in cells:
        values = hyperparameters(cell)
        if values is not None and origin(cell) == "default":
            written = ", ".join(f"{name}={_number(value)}" for name, value in values.items())
            found.append(
                f"{cell['optimizer']} on {cell['task']}: no tuned values are shipped for this "
                f"task, so these are its defaults ({written}); --tune_baselines tunes it first."
            )
        elif detail(cell, smoke=smoke).origin == OF_SMOKE:
            found.append(
                f"{cell['optimizer']} on {cell['task']}: meta-trained by a smoke run, far too "
                "little to learn anything."
            )
    return found


def pooled_notes(shown: Looks, optimizers: Iterable[str], tasks: Sequence[str]) -> list[str]:
    """Says which rows over all tasks are of runs with different learning rates."""
    found = []
    for name in optimizers:
        details = {task: d for task in tasks if (d := shown.details.get((task, name))) is not None}
        if len({detail.rate for detail in details.values()}) > 1:
            rates = ", ".join(
                f"{' '.join(filter(None, detail)) or 'unknown'} on {task}"
                for task, detail in details.items()
            )
            found.append(
                f"{name} over all tasks is of runs with a learning rate for each task: {rates}."
            )
    return found


def fingerprint(cells: Cells) -> bytes:
    """All that labels and notes depend on."""
    return json.dumps(list(cells), sort_keys=True).encode()
