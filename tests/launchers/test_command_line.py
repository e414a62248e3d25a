"""What launchers share: their flags, help, and modules of a user's own."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import meta
from launchers import command_line, flag_groups, values
from meta.evaluation import runner
from meta.results import markdown

ROOT = Path(__file__).parents[2]


@pytest.fixture
def own_path(monkeypatch):
    """Python's path and modules, put back afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def test_shared_flags_stand_for_arguments_that_exist():
    known = {field.name for field in dataclasses.fields(runner.Request)}
    known |= set(inspect.signature(meta.evaluate).parameters)
    for flag in flag_groups.shared(*flag_groups.RUNS, "untrained", "reference"):
        assert (flag.argument or flag.name) in known


def test_a_change_is_of_one_launcher_alone():
    (changed,) = flag_groups.shared("num_seeds", num_seeds={"default": 3})
    (original,) = flag_groups.shared("num_seeds")
    assert (changed.default, original.default) == (3, 8)


def test_help_ends_well_and_shows_shared_flags_as_the_launchers_own():
    done = subprocess.run(
        [sys.executable, "launchers/evaluate.py", "--help"],
        capture_output=True, text=True, cwd=ROOT, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "--num_seeds: Seeds per optimizer and task." in done.stdout


@pytest.mark.parametrize("word", ["demo:smoke", "configs/demo.py:smoke"])
def test_a_config_goes_by_its_name_from_anywhere(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "catch" in values._ConfigParser().parse(word).tasks
    with pytest.raises(FileNotFoundError, match="did you mean 'demo'"):
        values._ConfigParser().parse("dmo")


@pytest.mark.usefixtures("own_path")
def test_a_module_of_ones_own_is_imported_by_path_with_its_neighbours(tmp_path):
    (tmp_path / "my_part.py").write_text("VALUE = 3\n")
    (tmp_path / "my_module.py").write_text("from my_part import VALUE\n")
    command_line.import_module(str(tmp_path / "my_module.py"))
    assert sys.modules["my_module"].VALUE == 3
    command_line.import_module("my_module")  # by name, and again


@pytest.mark.usefixtures("own_path")
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("my_broken.py", "1 / 0", "ZeroDivisionError: division by zero"),
        ("json.py", "", "another module 'json'"),
        ("missing.py", None, "no such file"),
        ("missing_package.module", None, "No module named 'missing_package'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(tmp_path, monkeypatch, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"--import={name}.*{message}"):
        command_line.import_module(name)


@pytest.mark.parametrize(
    "words, says",
    [
        (["train", "--config=demo", "--config.outer.popsize=8"], "population_size"),
        *(
            pytest.param(words, says, marks=pytest.mark.slow)
            for words, says in (
                (["train", "--config=demo:smok"], "unknown mode 'smok'"),
                (["train", "--config=demo", "--config.seed=x"], "must be a whole number"),
                (["train", "--config=configs/nothing.py"], "no config at"),
                (["compare", "--config=demo"], "launchers/train.py"),
            )
        ),
    ],
)
def test_failed_starts_say_why_and_leave_nothing(tmp_path, words, says):
    launcher, *flags = words
    command = [sys.executable, f"launchers/{launcher}.py", f"--workdir={tmp_path / 'run'}", *flags]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False
    )
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text, value",
    [("1e4", 10_000), ("False", False), ("(16,16)", (16, 16)), ("16,16", (16, 16)), ("a=b", "a=b"),
     ("[16]", [16]), ("null", None), ('{"a": true}', {"a": True}), ("tanh", "tanh")],
)  # fmt: skip
def test_options_are_literals_or_else_text(text, value):
    assert values.options("agent_option", [f"name={text}"]) == {"name": value}


def test_a_config_may_compute_when_it_is_read_and_sees_the_devices_asked_for(tmp_path):
    config = tmp_path / "computes.py"
    config.write_text(
        "import jax\nimport gymnax\nDEVICES = jax.numpy.ones(3).sum() * len(jax.devices())\n"
        "def get_config():\n    raise ValueError(f'saw {int(DEVICES)}')\n"
    )
    done = subprocess.run(
        [sys.executable, "launchers/train.py", f"--config={config}", "--cpu_devices=5"],
        capture_output=True, text=True, cwd=ROOT, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "saw 15" in done.stderr, done.stderr


def test_a_long_page_is_shown_as_a_screenful_that_says_where_the_rest_is(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("COLUMNS", "80")
    page = markdown.table(("a", "b"), [(str(row), "x") for row in range(102)], "lr")
    (tmp_path / "summary.md").write_text(page + "\n\n- a note\n")
    command_line.show(str(tmp_path))
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 24 and "- a note" in shown
    assert f"all of this page is {tmp_path / 'summary.md'}" in shown
    (tmp_path / "summary.md").write_text("# Short\n")
    command_line.show(str(tmp_path))
    assert "all of this page" not in capsys.readouterr().out
