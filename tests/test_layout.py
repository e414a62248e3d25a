"""The structure of the code: who may import whom, how long things get, what is banned.

All of it is read from the source with ``ast``; nothing is imported.
"""

import ast
import configparser
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("agents", "configs", "launchers", "learned_opt", "lopt_rl", "meta", "third_party")

# For each unit, what it may import of this project, itself apart: the architecture. A unit's
# files are those whose longest matching prefix it is, so agents/environments/x.py belongs to
# agents.environments. Units stand in the order of their floors, the ground first.
_OPTIMIZER_GROUND = (
    "learned_opt.base",
    "learned_opt.flat",
    "learned_opt.names",
    "learned_opt.random_normal",
    "learned_opt.settings",
)
_TASKS = ("agents", "learned_opt")  # what the packages of meta are about
_META_GROUND = ("meta.engine", "meta.results", "meta.runs")
MAY_IMPORT = {
    "third_party": (),
    "agents.environments": ("learned_opt.settings",),
    "learned_opt.kernels": _OPTIMIZER_GROUND,
    "learned_opt.families": (*_OPTIMIZER_GROUND, "learned_opt.kernels", "learned_opt.modules"),
    "learned_opt.files": ("learned_opt", "third_party"),
    "learned_opt": ("third_party",),
    "agents": ("learned_opt.base", "learned_opt.names", "learned_opt.settings"),
    "meta.runs": ("learned_opt.files.atomic",),
    "meta.results": ("agents.task_presets", "meta.runs", "third_party"),
    "meta.engine": (*_TASKS, "meta.runs"),
    "meta.evaluation": (*_TASKS, *_META_GROUND, "third_party"),
    "meta.training": (*_TASKS, *_META_GROUND, "meta.evaluation"),
    "meta.analysis": (*_TASKS, *_META_GROUND, "meta.evaluation"),
    "meta.export": (*_TASKS, "meta.engine", "meta.evaluation", "meta.runs"),
    "meta.benchmarks": (*_TASKS, "meta.engine", "meta.training"),
    "meta.report": (
        *_TASKS,
        *_META_GROUND,
        "meta.evaluation",
        "meta.training.outer_loop",
        "third_party",
    ),
    "meta": ("agents", "learned_opt", "third_party"),
    "configs": (  # the papers' settings, and the defaults of what a run consists of
        "agents.task_presets",
        "learned_opt.handcrafted",
        "meta.runs.logs",
        "meta.training.experiment",
        "meta.training.outer_loop",
        "third_party",
    ),
    "launchers": ("learned_opt.settings", "meta"),
    "lopt_rl": ("launchers",),  # the command; the names that it gives the others import nothing
}

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_MODULES = 12  # in a folder, __init__.py apart; configs/ and launchers/ are lists

PICKLERS = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
UNPICKLERS = ("load", "loads", "open", "Unpickler", "read_pickle")


def python_files() -> list[Path]:
    return sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def unit_of(module: str) -> str:
    return max((unit for unit in MAY_IMPORT if is_within(module, unit)), key=len)


def called_name(call: ast.Call) -> str:
    """The last part of what is called: ``load`` for ``np.load(...)``."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def base_of_relative_import(node: ast.ImportFrom, package: str) -> str:
    parts = package.split(".")
    base = parts[: len(parts) - (node.level - 1)]
    return ".".join(base + ([node.module] if node.module else []))


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Yields (line, full dotted name), imports by literal name included.

    ``from a import b`` gives ``a.b``, whether b is a module or not.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = base_of_relative_import(node, package) if node.level else node.module
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and called_name(node) in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value)


def forbidden_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    package = module if is_package else module.rpartition(".")[0]
    allowed = (unit_of(module), *MAY_IMPORT[unit_of(module)])
    return [
        f"line {line}: {unit_of(module)} may not import {name}"
        for line, name in imports(ast.parse(source), package)
        if name.split(".")[0] in (*PACKAGES, "tests")
        and not any(is_within(name, prefix) for prefix in allowed)
    ]


def too_long(source: str) -> list[str]:
    lines = len(source.splitlines())
    found = [f"{lines} lines, more than {MAX_MODULE_LINES}"] if lines > MAX_MODULE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                found.append(f"line {node.lineno}: {node.name} has {lines} lines")
    return found


def import_graph(sources: dict[str, str], packages: set[str]) -> dict[str, set[str]]:
    """What each module imports of the others, imports within functions and for types included.

    Args:
      sources: text by module name.
      packages: those of them that are an ``__init__.py``.
    """
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        package = module if module in packages else module.rpartition(".")[0]
        names = (name for _, name in imports(ast.parse(source), package))
        graph[module] = {known for name in names if (known := _known(name, sources))} - {module}
    return graph


def _known(name: str, sources: dict[str, str]) -> str:
    """The module that a dotted name lies in, or an empty string."""
    while name and name not in sources:
        name = name.rpartition(".")[0]
    return name


def circles(graph: dict[str, set[str]]) -> list[str]:
    """One line for each circle of imports that a walk from any module runs into."""
    found, finished, way = [], set(), []

    def visit(module: str) -> None:
        if module in way:
            found.append(" -> ".join([*way[way.index(module) :], module]))
            return
        if module in finished:
            return
        way.append(module)
        for imported in sorted(graph[module]):
            visit(imported)
        way.pop()
        finished.add(module)

    for module in sorted(graph):
        visit(module)
    return found


def unsafe_calls(source: str) -> list[str]:
    """Whatever would run code that comes out of a file or a string."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, owner = called_name(node), getattr(node.func, "value", None)
        if owner is None and name in ("eval", "exec"):
            found.append(f"line {node.lineno}: {name}(...)")
        if name == "read_pickle" or (getattr(owner, "id", "") in PICKLERS and name in UNPICKLERS):
            found.append(f"line {node.lineno}: unpickles")
        for keyword in node.keywords:
            value = getattr(keyword.value, "value", None)
            if keyword.arg == "allow_pickle" and value is not False:
                found.append(f"line {node.lineno}: allow_pickle is not False")
    for line, name in imports(tree, package=""):
        module, _, member = name.rpartition(".")
        if module in PICKLERS and member in UNPICKLERS:
            found.append(f"line {line}: imports {name}")
    return found


def in_every_file(check) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {fault}"
        for path in python_files()
        for fault in check(path.read_text(encoding="utf-8"), path)
    ]


def test_each_package_imports_only_what_it_may_know():
    faults = in_every_file(
        lambda source, path: forbidden_imports(
            source, module_name(path), is_package=path.name == "__init__.py"
        )
    )
    assert not faults, "\n".join(faults)


def test_modules_and_functions_stay_short():
    faults = in_every_file(lambda source, _: too_long(source))
    assert not faults, "\n".join(faults)


def test_no_module_imports_itself_by_way_of_others():
    sources = {module_name(path): path.read_text(encoding="utf-8") for path in python_files()}
    packages = {module_name(path) for path in python_files() if path.name == "__init__.py"}
    found = circles(import_graph(sources, packages))
    assert not found, "\n".join(found)


def test_folders_stay_small_enough_to_be_seen_at_once():
    folders: dict[Path, int] = {}
    for path in python_files():
        if path.name != "__init__.py" and path.relative_to(ROOT).parts[0] != "configs":
            folders[path.parent] = folders.get(path.parent, 0) + 1
    large = {str(folder.relative_to(ROOT)): n for folder, n in folders.items() if n > MAX_MODULES}
    assert not large, large


def test_nothing_is_unpickled_or_evaluated():
    faults = in_every_file(lambda source, _: unsafe_calls(source))
    assert not faults, "\n".join(faults)


def test_setup_cfg_lists_every_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(config["options"]["packages"].split())
    top_level = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    in_folders = {".".join(path.parent.relative_to(ROOT).parts) for path in python_files()}
    missing = (top_level | in_folders) - listed
    assert not missing, f"name in setup.cfg, under packages: {', '.join(sorted(missing))}"


def test_no_launcher_hides_a_standard_module():
    # `python launchers/x.py` puts launchers/ first on the path.
    names = {path.stem for path in (ROOT / "launchers").glob("*.py")}
    assert not names & sys.stdlib_module_names


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("third_party.weights", "from learned_opt.base import LearnedOptimizer"),
        ("agents.environments.maze", "from .. import losses"),
        ("agents.environments.maze", "import agents.losses"),
        ("agents.ppo", "import learned_opt"),
        ("agents.ppo", "from learned_opt import registry"),
        ("agents.ppo", "def f():\n    from meta.engine.tasks import Task"),
        ("learned_opt.base", "from agents import losses"),
        ("learned_opt.base", "import importlib\nimportlib.import_module('configs.demo')"),
        ("meta.report.writer", "from launchers.train import main"),
        ("meta.report.writer", "from meta.training import loop"),
        ("meta.results.table", "from meta.evaluation import runner"),
        ("learned_opt.families.star", "from learned_opt.files import presets"),
        ("launchers.train", "from learned_opt import load"),
        ("launchers.train", "import configs.demo"),
        ("launchers.train", "from lopt_rl import meta"),
        ("configs.demo", "from meta.engine.tasks import Task"),
        ("meta.report.writer", "from tests.helpers import tiny"),
    ],
)
def test_a_forbidden_import_is_found(module, source):
    assert len(forbidden_imports(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("agents.ppo", "from learned_opt.base import require_context"),
        ("agents.ppo", "from learned_opt import base"),
        ("agents.ppo", "from .environments import registry"),
        ("agents.environments.maze", "from agents.environments.base import Environment"),
        ("learned_opt.files.x", "from third_party.open_rl import weights"),
        ("meta.report.writer", "import agents, learned_opt, third_party"),
        ("launchers.train", "from absl import app\nfrom meta.training import loop"),
        ("configs.demo", "from configs.blocks import ppo"),
        ("configs.blocks", "from agents import task_presets"),
        ("meta.report.writer", "import metadata, agents_of_others"),
    ],
)
def test_an_allowed_import_passes(module, source):
    assert forbidden_imports(source, module) == []


def test_a_relative_import_counts_from_the_package_that_it_stands_in():
    # In a package's own __init__.py one dot is that package, in its modules as well.
    assert not forbidden_imports("from . import losses", "agents.environments", is_package=True)
    assert not forbidden_imports("from . import losses", "agents.environments.maze")
    assert forbidden_imports("from .. import losses", "agents.environments", is_package=True)
    assert forbidden_imports("from ..losses import gae", "agents.environments.maze")


@pytest.mark.parametrize(
    "source",
    [
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "pickle.load(file)",
        "cloudpickle.loads(data)",
        "pickle.Unpickler(file)",
        "from pickle import loads",
        "pd.read_pickle(path)",
        "eval(text)",
        "exec(text)",
    ],
)
def test_an_unsafe_call_is_found(source):
    assert unsafe_calls(source)


@pytest.mark.parametrize(
    "source",
    [
        "np.load(path, allow_pickle=False)",
        "np.load(path)",
        "jax.eval_shape(f, x)",
        "model.eval()",
        "learned_opt.load(path)",
        "json.loads(text)",
    ],
)
def test_a_safe_call_passes(source):
    assert unsafe_calls(source) == []


def test_a_long_module_and_a_long_function_are_found():
    body = "    x = 0\n" * MAX_FUNCTION_LINES
    assert too_long("def f():\n" + body) == [f"line 1: f has {MAX_FUNCTION_LINES + 1} lines"]
    assert too_long("x = 0\n" * (MAX_MODULE_LINES + 1)) == [
        f"{MAX_MODULE_LINES + 1} lines, more than 500"
    ]
    assert too_long("x = 0\n" * MAX_MODULE_LINES) == []


def test_a_circle_of_imports_is_found_also_where_a_function_hides_it():
    sources = {
        "a": "from b import c",
        "a.x": "",
        "b": "",
        "b.c": "def f():\n    import d.e",
        "d.e": "import a.x\nfrom a import f",
    }
    assert circles(import_graph(sources, packages={"a", "b"})) == ["a -> b.c -> d.e -> a"]
    sources["d.e"] = "import a.x"
    assert circles(import_graph(sources, packages={"a", "b"})) == []
