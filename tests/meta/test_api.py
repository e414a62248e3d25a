"""The functions of ``meta``; their docstrings' examples run in tests/test_docstrings.py."""

from pathlib import Path

import pytest

import meta
from meta import api, config_files

ROOT = Path(__file__).parents[2]

OUTSIDE = """
def get_config(mode="full"):
    return {"mode": mode}
"""


def test_importing_the_face_alone_imports_nothing_that_is_slow(run_python):
    slow = run_python("import sys, meta; print({'jax', 'pandas', 'matplotlib'} & {*sys.modules})")
    assert slow.strip() == "set()"


def test_a_config_file_is_found_wherever_it_lies_and_takes_a_mode(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text(OUTSIDE)
    assert config_files.read_config(str(file)) == {"mode": "full"}
    assert config_files.read_config(str(file), "smoke") == {"mode": "smoke"}
    monkeypatch.chdir(tmp_path)  # the toolkit's own are known from everywhere
    assert "catch" in config_files.read_config("configs/demo.py", "smoke").tasks
    with pytest.raises(FileNotFoundError, match="no config at"):
        config_files.read_config("configs/dema.py")


def test_a_config_of_the_toolkit_has_a_name_which_no_file_or_folder_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "saved").touch()
    assert config_files.config_file("demo") == ROOT / "configs" / "demo.py"
    assert config_files.config_file("saved") == ROOT / "configs" / "saved.py"
    assert "catch" in config_files.read_config("demo", "smoke").tasks
    with pytest.raises(FileNotFoundError, match=r"at 'dmo'.*did you mean 'demo'"):
        config_files.config_file("dmo")
    (tmp_path / "configs").mkdir()  # a file that is there comes first
    (tmp_path / "configs" / "demo.py").write_text(OUTSIDE)
    assert config_files.read_config("configs/demo.py") == {"mode": "full"}


def test_a_file_without_get_config_is_no_config(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n")
    with pytest.raises(ValueError, match="get_config"):
        config_files.read_config(str(file))


@pytest.mark.parametrize(
    "text, says",
    [
        ("def get_config(mode):\n    return undefined\n", r"mine\.py:2: NameError"),
        ("def get_config(:\n", r"mine\.py:1: SyntaxError"),
        ("def get_config(mode):\n    raise ValueError('unknown mode')\n", "^unknown mode"),
        ("def get_config():\n    return {}\n", "takes 0 positional arguments but 1 was given"),
    ],
)
def test_errors_in_a_config_name_the_place(tmp_path, text, says):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(ValueError, match=says):
        config_files.read_config(str(file), "smoke")


@pytest.mark.parametrize(
    "path, says",
    [
        ("outer.popsize", "'outer.popsize' .did you mean 'population_size'"),
        ("outter.sigma", "'outter' .did you mean 'outer'"),
        ("seed.low", "seed is no block"),
        ("optimizer.options.hidden_size", "optimizer.options does not list 'hidden_size'.*whole"),
    ],
)
def test_overrides_of_what_does_not_exist_are_explained(path, says):
    with pytest.raises(ValueError, match=says):
        config_files.check_field(config_files.read_config("configs/demo.py").to_dict(), path)


def test_single_fields_of_a_config_may_differ():
    config = config_files.read_config("configs/demo.py", "smoke")
    fields = {"outer": {"population_size": 8}, "optimizer": {"options": {"zero_mean": False}}}
    changed = config_files.plain(config, {**fields, "seed": 3})
    assert (changed["seed"], changed["outer"]["population_size"]) == (3, 8)
    assert changed["outer"]["num_generations"] == config.outer.num_generations
    assert changed["optimizer"]["options"]["zero_mean"] is False
    assert config.seed == 0  # the one given is as it was


def test_a_mistyped_field_is_refused():
    with pytest.raises(ValueError, match="did you mean 'population_size'"):
        meta.train("configs/demo.py:smoke", outer={"population_sise": 8})


def test_a_mistyped_setting_is_refused():
    with pytest.raises(ValueError, match="did you mean 'num_seeds'"):
        meta.evaluate("adam", "catch", num_seed=2)
    with pytest.raises(ValueError, match="total_timesteps must be a whole number"):
        meta.evaluate("adam", "catch", total_timesteps=0.5)
    with pytest.raises(ValueError, match="updates or gradients, got 'size'"):
        meta.analyze("adam", "catch", what="size", num_seeds=1)


def test_whole_numbers_may_be_written_short():
    request = api._request("adam", ["catch", "breakout"], "unused", {"total_timesteps": 2e5})
    assert request.tasks == ("catch", "breakout") and request.optimizers == ("adam",)
    assert isinstance(request.total_timesteps, int) and request.total_timesteps == 200_000
