"""What a user can name, and what a file or folder holds, as text of at most 100 columns."""

import ast
import dataclasses
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax

import learned_opt
from agents import AgentConfig, SupervisedConfig, environments
from agents.environments import gymnax_suite
from agents.environments.registry import SHORT_NAMES
from learned_opt import handcrafted, optax_families
from learned_opt.files import presets
from learned_opt.names import did_you_mean
from meta.engine import tasks
from meta.evaluation import origin
from meta.report import sources
from meta.training import outer_loop, strategies

_CONFIGS = Path(__file__).parents[1] / "configs"
_LABEL = 16  # columns of what stands before the colon of an entry


def describe(topics: Iterable[str]) -> str:
    """Describes topics, optimizers and run folders.

    Args:
      topics: names in ``TOPICS``, optimizer files, handcrafted optimizers (``adam:breakout``) or
        folders of runs; none: all of ``TOPICS``.

    Returns:
      One paragraph each.

    Raises:
      ValueError: one is none of these, or a file that holds no optimizer.
    """
    return "\n\n".join(map(_topic, list(topics) or TOPICS))


def _topic(name: str) -> str:
    if name in TOPICS:
        return TOPICS[name]()
    if Path(name).is_dir():
        return _folder(name)
    if Path(name).is_file() or learned_opt.is_handcrafted(name.partition(":")[0]):
        return _optimizer(name)
    raise ValueError(
        f"there is no {name!r}{did_you_mean(name, list(TOPICS))}: give an optimizer file, the "
        f"folder of a run, or one of {', '.join(TOPICS)}"
    )


def _paragraph(title: str, entries: Iterable[tuple[str, str]]) -> str:
    """A title, and below it entries with their labels on the left."""
    indent = " " * (_LABEL + 2)
    lines = [
        textwrap.fill(
            text,
            100,
            initial_indent=f"  {label}:".ljust(_LABEL + 1) + " ",
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for label, text in entries
        if text
    ]
    return "\n".join([title, *lines])


def _environments() -> str:
    suites: dict[str, list[str]] = {}
    short = set(SHORT_NAMES.values())
    for name in environments.names():
        if name not in short:
            suites.setdefault(SHORT_NAMES.get(name, name).partition("/")[0], []).append(name)
    return _paragraph(
        "Environments: --task=NAME, config.tasks.TASK.env",
        [
            *((suite, ", ".join(names)) for suite, names in suites.items()),
            *(("needs", f"gymnax/{name}: {what}") for name, what in gymnax_suite.NEEDS.items()),
        ],
    )


def _agents() -> str:
    rows = []
    for settings in (AgentConfig, SupervisedConfig):
        names = [name for name, kind in tasks.AGENTS.items() if kind.config is settings]
        fields = [field.name for field in dataclasses.fields(settings)]
        rows.append((", ".join(names), f"settings (--agent_option): {', '.join(fields)}"))
    return _paragraph("Agents: --agent=NAME, config.tasks.TASK.agent.name", rows)


def _optimizers() -> str:
    names = [name for name in learned_opt.names() if not learned_opt.is_handcrafted(name)]
    rows = [("learned", f"{', '.join(names)} (config.optimizer.name; --optimizer=FILE)")]
    for name, family in handcrafted.FAMILIES.items():
        tuned = ", ".join(learned_opt.PRESETS.get(name, {})) or "no task"
        rows.append((name, f"{_values(family.defaults)}; tuned for {tuned}"))
    of_optax = [name for name in optax_families.names() if name not in handcrafted.FAMILIES]
    rows.append(("of optax", f"{', '.join(of_optax)}; with optax's defaults"))
    title = "Optimizers: --optimizer=NAME, NAME:TASK, NAME:learning_rate=1e-3,anneal=true or FILE"
    return _paragraph(title, rows)


def _strategies() -> str:
    return _paragraph(
        "Evolution strategies of evosax: config.outer.strategy",
        [
            ("names", ", ".join(strategies.names())),
            *((f"not {name}", reason) for name, reason in strategies.left_out().items()),
        ],
    )


def _outer_loops() -> str:
    rows = [
        (name, f"{_first_line(loop.settings)} Its length is config.outer.{loop.length}.")
        for name in outer_loop.names()
        for loop in [outer_loop.get(name)]
    ]
    return _paragraph("Outer loops: config.outer.name", rows)


def _configs() -> str:
    lines = ["Configs: --config=NAME, or NAME:smoke for a trial in minutes"]
    for path in sorted(_CONFIGS.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(getattr(node, "name", "") == "get_config" for node in tree.body):
            first = (ast.get_docstring(tree) or "").splitlines()[0]
            lines += [f"  {path.stem}", textwrap.indent(textwrap.fill(first, 96), "    ")]
    return "\n".join(lines)


TOPICS: dict[str, Callable[[], str]] = {
    "environments": _environments,
    "agents": _agents,
    "optimizers": _optimizers,
    "strategies": _strategies,
    "outer_loops": _outer_loops,
    "configs": _configs,
}


def _optimizer(name: str) -> str:
    """What an optimizer is, what it was trained on, and how it is called."""
    trained = learned_opt.load(name)
    about = trained.metadata
    leaves = jax.tree.leaves(trained.theta)
    size = sum(leaf.size for leaf in leaves)
    rows = [
        ("optimizer", f"{about['name']} ({_values(about.get('options', {})) or 'no options'})"),
        ("theta", f"{size:,} numbers in {len(leaves)} arrays" if leaves else "none: handcrafted"),
        ("source", str(about.get("source", "unknown"))),
        *_training(about),
        *((key.replace("_", " "), str(value)) for key, value in _provenance(name).items()),
        ("in Python", f"learned_opt.load({name!r}).as_optax(total_updates=...)"),
        ("to compare", f"python launchers/evaluate.py --optimizer={name} --task=... --workdir=..."),
    ]
    return _paragraph(name, rows)


def _training(about: dict[str, Any]) -> list[tuple[str, str]]:
    """How an optimizer of this toolkit was trained; nothing of others."""
    training = about.get("training")
    if not isinstance(training, dict):
        return []
    rows = [
        (
            "trained",
            f"by {training['outer_loop']} for {training['meta_steps']} meta-steps (theta is that "
            f"of number {training['theta_of_meta_step']}): {training['env_steps']:,} environment "
            f"steps; toolkit {training['toolkit']}, jax {training['jax']}",
        )
    ]
    rows += [
        ("on", f"{one.task}: {one}, {one.total_timesteps:,} steps") for one in origin.origins(about)
    ]
    return rows


def _provenance(name: str) -> dict[str, Any]:
    """Where a preset file says that its values come from."""
    return presets.read_preset(name).provenance if name.endswith(".json") else {}


def _folder(path: str) -> str:
    """What the folder of a run holds."""
    folder = sources.read_all([path])[0]
    rows = [("kind", folder.title)]
    if folder.is_training:
        rows.append(("meta-steps", str(len(folder.metrics))))
    rows.append(("variants", ", ".join(variant.path.name for variant in folder.variants)))
    table = folder.table
    if table is not None:
        rows += [
            ("tasks", ", ".join(table.tasks())),
            ("optimizers", ", ".join(table.optimizers())),
            ("seeds", str(len(set(table.seed.tolist())))),
        ]
    rows += [("note", problem) for problem in folder.problems]
    kept = [Path(path, name) for name in ("optimizer.npz", "preset.json")]
    parts = [_paragraph(path, rows), *(_optimizer(str(file)) for file in kept if file.is_file())]
    return "\n\n".join(parts)


def _first_line(kind: type) -> str:
    """Of the docstring of the module that a class stands in."""
    return (sys.modules[kind.__module__].__doc__ or "").partition("\n")[0]


def _values(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())
