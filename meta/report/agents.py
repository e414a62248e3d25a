"""A report's section of trained agents: choosing optimizers, training agents, keeping films.

Folders keep optimizers and not agents, so an agent is trained for the page, once: its film is
kept in a cache, by what it depends on.
"""

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax

import learned_opt
from learned_opt.files.serialization import TrainedOptimizer
from meta import results
from meta.engine.agent_training import train
from meta.engine.tasks import Task, make_task
from meta.evaluation import contestants, legends
from meta.report import names, page, sources
from meta.report.films import episodes
from meta.report.sources import Folder, task_blocks, with_variants
from meta.results.looks import Detail, Looks
from meta.runs import atomic, progress

_VERSION = 3  # of films: a newer one makes old ones anew


class Shown(NamedTuple):
    """An agent to be shown.

    Attributes:
      folder: label of the folder that the optimizer is of.
      task, block: as ``tasks.make_task`` takes them.
      name: of the optimizer.
      file: of theta, or None for a handcrafted optimizer.
      sha256: that the file, or the theta in it, must have; empty: any.
      options: of a handcrafted optimizer: its family under ``optimizer``, and hyperparameters.
      detail: what is said beside its name.
    """

    folder: str
    task: str
    block: dict[str, Any]
    name: str
    file: Path | None
    sha256: str
    options: dict[str, Any]
    detail: Detail = Detail()

    def load(self) -> TrainedOptimizer:
        """The optimizer.

        Raises:
          ValueError, OSError: its file is not there, not readable, or another one by now.
        """
        if self.file is None:
            options = dict(self.options)
            name = options.pop("optimizer")
            return TrainedOptimizer(learned_opt.make(name, **options), {}, {"name": name})
        is_file = self.sha256 == _digest(self.content())
        try:
            trained = learned_opt.load(self.file)
            is_theta = self.sha256 in ("", contestants.theta_sha256(trained.theta))
        except ValueError as error:
            if is_file or not self.sha256:
                raise
            raise ValueError(f"{self.file} is not the file any more that was evaluated") from error
        if not (is_file or is_theta):
            raise ValueError(f"{self.file} is not the file any more that was evaluated")
        return trained

    def content(self) -> bytes:
        """The bytes of its file.

        Raises:
          ValueError: it is not there; says what to do.
        """
        assert self.file is not None
        if not self.file.is_file():
            raise ValueError(
                f"there is no {self.file}: the folder {self.folder} keeps no copy of it; the "
                "command that made the folder, given where the file is, adds one"
            )
        return self.file.read_bytes()


class Film(NamedTuple):
    """A drawn episode.

    Attributes:
      gif: the file.
      episode_return: undiscounted.
      ended: whether the episode ended within the film.
      env_steps: of the agent's training.
      drawing: what has to be known of the drawing; empty where it speaks for itself.
    """

    gif: bytes
    episode_return: float
    ended: bool
    env_steps: int
    drawing: str = ""


class Section(NamedTuple):
    """The section as HTML, and what of it is missing though it was asked for, a sentence each."""

    body: str
    missing: list[str]


def section(
    folders: list[Folder], cache: Path, *, timesteps: int, per_task: int, seed: int
) -> Section:
    """Films of agents, for each folder and task.

    Args:
      folders: whose optimizers train the agents.
      cache: a folder for films; made if missing.
      timesteps: environment steps of training, at most those of the folder's own runs.
      per_task: how many optimizers of a folder on each task.
      seed: of the agents.

    Raises:
      progress.Stopped: stopped by a signal; films that are done are kept.
    """
    called = names.unify(folders)
    chosen = [
        shown._replace(name=called.of(folder.label, shown.name))
        for folder in with_variants(folders)
        for shown in choose(folder, per_task)
    ]
    if not chosen:
        return Section(
            page.paragraph("No folder holds an optimizer to train an agent with.", "note"), []
        )
    body = page.paragraph(
        "Folders keep optimizers and not agents, so each agent here was trained for this page, "
        "from one seed, over the horizon that its caption tells. Of "
        f"{episodes.WATCHED} episodes side by side, that of median return is shown, up to "
        f"{episodes.MAX_STEPS} steps; actions are drawn from the policy, as in training. "
        "Brax's robots are drawn as sticks, seen from the side: Brax's own viewer would load its "
        "scripts from the network."
    )
    stop = progress.StopRequest()
    figures: dict[str, list[str]] = {}
    missing = []
    with stop.listening(), progress.Progress("agents", len(chosen), stop) as bar:
        for shown in chosen:
            try:
                figure = _figure(shown, _cached(shown, cache, timesteps, seed, bar))
            except (ValueError, OSError, KeyError, TypeError, RuntimeError) as error:
                missing.append(f"{shown.name} on {shown.task} is not shown: {error}")
                figure = page.missing(missing[-1])
            figures.setdefault(shown.folder, []).append(figure)
            bar.step()
    body += "".join(page.heading(label) + page.row(all_) for label, all_ in figures.items())
    return Section(body, missing)


def choose(folder: Folder, per_task: int) -> list[Shown]:
    """The optimizers of a folder that agents are shown of: learned ones first, then the best."""
    blocks = {k: v for k, v in task_blocks(folder).items() if _has_agents(v)}
    if folder.is_training:
        path = folder.path / "optimizer.npz"
        name = str(folder.config.get("optimizer", {}).get("name", "optimizer"))
        return [
            Shown(folder.label, task, block, name, path, "", {})
            for task, block in blocks.items()
            if path.is_file()
        ]
    chosen: list[Shown] = []
    for task, block in blocks.items():
        cells = [cell for cell in folder.manifest if cell["task"] == task]
        found = [shown for cell in cells if (shown := _of_cell(folder, cell, block)) is not None]
        found.sort(key=lambda shown: (shown.file is None, -_mean_return(folder, shown)))
        chosen += found[:per_task]
    return chosen


def _has_agents(block: dict[str, Any]) -> bool:
    """Whether a task has an environment to act in, and is no dataset."""
    named = {"env", "agent"} <= {*block} and isinstance(block["agent"], dict)
    return named and block["agent"].get("name") != "supervised"


def _of_cell(folder: Folder, cell: dict[str, Any], block: dict[str, Any]) -> Shown | None:
    """What a cell of an evaluation's manifest stands for; None for controls."""
    identity = cell["identity"].get("optimizer")
    if results.is_untrained(cell["optimizer"]) or not isinstance(identity, dict):
        return None
    if "dormancy" in identity:  # a control, too: the optimizer without that input
        return None
    common = (folder.label, cell["task"], block, cell["optimizer"])
    if "theta_sha256" in identity:
        if folder.kind == "study":  # its variants are shown by themselves
            return None
        return Shown(*common, sources.file_of(folder, cell), str(identity["theta_sha256"]), {})
    if "optimizer" not in identity:
        return None
    return Shown(*common, None, "", identity, legends.detail(cell))


def _mean_return(folder: Folder, shown: Shown) -> float:
    if folder.table is None:
        return -math.inf
    try:
        _, known = results.known_curves(folder.table, shown.task, shown.name)
    except ValueError:
        return -math.inf
    mean = float(known[:, -1].mean()) if len(known) else -math.inf
    return mean if math.isfinite(mean) else -math.inf


def _figure(shown: Shown, film: Film) -> str:
    cut = "" if film.ended else ", cut off"
    looks = Looks({}, {(shown.task, shown.name): shown.detail})
    label = looks.label(shown.name, [shown.task])
    caption = (
        f"{shown.task}, trained with {label} for {film.env_steps:,} environment steps: an "
        f"episode of return {film.episode_return:.4g}{cut}. {film.drawing}"
    )
    return page.figure(film.gif, caption.strip(), pixels=True)


def _cached(shown: Shown, cache: Path, timesteps: int, seed: int, bar: progress.Progress) -> Film:
    """The film from the cache, or a new one, which is then kept."""
    theta = _digest(shown.content()) if shown.file else shown.options
    what = [_VERSION, shown.block, shown.task, theta, timesteps, seed, jax.__version__]
    name = _digest(json.dumps(what, sort_keys=True, default=str).encode())[:24]
    path = cache / f"agent-{name}.json"
    film = _read(path)
    if film is None:
        film = make(shown, timesteps, seed, bar)
        fields = {**film._asdict(), "gif": base64.b64encode(film.gif).decode("ascii")}
        with atomic.replacing(path) as temporary:
            temporary.write_text(json.dumps(fields))
    return film


def _read(path: Path) -> Film | None:
    """A kept film; None if there is none, or what is there is damaged."""
    try:
        fields = json.loads(path.read_text())
        gif = base64.b64decode(fields["gif"], validate=True)
        returned, steps = float(fields["episode_return"]), int(fields["env_steps"])
        film = Film(gif, returned, fields["ended"], steps, str(fields["drawing"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return film if gif[:4] == b"GIF8" else None


def make(shown: Shown, timesteps: int, seed: int, bar: progress.Progress) -> Film:
    """Trains an agent, watches it and draws.

    Raises:
      ValueError: the environment cannot be drawn, or the optimizer or task does not fit.
    """
    task = _short_task(shown, timesteps)
    agent = task.actor_critic
    trained = shown.load().for_run(task.inner_updates)
    train_key, watch_key = jax.random.split(jax.random.key(seed))
    state = train(trained.optimizer, trained.theta, task, train_key, bar)
    footage = episodes.watch(agent, state, watch_key)
    gif = episodes.draw(agent.env, footage)
    drawing = episodes.what_is_drawn(agent.env)
    return Film(gif, float(footage.returns[-1]), footage.ended, task.env_steps, drawing)


def _short_task(shown: Shown, timesteps: int) -> Task:
    """The task with a horizon of at most ``timesteps``, and at least one iteration."""
    block = {**shown.block, "normalizer": 1.0}
    agent = make_task(shown.task, block).agent
    total = max(min(timesteps, int(block["total_timesteps"])), agent.steps_per_iteration)
    return make_task(shown.task, {**block, "total_timesteps": total})


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
