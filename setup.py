"""Which packages a wheel holds, and under which names; all else is in setup.cfg.

In a checkout, and in an editable install of one, each folder is a package of its own name:
``import meta``. Installed, such names would collide: pip mixes two packages of one name into one
folder, and a project's own ``agents/`` or ``third_party/`` comes before an installed one. So a
wheel has two names at its top:

* ``learned_opt``, with the readers of ``third_party/`` inside, stands alone;
* ``lopt_rl`` holds all else: ``from lopt_rl import meta``, which a checkout knows as well.

The imports in their modules are rewritten to match. What cannot be rewritten ends the build.

With the variable ``LOPT_RL_BUILD=core`` it is another distribution, lopt-rl-core: ``learned_opt``
alone, with the few packages that it needs.
"""

import ast
import configparser
import doctest
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import setuptools
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
ALONE = "learned_opt"
# What the folders of a checkout are called in a wheel; those that are not here keep their names.
INSTALLED = {
    "third_party": f"{ALONE}.third_party",
    **{name: f"lopt_rl.{name}" for name in ("agents", "configs", "examples", "launchers", "meta")},
}
EXAMPLES = ("examples", "examples.extending")  # folders of files, no packages in a checkout
# Of setup.cfg's requirements, those that learned_opt alone has.
CORE_NEEDS = ("absl-py", "flax", "jax", "msgpack", "numpy", "optax")
# Calls that take a module by its name.
BY_NAME = ("import_module", "find_spec")

Change = tuple[int, int, bytes]  # of a module's bytes: from, to, replaced by


class NotRewritable(Exception):
    """An import that has no equivalent in a wheel; the message says where and what to write."""


def installed_name(name: str) -> str:
    """``lopt_rl.meta.runs`` for ``meta.runs``; names of other packages are left as they are."""
    top, dot, rest = name.partition(".")
    return INSTALLED.get(top, top) + dot + rest


def is_ours(name: str | None) -> bool:
    """Whether a dotted name has another name in a wheel."""
    return (name or "").partition(".")[0] in INSTALLED


def rewritten(source: str, where: str = "<text>") -> str:
    """A module's text as a wheel holds it: our packages under their installed names.

    These are changed: import statements wherever they stand, the examples in docstrings, literal
    names in calls of ``import_module`` and ``find_spec``, and in texts the launchers' commands.
    Every line keeps its number.

    Raises:
      NotRewritable: one of our packages is named in another way.
    """
    content = source.encode()
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    changes = list(_changes(ast.parse(source), content, starts, where))
    for start, end, text in sorted(changes, reverse=True):
        content = content[:start] + text + content[end:]
    # No Python outside of texts and comments reads like this.
    return re.sub(r"python launchers/(\w+)\.py", r"lopt-rl \1", content.decode())


def _changes(tree: ast.Module, content: bytes, starts: list[int], where: str) -> Iterator[Change]:
    literals = set()  # strings that name a module where a name is due
    for node in ast.walk(tree):
        place = f"{where}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import) and any(is_ours(alias.name) for alias in node.names):
            yield *_span(node, starts), _import_statement(node, place).encode()
        elif isinstance(node, ast.ImportFrom) and not node.level and is_ours(node.module):
            yield _module_of_from(node, content, starts, place)
        elif isinstance(node, ast.Call) and _called(node) in (*BY_NAME, "__import__"):
            for argument in filter(_begins_with_ours, _arguments(node)):
                if _called(node) == "__import__" or not isinstance(argument, ast.Constant):
                    raise NotRewritable(
                        f"{place}: give {' or '.join(BY_NAME)} the module's whole name as a text"
                    )
                literals.add(argument)
                yield *_span(argument, starts), repr(installed_name(argument.value)).encode()
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _doctests(node, content, starts, place)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node not in literals and _is_module(node.value):
            raise NotRewritable(
                f"{where}:{node.lineno}: the text {node.value!r} is a module's name, which is "
                f"another one in a wheel: import it, or give it to {' or '.join(BY_NAME)}"
            )


def _span(node: Any, starts: list[int]) -> tuple[int, int]:
    """Where a node stands in a module's bytes."""
    first, last = starts[node.lineno - 1], starts[node.end_lineno - 1]
    return first + node.col_offset, last + node.end_col_offset


def _import_statement(node: ast.Import, place: str) -> str:
    """``from lopt_rl import meta`` for ``import meta``: what binds the same name to the module."""
    parts = []
    for alias in node.names:
        parent, _, last = installed_name(alias.name).rpartition(".")
        if not is_ours(alias.name) or alias.asname:
            renamed = f" as {alias.asname}" if alias.asname else ""
            parts.append(f"import {installed_name(alias.name)}{renamed}")
        elif "." not in alias.name:
            parts.append(f"from {parent} import {last}")
        else:
            former, _, last = alias.name.rpartition(".")
            raise NotRewritable(
                f"{place}: `import {alias.name}` is used by a name that a wheel does not have: "
                f"write `from {former} import {last}`"
            )
    return "; ".join(parts)


def _module_of_from(node: ast.ImportFrom, content: bytes, starts: list[int], place: str) -> Change:
    """The module's name in ``from meta.runs import logs``."""
    assert node.module is not None  # no relative import
    start, end = _span(node, starts)
    found = re.match(rb"from[ \t]+" + re.escape(node.module.encode()) + rb"\b", content[start:end])
    if not found:
        raise NotRewritable(
            f"{place}: write `from {node.module} import` without a line's end in it"
        )
    end = start + found.end()
    return end - len(node.module.encode()), end, installed_name(node.module).encode()


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _begins_with_ours(argument: ast.expr) -> bool:
    """Whether a text, or the first piece of one that is put together, begins with such a name."""
    if isinstance(argument, ast.BinOp):
        argument = argument.left
    if isinstance(argument, ast.JoinedStr) and argument.values:
        argument = argument.values[0]
    value = argument.value if isinstance(argument, ast.Constant) else None
    return isinstance(value, str) and is_ours(value)


def _doctests(node: Any, content: bytes, starts: list[int], place: str) -> Iterator[Change]:
    """The examples of a docstring, whose lines are the file's from its first on."""
    if ast.get_docstring(node, clean=False) is None:
        return
    text = node.body[0].value
    for example in doctest.DocTestParser().get_examples(text.value):
        old, new = example.source, rewritten(example.source, place)
        first = text.lineno - 1 + example.lineno
        for number, (before, after) in enumerate(
            zip(old.splitlines(), new.splitlines(), strict=True), first
        ):
            if before != after:
                line = content[starts[number] : starts[number + 1]]
                column = line.find(before.encode())
                if column < 0:
                    raise NotRewritable(f"{place}: the example {before!r} has escapes in it")
                start = starts[number] + column
                yield start, start + len(before.encode()), after.encode()


def _is_module(value: object) -> bool:
    """Whether a text is the dotted name of a module that has another name in a wheel."""
    if not isinstance(value, str) or not re.fullmatch(r"\w+(\.\w+)+", value) or not is_ours(value):
        return False
    path = ROOT.joinpath(*value.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


class BuildPy(build_py):
    """Copies modules into a wheel, rewritten."""

    def run(self) -> None:
        # setuptools packs whatever lies there, an earlier build's packages included.
        for name in (*INSTALLED, ALONE, "lopt_rl"):
            shutil.rmtree(Path(self.build_lib, name), ignore_errors=True)
        super().run()

    def build_module(self, module: str, module_file: str, package: str) -> tuple[str, bool]:
        outfile, copied = super().build_module(module, module_file, package)
        source = Path(module_file).read_text(encoding="utf-8")
        Path(outfile).write_text(rewritten(source, module_file), encoding="utf-8")
        return outfile, copied


def options_of_a_wheel(config: configparser.ConfigParser, core: bool) -> dict[str, Any]:
    """Arguments of ``setuptools.setup``, which count for more than what setup.cfg says."""
    listed = (*config["options"]["packages"].split(), *EXAMPLES)
    packages = [installed_name(name) for name in listed]
    options = {
        "packages": packages,
        "package_dir": {installed: folder for folder, installed in INSTALLED.items()},
        "cmdclass": {"build_py": BuildPy},
    }
    return {**options, **_options_of_core(config, packages)} if core else options


def _options_of_core(config: configparser.ConfigParser, packages: list[str]) -> dict[str, Any]:
    needs = {
        re.split(r"[<>=\[]", line)[0]: line
        for line in config["options"]["install_requires"].splitlines()
        if line and not line.startswith("#")
    }
    extras = config["options.extras_require"]
    return {
        "name": "lopt-rl-core",
        "description": "Learned optimizers as optax transformations: lopt-rl without the training",
        "packages": [name for name in packages if name.partition(".")[0] == ALONE],
        "package_dir": {INSTALLED["third_party"]: "third_party"},
        "install_requires": [needs[name] for name in CORE_NEEDS],
        "extras_require": {
            "star": [needs["dm-haiku"]],
            **{name: extras[name].split() for name in ("gpu", "compiler")},
        },
        "entry_points": {"console_scripts": []},
    }


def is_core() -> bool:
    """Whether lopt-rl-core is asked for, or this is its unpacked sdist."""
    asked = os.environ.get("LOPT_RL_BUILD", "")
    if asked not in ("", "core"):
        raise SystemExit(f"LOPT_RL_BUILD={asked}: it may be core, or not set for all of lopt-rl")
    kept = ROOT / "PKG-INFO"
    return asked == "core" or (
        kept.is_file() and "\nName: lopt-rl-core\n" in kept.read_text(encoding="utf-8")
    )


if __name__ == "__main__":
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    editable = {"editable_wheel", "develop"} & set(sys.argv)
    setuptools.setup(**({} if editable else options_of_a_wheel(config, is_core())))
