"""Optimizers under the names that results show: what ``--optimizer`` stands for, and more.

A contestant is a handcrafted optimizer, a preset file, or theta: in a file, or just trained.
Resolving a name reads files but builds nothing, so that a call which has nothing left to
compute is quick. ``load`` builds.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import learned_opt
from agents import task_presets
from learned_opt import handcrafted, registry, standalone
from learned_opt.base import MetaParams
from learned_opt.files import presets
from learned_opt.files.serialization import TrainedOptimizer
from learned_opt.names import did_you_mean
from meta import results

# Where a handcrafted optimizer's learning rate can be from.
ORIGINS = {
    "tuned": "tuned",
    "paper's": "the OPEN paper (tables 4 to 6)",
    "default": "default, tuned by nobody",
    "given": "as asked for",
}


class Contestant(NamedTuple):
    """One optimizer that is to be evaluated.

    Attributes:
      name: under which results show it.
      source: where it is from, for readers: a name or a path.
      preset: its family and hyperparameters; None for theta.
      tuned_on: the task whose shipped preset was asked for (``adam:breakout``), or ``""``.
      sha256: of the file of theta, or of theta itself; ``""`` for a preset.
      trained: theta that no file needs to be read for.
      neutral_dormancy: whether it is told of no dormant neurons, as in other people's code.
      untrained: whether it is the control, whose theta was never trained.
      initial_theta: of a control; None: each seed draws its own.
      tasks: the only ones that it is for; empty: all.
    """

    name: str
    source: str
    preset: presets.Preset | None = None
    tuned_on: str = ""
    sha256: str = ""
    trained: TrainedOptimizer | None = None
    neutral_dormancy: bool = False
    untrained: bool = False
    initial_theta: MetaParams | None = None
    tasks: tuple[str, ...] = ()

    @property
    def is_learned(self) -> bool:
        return self.preset is None

    @property
    def file_sha256(self) -> str:
        """The digest of its file's content; empty where that is not what results depend on."""
        return self.sha256 if self.trained is None else ""

    def controls(self) -> list["Contestant"]:
        """Its untrained control; none of a handcrafted optimizer, and of what is a control."""
        if not self.is_learned or self.untrained or self.neutral_dormancy:
            return []
        return [self._replace(name=results.untrained(self.name), untrained=True)]

    def hyperparameters(self, task: str) -> dict[str, Any]:
        """All hyperparameters of a handcrafted optimizer on a task; learned ones have none."""
        if self.preset is None:
            return {}
        return handcrafted.hyperparameters(self.preset.optimizer, **self._options(task))

    def identity(self, task: str) -> dict[str, Any]:
        """What the results on a task depend on: two of the same identity are the same."""
        if self.preset is not None:
            return {"optimizer": self.preset.optimizer, **self.hyperparameters(task)}
        identity: dict[str, Any] = {"theta_sha256": self.sha256, "untrained": self.untrained}
        if self.neutral_dormancy:
            identity["dormancy"] = "neutral"
        if self.untrained and self.initial_theta is not None:
            identity["initial_theta_sha256"] = theta_sha256(self.initial_theta)
        return identity

    def origin(self, task: str) -> str:
        """Where a handcrafted optimizer's learning rate on a task is from, a key of ``ORIGINS``.

        Empty for learned optimizers.
        """
        if self.preset is None:
            return ""
        provenance, options = self.preset.provenance, self._options(task)
        if task in provenance.get("origins", {}):
            return str(provenance["origins"][task])
        if "tuned_on" in provenance and "learning_rate" in options:
            return "tuned"
        return _origin(options)

    def about(self, task: str) -> dict[str, Any]:
        """What readers of its results on a task may ask besides: plain JSON.

        ``family``: what ``learned_opt`` calls it. Of a handcrafted one ``origin``; of theta its
        ``theta_sha256`` and whether it comes of a ``smoke`` run.
        """
        if self.preset is not None:
            return {"family": self.preset.optimizer, "origin": self.origin(task)}
        trained = self.trained or learned_opt.load(self.source)
        config = trained.metadata.get("config", {})
        return {
            "family": trained.metadata["name"],
            "theta_sha256": theta_sha256(trained.theta),
            "smoke": isinstance(config, dict) and config.get("mode") == "smoke",
        }

    def load(self, task: str) -> TrainedOptimizer:
        """The optimizer, built.

        Raises:
          ValueError: the file is unreadable, or holds something else than an optimizer.
        """
        if self.preset is None:
            trained = self.trained or learned_opt.load(self.source)
            if not self.neutral_dormancy:
                return trained
            return trained._replace(optimizer=standalone.with_neutral_dormancy(trained.optimizer))
        name, options = self.preset.optimizer, self._options(task)
        made = learned_opt.make(name, **options)
        return TrainedOptimizer(made, {}, {"name": name, "options": options})

    def _options(self, task: str) -> dict[str, Any]:
        if self.preset is None:
            return {}
        given = self.preset.options_for(task)
        if self.tuned_on:
            return {"preset": self.tuned_on, **given}
        shipped = task_presets.optimizer_preset(task)
        if not given and shipped in handcrafted.PRESETS.get(self.preset.optimizer, {}):
            return {"preset": shipped}
        return given


def trained_here(name: str, path: str, initial_theta: MetaParams | None = None) -> Contestant:
    """The result of a meta-training.

    Results are then of theta, and not of all that its file tells besides.

    Args:
      name: under which results show it.
      path: its file.
      initial_theta: where training began, if that was chosen: its control has it, too.
    """
    trained = learned_opt.load(path)
    digest = theta_sha256(trained.theta)
    return Contestant(name, path, sha256=digest, trained=trained, initial_theta=initial_theta)


def baseline(name: str, options: dict[str, dict[str, Any]], *, tuned: bool = False) -> Contestant:
    """A handcrafted optimizer with these options (by task), and on these tasks alone.

    What is not named is the family's default, also where there are tuned values.

    Args:
      tuned: whether the options are the outcome of a search on each task.

    Raises:
      ValueError: unknown optimizer or hyperparameter.
    """
    whole = {task: handcrafted.hyperparameters(name, **some) for task, some in options.items()}
    origins = {task: "tuned" if tuned else _origin(some) for task, some in options.items()}
    preset = presets.Preset(name, {}, whole, {"origins": origins})
    return Contestant(name, name, preset, tasks=tuple(options))


def _origin(options: dict[str, Any]) -> str:
    """Where ``handcrafted.hyperparameters`` has the learning rate from, of these options."""
    if "learning_rate" in options:
        return "given"
    return "paper's" if "preset" in options else "default"


def theta_sha256(theta: MetaParams) -> str:
    """A digest of theta's values, names and shapes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(theta):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def resolve(texts: Sequence[str], neutral_dormancy: bool = False) -> list[Contestant]:
    """The contestants that ``--optimizer`` flags name, in order; repeated ones once.

    With ``neutral_dormancy`` each learned one is followed by itself without that input.

    Each is a handcrafted optimizer as ``handcrafted.spelled`` reads it (``adam``: with the
    paper's values for each task that has some; ``adam:breakout``: with those of one task
    everywhere; ``adam:learning_rate=3e-4``), a preset file, a file that ``learned_opt.load``
    takes, or the folder of a run; ``LABEL=`` before it gives the name under which results show
    it.

    Raises:
      ValueError: none given, one does not exist, or two go by the same name.
    """
    if not texts:
        raise ValueError("no optimizers: give at least one --optimizer, e.g. --optimizer=adam")
    named: dict[str, Contestant] = {}
    for text in texts:
        one = _resolve(text)
        other = named.setdefault(one.name, one)
        if other != one:
            raise ValueError(
                f"--optimizer={other.source} and --optimizer={one.source} would both be called "
                f"{one.name!r}: name one of them, --optimizer=LABEL={one.source}"
            )
    found = list(named.values())
    if not neutral_dormancy:
        return found
    return [each for one in found for each in (one, *_without_dormancy(one))]


def _without_dormancy(one: Contestant) -> list[Contestant]:
    if not one.is_learned:
        return []
    return [one._replace(name=f"{one.name} (dormancy 1)", neutral_dormancy=True)]


def _resolve(text: str) -> Contestant:
    label, source = _label(text)
    named = handcrafted.spelled(source)
    if named is not None:
        family, given = named
        tuned_on = given.pop("preset", "")
        return Contestant(label or source, source, presets.Preset(family, given, {}, {}), tuned_on)
    path = _file(source)
    if not path.is_file():
        raise ValueError(_not_found(source))
    content = path.read_bytes()
    name = label or (path.resolve().parent.name if Path(source).is_dir() else _name_of(path))
    if content.lstrip()[:1] == b"{":
        return Contestant(name, str(path), presets.read_preset(path))
    return Contestant(name, str(path), sha256=hashlib.sha256(content).hexdigest())


def _label(text: str) -> tuple[str, str]:
    """``LABEL=SOURCE`` as both; the equals signs of ``adam:learning_rate=3e-4`` are its own."""
    label, equals, source = text.partition("=")
    if not equals or Path(text).exists() or handcrafted.spelled(text) is not None:
        return "", text
    if not label:
        raise ValueError(f"--optimizer={text}: the label before '=' is empty")
    if results.is_untrained(label):
        raise ValueError(f"--optimizer={text}: labels must not end in '(untrained)'")
    return label, source


def _file(source: str) -> Path:
    """The file that is meant: of the folder of a run or of a search, the one that it made."""
    path = Path(source)
    if path.is_dir():
        made = [path / name for name in ("optimizer.npz", "preset.json") if (path / name).is_file()]
        if not made:
            raise ValueError(
                f"--optimizer={source} is a folder without an optimizer.npz (of a meta-training "
                "that has ended) or a preset.json (of a search): give a file"
            )
        return made[0]
    return path


def _name_of(path: Path) -> str:
    """The file's name; the folder's where all files are called ``optimizer.npz``."""
    return path.resolve().parent.name if path.name == "optimizer.npz" else path.stem


def _not_found(source: str) -> str:
    family = source.partition(":")[0]
    if family in registry.names():
        return (
            f"--optimizer={source}: {family!r} is a family of learned optimizers, of which only "
            "a trained member can be evaluated; give its file"
        )
    known = handcrafted.known_names()
    folder = Path(source).parent
    files = [str(path) for path in folder.iterdir()] if folder.is_dir() else []
    near = did_you_mean(source, [*known, *files]) or did_you_mean(family, known)
    return (
        f"no optimizer {source!r}{near}: it is no file, and the handcrafted optimizers are "
        f"{', '.join(known)}"
    )
