"""What docs/ says of the code is true: the figure, the way through the files, the tutorial."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

# An environment that notes through which files the outer loop came to its step, and stops there.
WATCHED = """
import json
import traceback
from pathlib import Path

from agents import environments
from agents.environments import gymnax_suite


class Watched:
    def __init__(self):
        self.env = gymnax_suite.make("Catch-bsuite")
        self.spec, self.reset = self.env.spec, self.env.reset

    def step(self, key, state, action):
        frames = traceback.extract_stack()[:-1]
        if any(f.name == "step" and "/meta/training/" in f.filename for f in frames):
            Path("way.json").write_text(json.dumps([frame.filename for frame in frames]))
            raise ValueError("seen")
        return self.env.step(key, state, action)


environments.register_suite("watched", lambda name: Watched(), lambda: ["catch"])
"""

# In a process of its own: a kernel's sockets would outlive a test.
RUN_NOTEBOOK = """
import sys
import nbclient
import nbformat

notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, resources={"metadata": {"path": sys.argv[2]}}).execute()
print(notebook.cells[-2].outputs)
"""


def told(heading):
    """The files that architecture.md names under a heading, in order."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. `([\w/]+\.py)`", section, re.MULTILINE)


def test_the_figure_is_of_the_table_that_the_layout_test_checks():
    spec = importlib.util.spec_from_file_location("figure", DOCS / "make_architecture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    drawn = (DOCS / "architecture.svg").read_text(encoding="utf-8")
    assert module.figure(module.may_import()) == drawn, "run python docs/make_architecture.py"


@pytest.mark.parametrize(
    ("heading", "config"),
    [
        ("The way by evolution", "configs/demo.py"),
        pytest.param(
            "The way by meta-gradients", "configs/catch_optim4rl.py", marks=pytest.mark.slow
        ),
    ],
)
def test_the_way_to_the_environment_goes_through_the_files_told(tmp_path, heading, config):
    (tmp_path / "watched.py").write_text(WATCHED)
    command = [
        sys.executable, str(ROOT / "launchers" / "train.py"), "--import=watched.py",
        f"--config={ROOT / config}:smoke", "--config.tasks.catch.env=watched/catch",
        "--workdir=run",
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=280, check=False
    )
    assert done.returncode == 2 and "seen" in done.stderr, done.stderr[-2000:]
    frames = [Path(name) for name in json.loads((tmp_path / "way.json").read_text())]
    own = [
        name.relative_to(ROOT).as_posix()
        for name in frames
        if name.is_relative_to(ROOT) and "site-packages" not in name.parts
    ]
    assert told(heading) == list(dict.fromkeys(own))


def test_files_that_the_docs_name_exist():
    for page in DOCS.glob("*.md"):
        for name in re.findall(r"`((?:\w+/)+\w+\.(?:py|npz))`", page.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file() or name.startswith("runs/"), f"{page.name}: {name}"


@pytest.mark.slow
@pytest.mark.parametrize("generations", ["1", "24"])
def test_the_tutorial_runs_from_top_to_bottom(tmp_path, generations):
    pytest.importorskip("nbclient", reason="the extra `test` brings it: make install")
    cache = str(ROOT / ".cache" / "jax")
    command = [sys.executable, "-c", RUN_NOTEBOOK, str(DOCS / "tutorial.ipynb"), str(tmp_path)]
    variables = {"LOPT_TUTORIAL_GENERATIONS": generations, "JAX_COMPILATION_CACHE_DIR": cache}
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **variables}, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "share of right arms" in done.stdout


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("material", reason="needs the extra `docs`")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "def transform" in re.sub("<[^>]*>", "", (tmp_path / "extending.html").read_text())
    assert len(list(tmp_path.glob("tutorial-*.png"))) == 2
