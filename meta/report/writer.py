"""One self-contained HTML page on one or several workdirs of any kind.

The page needs no network, no script and no file beside it. What a folder lacks, or what in it
is damaged, is said where it would stand.
"""

import dataclasses
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from meta.evaluation import reporting
from meta.report import agents, commands, meta_training, others, page, returns, sources, versions
from meta.report.folders import differences, overview
from meta.report.sources import Folder
from meta.runs import atomic


@dataclasses.dataclass(frozen=True)
class Request:
    """What to report on, and how.

    Attributes:
      folders: workdirs.
      out: the HTML file to write.
      normalise_by: the optimizer whose mean final return is 1.
      references: names in ``reporting.REFERENCES``, whose published values are drawn.
      render: show trained agents.
      agent_timesteps: environment steps that an agent to be shown is trained, at least 1.
      agents_per_task: how many optimizers' agents are shown of a folder on each task.
      seed: of these agents, in [0, 2**32).
    """

    folders: tuple[str, ...]
    out: str
    normalise_by: str = reporting.DEFAULT_NORMALISER
    references: tuple[str, ...] = ()
    render: bool = True
    agent_timesteps: int = 200_000
    agents_per_task: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        reporting.check_references(self.references)
        for name in ("agent_timesteps", "agents_per_task"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed must lie in [0, 2**32), got {self.seed}")
        if Path(self.out).is_dir():
            raise ValueError(f"--out={self.out} is a folder: give a file, e.g. report.html")


class Incomplete(UserWarning):
    """Something that was asked for is not on the page."""


class Written(NamedTuple):
    """A report.

    Attributes:
      path: of the page.
      missing: what was asked for and is not on it, a sentence each; the page says so, too.
    """

    path: Path
    missing: list[str]


def write(request: Request) -> Written:
    """Writes the page, whole or not at all.

    Plots and tables in further forms (``outputs.also_as``) are in a folder beside it.

    Returns:
      Its path, and the agents that could not be shown.

    Raises:
      ValueError: bad input, such as a folder that is no workdir; nothing is written then.
      progress.Stopped: stopped by a signal while agents were trained.
    """
    folders = sources.read_all(list(request.folders))
    title = f"Report on {', '.join(folder.label for folder in folders)}"
    missing: list[str] = []
    sections = {}
    with page.keeping(Path(request.out).with_suffix(".files")):
        for name, make in _SECTIONS.items():
            made = make(request, folders)
            sections[name] = made if isinstance(made, str) else made.body
            missing += [] if isinstance(made, str) else made.missing
    content = page.document(title, _introduction(folders), sections)
    with atomic.replacing(request.out) as temporary:
        # A path that is no UTF-8 has halves of characters in it.
        temporary.write_text(content, encoding="utf-8", errors="replace")
    return Written(Path(request.out), missing)


def _introduction(folders: list[Folder]) -> str:
    made = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    count = "one folder" if len(folders) == 1 else f"{len(folders)} folders"
    return page.paragraph(
        f"Learned optimizers in reinforcement learning: {count}, {made}. The page holds all of "
        "its images and needs no network.",
        "note",
    )


def _commands(request: Request, folders: list[Folder]) -> str:
    words = ["launchers/report.py", *request.folders, f"--out={request.out}"]
    words += [f"--normalise_by={request.normalise_by}"]
    words += [f"--reference={name}" for name in request.references]
    names = ("agent_timesteps", "agents_per_task", "seed")
    of_agents = [f"--{name}={getattr(request, name)}" for name in names]
    command = commands.line(words + (of_agents if request.render else ["--norender"]))
    return commands.section(folders) + page.heading("This report") + page.code(command)


def _agents(request: Request, folders: list[Folder]) -> str | agents.Section:
    if not request.render:
        return page.paragraph("Left out by --norender.", "note")
    return agents.section(
        folders,
        Path(request.out).with_suffix(".cache"),
        timesteps=request.agent_timesteps,
        per_task=request.agents_per_task,
        seed=request.seed,
    )


_SECTIONS: dict[str, Callable[[Request, list[Folder]], str | agents.Section]] = {
    "Folders": lambda request, folders: overview(folders),
    "What differs": lambda request, folders: differences(folders),
    "Meta-training": lambda request, folders: meta_training.section(folders),
    "Returns compared": lambda request, folders: returns.section(
        folders, request.normalise_by, request.references
    ),
    "Trained agents": _agents,
    "Also in the folders": lambda request, folders: others.section(folders),
    "Versions": lambda request, folders: versions.section(folders),
    "Commands": _commands,
}
