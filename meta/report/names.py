"""One name and one look for each optimizer of a report, in whichever folder it was run.

Folders name optimizers for themselves: a meta-training calls its result by its family, an
evaluation by the folder that the file is from. On a page a file has one name, and two files two.
"""

from typing import Any, NamedTuple

from meta import results
from meta.evaluation import legends
from meta.report.sources import Folder
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


def unify(folders: list[Folder]) -> Names:
    """Finds which names in folders stand for the same file.

    The same theta has one name everywhere: that of an evaluation where there is one, as a
    meta-training's is its family. Handcrafted optimizers keep the folders' names: their labels
    tell them apart.
    """
    places: dict[str, list[tuple[str, str]]] = {}  # theta -> (folder's label, name there)
    for folder in folders:
        for cell in folder.manifest:
            place = (folder.label, cell["optimizer"])
            theta = "" if results.is_untrained(cell["optimizer"]) else _theta(cell)
            if theta and place not in places.setdefault(theta, []):
                places[theta].append(place)
    own = {folder.label for folder in folders if folder.is_training}
    renamed: dict[tuple[str, str], str] = {}
    taken: set[str] = set()
    notes = []
    for every in places.values():
        label, name = next((place for place in every if place[0] not in own), every[0])
        name = f"{name} [{label}]" if name in taken else name
        taken.add(name)
        renamed |= {place: name for place in every if place[1] != name}
        others = [f"{there} in {folder}" for folder, there in every if there != name]
        if others:
            notes.append(f"{name} on this page is what is called {', '.join(others)}.")
    return Names(renamed, notes)


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
    apart: dict[tuple[str, str, str], str],
    tasks: dict[tuple[str, str], str],
) -> Looks:
    """Styles and labels of all optimizers on the page.

    Args:
      folders: of the report.
      table: all of their results, under the names on the page.
      names: of ``unify``.
      apart: (task on the page, folder's label, name on the page) -> the name under which that
        folder's results stand beside other ones.
      tasks: (folder's label, task there) -> its name on the page.
    """
    details: dict[tuple[str, str], Detail] = {}
    shown: dict[str, str] = {}
    families: dict[str, str] = {}
    for folder in folders:
        smoke = legends.is_smoke(folder.config)
        for cell in folder.manifest:
            name = names.of(folder.label, cell["optimizer"])
            task = tasks.get((folder.label, cell["task"]), cell["task"])
            name = apart.get((task, folder.label, name), name)
            details.setdefault((task, name), legends.detail(cell, smoke=smoke))
            shown.setdefault(task, legends.shown_task(task, smoke))
            if family := legends.about(cell).get("family"):
                families.setdefault(results.trained(name), str(family))
    same = {results.trained(there): results.trained(name) for (_, _, name), there in apart.items()}
    styles = plot_style.optimizer_styles(table.optimizers(), families, same)
    return Looks(styles, details, shown)
