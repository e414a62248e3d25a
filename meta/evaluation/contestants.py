"""What ``--optimizer`` names: handcrafted optimizers, preset files, and files of theta.

Resolving a name reads files but builds nothing, so that a call which has nothing left to
compute is quick. ``load`` builds.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import learned_opt
from agents import task_presets
from learned_opt import handcrafted, registry, standalone
from learned_opt.files import presets
from learned_opt.files.serialization import TrainedOptimizer
from learned_opt.names import did_you_mean
from meta import results


class Entry(NamedTuple):
    """One optimizer that is to be evaluated.

    Attributes:
      name: under which results show it.
      source: what was asked for: a name or a path.
      preset: its family and hyperparameters; None for a file of theta.
      tuned_on: the task whose shipped preset was asked for (``adam:breakout``), or ``""``.
      sha256: of the file of theta, or ``""``.
      neutral_dormancy: whether it is told of no dormant neurons, as in other people's code.
    """

    name: str
    source: str
    preset: presets.Preset | None
    tuned_on: str
    sha256: str
    neutral_dormancy: bool = False

    @property
    def is_learned(self) -> bool:
        return self.preset is None

    @property
    def has_control(self) -> bool:
        """Whether an untrained control belongs to it."""
        return self.is_learned and not self.neutral_dormancy

    def hyperparameters(self, task: str) -> dict[str, Any]:
        """All hyperparameters of a handcrafted optimizer on a task; learned ones have none."""
        if self.preset is None:
            return {}
        return handcrafted.hyperparameters(self.preset.optimizer, **self._options(task))

    def identity(self, task: str, untrained: bool) -> dict[str, Any]:
        """What the results on a task depend on: two of the same identity are the same."""
        if self.preset is None:
            identity = {"theta_sha256": self.sha256, "untrained": untrained}
            return {**identity, "dormancy": "neutral"} if self.neutral_dormancy else identity
        return {"optimizer": self.preset.optimizer, **self.hyperparameters(task)}

    def lacks_preset(self, task: str) -> bool:
        """Whether the family's defaults are used because the task has no tuned values."""
        return self.preset is not None and not self._options(task)

    def load(self, task: str) -> TrainedOptimizer:
        """The optimizer, built.

        Raises:
          ValueError: the file is unreadable, or holds something else than an optimizer.
        """
        if self.preset is None:
            trained = learned_opt.load(self.source)
            if not self.neutral_dormancy:
                return trained
            return trained._replace(optimizer=standalone.with_neutral_dormancy(trained.optimizer))
        made = learned_opt.make(self.preset.optimizer, **self._options(task))
        return TrainedOptimizer(made, {}, {"name": self.preset.optimizer})

    def _options(self, task: str) -> dict[str, Any]:
        if self.preset is None:
            return {}
        given = self.preset.options_for(task)
        if self.tuned_on:
            return {"preset": self.tuned_on}
        shipped = task_presets.optimizer_preset(task)
        if not given and shipped in handcrafted.PRESETS.get(self.preset.optimizer, {}):
            return {"preset": shipped}
        return given


def resolve(texts: Sequence[str], neutral_dormancy: bool = False) -> list[Entry]:
    """The entries of ``--optimizer`` flags, in order; repeated ones once.

    With ``neutral_dormancy`` each learned one is followed by itself without that input.

    Each is ``adam`` (with the paper's values for each task that has some), ``adam:breakout``
    (with those of one task everywhere), a preset file, or a file that ``learned_opt.load``
    takes; ``LABEL=`` before it gives the name under which results show it.

    Raises:
      ValueError: none given, one does not exist, or two go by the same name.
    """
    if not texts:
        raise ValueError("no optimizers: give at least one --optimizer, e.g. --optimizer=adam")
    entries: dict[str, Entry] = {}
    for text in texts:
        entry = _resolve(text)
        other = entries.setdefault(entry.name, entry)
        if other != entry:
            raise ValueError(
                f"--optimizer={other.source} and --optimizer={entry.source} would both be called "
                f"{entry.name!r}: name one of them, --optimizer=LABEL={entry.source}"
            )
    found = list(entries.values())
    if not neutral_dormancy:
        return found
    return [one for entry in found for one in (entry, *_without_dormancy(entry))]


def _without_dormancy(entry: Entry) -> list[Entry]:
    if not entry.is_learned:
        return []
    return [entry._replace(name=f"{entry.name} (dormancy 1)", neutral_dormancy=True)]


def _resolve(text: str) -> Entry:
    label, equals, source = text.partition("=")
    if not equals or Path(text).is_file():
        label, source = "", text
    elif not label:
        raise ValueError(f"--optimizer={text}: the label before '=' is empty")
    if results.is_untrained(label):
        raise ValueError(f"--optimizer={text}: labels must not end in '(untrained)'")
    family, _, tuned_on = source.partition(":")
    if registry.is_handcrafted(family):
        if tuned_on:
            handcrafted.preset(family, tuned_on)  # raises where there is none
        return Entry(label or source, source, presets.Preset(family, {}, {}, {}), tuned_on, "")
    path = Path(source)
    if not path.is_file():
        raise ValueError(_not_found(source, family))
    content = path.read_bytes()
    name = label or _name_of(path)
    if content.lstrip()[:1] == b"{":
        return Entry(name, source, presets.read_preset(path), "", "")
    return Entry(name, source, None, "", hashlib.sha256(content).hexdigest())


def _name_of(path: Path) -> str:
    """The file's name; the folder's where all files are called ``optimizer.npz``."""
    return path.resolve().parent.name if path.name == "optimizer.npz" else path.stem


def _not_found(source: str, family: str) -> str:
    known = [name for name in registry.names() if registry.is_handcrafted(name)]
    if family in registry.names():
        return (
            f"--optimizer={source}: {family!r} is a family of learned optimizers, of which only "
            "a trained member can be evaluated; give its file"
        )
    folder = Path(source).parent
    files = [str(path) for path in folder.iterdir()] if folder.is_dir() else []
    near = did_you_mean(source, [*known, *files]) or did_you_mean(family, known)
    return (
        f"no optimizer {source!r}{near}: it is no file, and the handcrafted optimizers are "
        f"{', '.join(known)}"
    )
