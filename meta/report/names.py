"""One name and one look for each optimizer of a report, in whichever folder it was run.

Folders name optimizers for themselves: a meta-training calls its result by its family, an
evaluation by the folder that the file is from. On a page a file has one name, and two files two.
"""

import json
from typing import Any, NamedTuple

from meta import results
from meta.evaluation import legends
from meta.report.sources import Folder, with_variants
from meta.results import plot_style
from meta.results.looks import Detail, Looks


class Names(NamedTuple):
    """What optimizers are called on a page.

    Attributes:
      by_folder: (folder's label, name there) -> name on the page, where that is another.
      notes: what was renamed, a sentence each.
    """

    by_folder: dict[tuple[str, str], str]
    notes: list[str]

    def of(self, label: str, optimizer: str) -> str:
        """The name on the page of what a folder calls ``optimizer``."""
        base = self.by_folder.get((label, results.trained(optimizer)))
        if base is None:
            return optimizer
        return results.untrained(base) if results.is_untrained(optimizer) else base


class _Optimizer(NamedTuple):
    """An optimizer of a report: where it occurs, and its settings by task.

    Attributes:
      places: (folder's label, name there).
      theta: digest of theta; empty for handcrafted ones, and where it is not known.
      settings: task -> what results depend on.
    """

    places: list[tuple[str, str]]
    theta: str
    settings: dict[str, str]

    def is_same(self, theta: str, settings: dict[str, str]) -> bool:
        """Whether another one of the same name, or of the same theta, may be this one."""
        common = set(self.settings) & set(settings)
        return self.theta == theta and all(self.settings[t] == settings[t] for t in common)


def unify(folders: list[Folder]) -> Names:
    """Finds which names in folders stand for the same optimizer.

    The same theta has one name everywhere: that of an evaluation where there is one, as a
    meta-training's is its family. Handcrafted optimizers of the same name are one unless their
    hyperparameters differ on a task.
    """
    found: list[_Optimizer] = []
    for folder in folders:
        for name, theta, settings in _optimizers(folder):
            place = (folder.label, name)
            known = (one for one in found if theta or name in (n for _, n in one.places))
            same = next((one for one in known if one.is_same(theta, settings)), None)
            if same is None:
                found.append(_Optimizer([place], theta, settings))
            else:
                same.places.append(place)
                same.settings.update(settings)
    trainings = {folder.label for folder in with_variants(folders) if folder.is_training}
    taken: set[str] = set()
    renamed: dict[tuple[str, str], str] = {}
    notes = []
    for one in found:
        label, name = next((p for p in one.places if p[0] not in trainings), one.places[0])
        name = name if name not in taken else f"{name} [{label}]"
        taken.add(name)
        renamed |= {place: name for place in one.places if place[1] != name}
        others = [f"{there} in {label}" for label, there in one.places if there != name]
        if others:
            notes.append(f"{name} on this page is what is called {', '.join(others)}.")
    return Names(renamed, notes)


def _optimizers(folder: Folder) -> list[tuple[str, str, dict[str, str]]]:
    """(name, digest of theta, settings by task) of a folder's optimizers, controls left out."""
    by_name: dict[str, tuple[str, dict[str, str]]] = {}
    for cell in folder.manifest:
        if not results.is_untrained(cell["optimizer"]):
            theta, settings = by_name.setdefault(cell["optimizer"], (_theta(cell), {}))
            if not theta:
                settings[cell["task"]] = json.dumps(cell["identity"], sort_keys=True)
    for name in folder.table.optimizers() if folder.table is not None else ():
        by_name.setdefault(results.trained(name), ("", {}))
    return [(name, theta, settings) for name, (theta, settings) in by_name.items()]


def _theta(cell: dict[str, Any]) -> str:
    """A digest of theta that is the same for a file and for what was just trained."""
    identity = cell["identity"].get("optimizer")
    if not isinstance(identity, dict) or "theta_sha256" not in identity:
        return ""
    without = "/neutral" if identity.get("dormancy") else ""
    return str(legends.about(cell).get("theta_sha256", identity["theta_sha256"])) + without


def looks(
    folders: list[Folder],
    table: results.Table,
    names: Names,
    apart: dict[tuple[str, str], str],
    tasks: dict[tuple[str, str], str],
) -> Looks:
    """Styles and labels of all optimizers on the page.

    Args:
      folders: of the report.
      table: all of their results, under the names on the page.
      names: of ``unify``.
      apart: (folder's label, name on the page) -> the name under which that folder's results
        stand beside other ones.
      tasks: (folder's label, task there) -> its name on the page.
    """
    details: dict[tuple[str, str], Detail] = {}
    shown: dict[str, str] = {}
    families: dict[str, str] = {}
    for folder in folders:
        smoke = legends.is_smoke(folder.config)
        for cell in folder.manifest:
            name = names.of(folder.label, cell["optimizer"])
            name = apart.get((folder.label, name), name)
            task = tasks.get((folder.label, cell["task"]), cell["task"])
            details.setdefault((task, name), legends.detail(cell, smoke=smoke))
            shown.setdefault(task, legends.shown_task(task, smoke))
            if family := legends.about(cell).get("family"):
                families.setdefault(results.trained(name), str(family))
    same = {results.trained(there): results.trained(name) for (_, name), there in apart.items()}
    styles = plot_style.optimizer_styles(table.optimizers(), families, same)
    return Looks(styles, details, shown)
