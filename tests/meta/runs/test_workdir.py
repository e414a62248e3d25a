"""A folder belongs to one config."""

import json

import pytest

from meta.runs.workdir import Workdir, WorkdirError


def test_nothing_is_made_before_the_folder_is_claimed(tmp_path):
    folder = Workdir(tmp_path / "a" / "run")
    assert not (tmp_path / "a").exists()
    assert folder.claim({"seed": 0}) is False
    assert folder.claim({"seed": 0}) is True


def test_another_config_is_refused_with_the_difference(tmp_path):
    Workdir(tmp_path / "run").claim({"seed": 0})
    with pytest.raises(WorkdirError, match=r'(?s)-  "seed": 0.*\+  "seed": 1'):
        Workdir(tmp_path / "run").claim({"seed": 1})


@pytest.mark.parametrize("below", ["run", "run/below"])
def test_a_file_is_no_folder(tmp_path, below):
    (tmp_path / "run").write_text("text")
    with pytest.raises(WorkdirError, match="is not a folder"):
        Workdir(tmp_path / below)


@pytest.mark.parametrize("nest", [lambda config: config, lambda config: {"base": config}])
def test_a_folder_from_before_configs_had_a_mode_goes_on(tmp_path, nest):
    Workdir(tmp_path).claim(nest({"seed": 0}))
    now = nest({"seed": 0, "mode": "smoke"})
    assert Workdir(tmp_path).claim(now) is True
    assert json.loads((tmp_path / "config.json").read_text()) == now
    with pytest.raises(WorkdirError, match="another config"):
        Workdir(tmp_path).claim(nest({"seed": 1, "mode": "smoke"}))


def test_a_folder_may_be_both_older_and_shorter(tmp_path):
    Workdir(tmp_path).claim({"outer": {"steps": 3}})
    longer = {"outer": {"steps": 5}, "mode": "smoke"}
    with pytest.raises(WorkdirError, match="another config"):
        Workdir(tmp_path).claim(longer)
    assert Workdir(tmp_path).claim(longer, ("outer", "steps")) is True
    with pytest.raises(WorkdirError, match="may be larger"):
        Workdir(tmp_path).claim({"outer": {"steps": 2}, "mode": "smoke"}, ("outer", "steps"))
