"""In a checkout ``lopt_rl.meta`` is another name of ``meta``; the command knows all launchers."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import agents.environments
import lopt_rl
import meta.api
from lopt_rl import __main__ as command

ROOT = Path(__file__).parents[2]


def test_a_module_has_two_names_and_is_loaded_once():
    import lopt_rl.agents.environments.registry
    from lopt_rl import meta as second
    from lopt_rl.meta import api

    assert (second, api) == (meta, meta.api)
    assert lopt_rl.agents.environments.registry is agents.environments.registry
    assert meta.__spec__.name == meta.__name__ == "meta"


def test_a_name_that_is_not_there_is_not_found():
    for name in ("lopt_rl.meta.nothing", "lopt_rl.nothing", "lopt_rl.third_party"):
        with pytest.raises(ModuleNotFoundError, match=f"No module named '{name}'"):
            importlib.import_module(name)


def test_another_project_in_the_way_is_named(tmp_path, run_python):
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").touch()
    text = f"""
import sys
import lopt_rl
sys.path.insert(0, {str(tmp_path)!r})
try:
    import lopt_rl.agents
except ImportError as error:
    print(error)
"""
    assert "hides that of the checkout" in run_python(text)


def test_the_examples_are_where_it_says():
    assert (lopt_rl.EXAMPLES / "cartpole_open.npz").is_file()


def test_every_launcher_is_a_command():
    others = {"__init__", "command_line", "flag_groups", "values"}
    files = {path.stem for path in (ROOT / "launchers").glob("*.py")}
    assert set(command.commands()) == files - others


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["trian"], 2, "no command 'trian': did you mean 'train'?"),
        (["--help"], 0, "  evaluate   Compares optimizers on tasks"),
        (["train", "--help"], 0, "lopt-rl train:\n  --also_as:"),
    ],
)
def test_the_command_does_what_its_first_word_says(words, code, message, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lopt_rl", *words],
        capture_output=True, text=True, cwd=ROOT, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == code and message in done.stdout + done.stderr
