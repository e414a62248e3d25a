"""How optimizers appear in a folder or on a page: one name, one colour, the same everywhere.

Results know an optimizer by its name. What a reader has to know besides (the learning rate of a
handcrafted one, and where that is from) stands behind it in labels, and may differ by task.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from meta import results
from meta.results import plot_style
from meta.results.normalised import ALL_TASKS
from meta.results.plot_style import Style
from meta.results.summary import Summary


class Detail(NamedTuple):
    """What a label says beside the name; either may be empty.

    Attributes:
      rate: the learning rate, as it is written.
      origin: where it is from: ``tuned``, ``default``, ...; or what else is to be said.
    """

    rate: str = ""
    origin: str = ""


class Looks(NamedTuple):
    """Styles and labels of all optimizers that are shown together.

    Attributes:
      styles: optimizer -> how it is drawn, in every plot.
      details: (task, optimizer) -> what its label says there beside the name.
      tasks: task -> how it is shown, where that is not its name.
    """

    styles: Mapping[str, Style]
    details: Mapping[tuple[str, str], Detail] = {}
    tasks: Mapping[str, str] = {}

    def label(self, optimizer: str, tasks: Sequence[str]) -> str:
        """An optimizer's label on a task, or where several stand together.

        ``adam, 0.03 tuned``; ``adam, rates by task, tuned`` where the rates differ.
        """
        found = [d for task in tasks if (d := self.details.get((task, optimizer))) is not None]
        rates = list(dict.fromkeys(detail.rate for detail in found))
        origins = list(dict.fromkeys(detail.origin for detail in found))
        if len(rates) > 1:
            parts = [optimizer, "rates by task", *(origins if len(origins) == 1 else [])]
        else:
            joined = " or ".join(filter(None, origins))
            parts = [optimizer, " ".join(filter(None, [*rates, joined]))]
        return ", ".join(filter(None, parts))

    def task(self, name: str) -> str:
        """A task as it is shown."""
        return self.tasks.get(name, name)

    def shown(self, rows: Sequence[Mapping[str, Any]], over: Sequence[str]) -> Summary:
        """Rows of a summary, with ``shown_task`` and ``label``: what tables write.

        Args:
          rows: of ``normalised.rows`` or ``summary.summary``.
          over: the tasks that rows over all tasks are of.
        """
        return [
            {
                **row,
                "shown_task": self.task(row["task"]),
                "label": self.label(
                    row["optimizer"], over if row["task"] == ALL_TASKS else [row["task"]]
                ),
            }
            for row in rows
        ]


class Shown(NamedTuple):
    """Results as they are shown: a table, and how its optimizers appear."""

    table: results.Table
    looks: Looks


def plain(optimizers: Iterable[str]) -> Looks:
    """Looks of optimizers of which nothing is known but their names."""
    return Looks(plot_style.optimizer_styles(optimizers))


def of_table(table: results.Table, looks: Looks | None) -> Looks:
    """The looks given, or those of a table's optimizers by name alone."""
    return plain(table.optimizers()) if looks is None else looks
