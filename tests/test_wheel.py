"""What a wheel holds collides with nothing, and works beside packages of the same names.

Wheels are built from an sdist, once, and installed into environments that have the packages of
this one, but not the checkout.
"""

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytest.importorskip("setuptools", "77", reason="the extra `test` brings it: make install")

ROOT = Path(__file__).parents[1]
FOLDERS = ("agents", "configs", "examples", "launchers", "meta", "third_party")
CHECKOUT = (*FOLDERS, "learned_opt", "lopt_rl")
CORE = ("jax", "optax", "flax", "numpy")
SMALL = (
    "--total_timesteps=256", "--num_seeds=2", "--points=1", "--agent_option=num_envs=8",
    "--agent_option=num_steps=16",
)  # fmt: skip

BUILD = """
import sys
from setuptools import build_meta

print(getattr(build_meta, "build_" + sys.argv[1])(sys.argv[2]))
"""

# Run in a project with packages of the same names: all of the toolkit, then the project's own.
IMPORT_ALL = """
import importlib
import pkgutil
import sys

NAMES = ["agents", "configs", "examples", "launchers", "meta", "third_party"]
count = 0
for name in ("learned_opt", "lopt_rl"):
    for found in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        if ".launchers." not in found.name and ".examples." not in found.name:
            importlib.import_module(found.name)
            count += 1
assert count > 100 and not set(NAMES) & set(sys.modules), (count, set(NAMES) & set(sys.modules))
for name in NAMES:
    assert importlib.import_module(name).OWNER == "project"

import learned_opt, lopt_rl

print(learned_opt.load(lopt_rl.EXAMPLES / "cartpole_open.npz").metadata["name"])
"""

ALONE = """
import importlib.util
import jax.numpy as jnp
import learned_opt

for name in ("lopt_rl", "meta", "agents", "haiku", "brax", "gymnax", "pandas", "evosax"):
    assert importlib.util.find_spec(name) is None, name
tx = learned_opt.load("cartpole_open.npz").as_optax(total_updates=10)
params = {"actor": {"bias": jnp.ones(3)}, "critic": {"bias": jnp.ones(3)}}
updates, _ = tx.update(params, tx.init(params), params)
print(float(jnp.abs(updates["actor"]["bias"]).max()) > 0)
for name in set(learned_opt.names()) - {"star", "velo"}:
    learned_opt.make(name)
try:
    learned_opt.make("star")
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.fixture(scope="session")
def setup_py():
    """``setup.py`` as a module."""
    spec = importlib.util.spec_from_file_location("setup_py", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(words, folder, **variables):
    """A command's output; the checkout is not on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, words)],
        capture_output=True, text=True, cwd=folder, env={**environment, **variables}, timeout=280,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def build(folder, **variables):
    """A wheel, by way of an sdist, in a copy of the checkout."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in CHECKOUT:
        shutil.copytree(ROOT / name, folder / "tree" / name, ignore=ignored)
    for file in ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, folder / "tree")
    run([sys.executable, "-c", BUILD, "sdist", folder], folder / "tree", **variables)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    # What a build by an earlier version would have left there.
    (unpacked / "build" / "lib" / "agents").mkdir(parents=True)
    (unpacked / "build" / "lib" / "agents" / "__init__.py").touch()
    run([sys.executable, "-c", BUILD, "wheel", folder], unpacked)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def core_wheel(tmp_path_factory):
    return build(tmp_path_factory.mktemp("core"), LOPT_RL_BUILD="core")


def environment(folder, packages, wheel):
    """Makes an environment with a wheel and the packages in some folders; gives its programs."""
    venv.create(folder, symlinks=True)
    (own,) = folder.glob("lib/python*/site-packages")
    own.joinpath("others.pth").write_text("\n".join(map(str, packages)))
    python = folder / "bin" / "python"
    install = ("install", "--quiet", "--no-deps", "--no-index", wheel)
    run([sys.executable, "-m", "pip", "--python", python, *install], folder)
    return own, folder / "bin"


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """The programs of an environment with the wheel, beside a package that is agents, too."""
    folder = tmp_path_factory.mktemp("environment")
    own, programs = environment(folder, [p for p in sys.path if "-packages" in p], wheel)
    theirs = own / "agents"
    theirs.mkdir()  # not there before: the wheel brought none
    (theirs / "__init__.py").write_text("OWNER = 'popular'\n")
    return programs


@pytest.fixture
def project(tmp_path):
    """A folder whose owner has packages of our folders' names."""
    folder = tmp_path / "project"
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("OWNER = 'project'\n")
    return folder


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import meta", "from lopt_rl import meta"),
        ("import meta as m, os, configs", None),
        ("import meta.api as api", "import lopt_rl.meta.api as api"),
        ("import third_party", "from learned_opt import third_party"),
        ("from agents.environments import base", "from lopt_rl.agents.environments import base"),
        ("from third_party.velo import x", "from learned_opt.third_party.velo import x"),
        ("if x: from  meta import (\n    api)", "if x: from  lopt_rl.meta import (\n    api)"),
        ("é = 'é'; import meta # é", "é = 'é'; from lopt_rl import meta # é"),
        ("import_module('meta.api')", "import_module('lopt_rl.meta.api')"),
        ("find_spec(name='configs')", "find_spec(name='lopt_rl.configs')"),
        ('"""Example:\n  >>> import meta\n"""', '"""Example:\n  >>> from lopt_rl import meta\n"""'),
        ("x = 'python launchers/tune.py --seed=1'", "x = 'lopt-rl tune --seed=1'"),
        ("from . import meta\nfrom .configs import x\nimport metadata", "same"),
        ("meta = {'meta': 'agents'}; meta.agents; x = 'the agents.losses'", "same"),
        ("import learned_opt\nimport_module(name)", "same"),
    ],
)  # fmt: skip
def test_our_names_are_rewritten_and_no_others(setup_py, before, after):
    expected = {
        None: "import lopt_rl.meta as m; import os; from lopt_rl import configs",
        "same": before,
    }
    assert setup_py.rewritten(before) == expected.get(after, after)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\nimport meta.api", "file.py:2.*write `from meta import api`"),
        ("from \\\n  meta import api", "without a line's end"),
        ("import_module(f'meta.{name}')", "whole name"),
        ("import_module('meta.' + name)", "whole name"),
        ("__import__('meta')", "whole name"),
        ("patch('meta.api.train', 'meta.api')", "'meta.api' is a module's name"),
        ("'''>>> import meta.api\n'''", "write `from meta import api`"),
    ],
)
def test_what_cannot_be_rewritten_ends_the_build(setup_py, source, message):
    with pytest.raises(setup_py.NotRewritable, match=message):
        setup_py.rewritten(source, "file.py")


def test_every_module_can_be_rewritten(setup_py):
    for path in (path for name in CHECKOUT for path in (ROOT / name).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        new = setup_py.rewritten(source, str(path))
        assert len(new.splitlines()) == len(source.splitlines())
        for node in ast.walk(ast.parse(new)):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            found = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            ours = [name for name in found if name.partition(".")[0] in FOLDERS]
            assert not ours or getattr(node, "level", 0), f"{path}:{node.lineno}: {ours}"


def test_a_wheel_has_two_names_at_its_top_and_all_that_it_needs(wheel):
    files = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in files}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"learned_opt", "lopt_rl"}
    for folder, parent in [("third_party", "learned_opt"), *((n, "lopt_rl") for n in FOLDERS[:5])]:
        for path in (ROOT / folder).rglob("*.py"):
            assert f"{parent}/{path.relative_to(ROOT).as_posix()}" in files
    for path in (ROOT / "learned_opt" / "kernels").glob("*.[ch]*"):
        assert f"learned_opt/kernels/{path.name}" in files
    assert "lopt_rl/examples/cartpole_open.npz" in files


@pytest.mark.slow
def test_the_core_is_learned_opt_alone(core_wheel):
    archive = zipfile.ZipFile(core_wheel)
    tops = {name.partition("/")[0] for name in archive.namelist()}
    assert tops == {"learned_opt", core_wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}
    (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    needs = {re.split(r"[<>=]", line.split()[1])[0] for line in lines if "Requires-Dist" in line}
    assert "Name: lopt-rl-core" in lines and set(CORE) <= needs
    assert needs - set(CORE) <= {"absl-py", "msgpack", "dm-haiku", "ziglang", "jax[cuda12]"}


@pytest.mark.slow
def test_all_of_it_is_imported_beside_packages_of_the_same_names(installed, project):
    (project / "main.py").write_text(IMPORT_ALL)
    assert run([installed / "python", "main.py"], project).splitlines()[-1] == "open"


@pytest.mark.slow
def test_the_command_runs_in_a_project_with_folders_of_the_same_names(installed, project):
    said = run([installed / "lopt-rl", "train", "--help"], project)
    assert "lopt-rl train --config=" in said and "launchers/" not in said
    examples = ROOT / "examples" / "extending"
    words = [f"--import={examples / name}.py" for name in ("my_environment", "my_baseline")]
    said = run(
        [installed / "lopt-rl", "evaluate", *words, "--optimizer=adabelief", *SMALL,
         "--task=my/corridor", "--env_option=length=3", "--workdir=run"],
        project,
    )  # fmt: skip
    assert "| my/corridor | adabelief" in said
    run([installed / "lopt-rl", "report", "run", "--out=page.html", "--norender"], project)
    assert "lopt-rl evaluate" in (project / "page.html").read_text()


@pytest.mark.slow
def test_a_run_begun_by_the_installed_command_goes_on_in_the_checkout(installed, project):
    short = ("--config.outer.validate_every=0", f"--workdir={project / 'run'}")
    words = ["train", "--config=demo:smoke", "--config.outer.num_generations=1", *short]
    run([installed / "lopt-rl", *words], project)
    first = (project / "run" / "metrics.csv").read_text().splitlines()
    words = ["launchers/train.py", "--config=configs/demo.py:smoke", *short]
    run([sys.executable, *words, "--config.outer.num_generations=2"], ROOT, PYTHONPATH=str(ROOT))
    both = (project / "run" / "metrics.csv").read_text().splitlines()
    assert len(first) == 2 and both[:2] == first and len(both) == 3


def light_packages(folder):
    """A folder of links to what jax, optax, flax and numpy bring, and to nothing else."""
    folder.mkdir()
    left, seen = list(CORE), set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        distribution = importlib.metadata.distribution(name)
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.append(requirement.name)
        for file in distribution.files or ():
            link = folder / file.parts[0]
            if file.parts[0] != ".." and not link.exists():
                link.symlink_to(distribution.locate_file(file.parts[0]))
    return folder


@pytest.mark.slow
def test_learned_opt_alone_needs_little(core_wheel, project, tmp_path):
    packages = [light_packages(tmp_path / "light")]
    _, programs = environment(tmp_path / "environment", packages, core_wheel)
    shutil.copy(ROOT / "examples" / "cartpole_open.npz", project)
    (project / "main.py").write_text(ALONE)
    # The project's own folders are not in the way of what is not there.
    for name in ("agents", "meta"):
        shutil.rmtree(project / name)
    said = run([programs / "python", "main.py"], project).splitlines()
    assert said[-2] == "True" and "pip install dm-haiku" in said[-1]
