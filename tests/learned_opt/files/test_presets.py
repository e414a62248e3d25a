"""Preset files come back as they were written, and bad ones are explained."""

import json

import pytest

import learned_opt
from learned_opt import handcrafted
from learned_opt.files import presets

OPTIONS = {"learning_rate": 0.002, "anneal": True}


def test_a_preset_comes_back(tmp_path):
    path = tmp_path / "adam.json"
    by_task = {"breakout": {"learning_rate": 0.01}}
    presets.write_preset(
        path, "adam", OPTIONS, task_options=by_task, provenance={"seeds": 4, "by": "grid"}
    )
    preset = presets.read_preset(path)
    assert preset == presets.Preset("adam", OPTIONS, by_task, {"seeds": 4, "by": "grid"})
    assert preset.options_for("breakout") == {"learning_rate": 0.01, "anneal": True}
    assert preset.options_for("freeway") == preset.options_for() == OPTIONS
    trained = learned_opt.load(path)
    assert trained.theta == {} and trained.metadata["options"] == OPTIONS
    assert trained.metadata["provenance"]["seeds"] == 4
    assert [file.name for file in tmp_path.iterdir()] == ["adam.json"]


def test_hyperparameters_are_complete_and_presets_resolved():
    values = handcrafted.hyperparameters("rmsprop", preset="breakout", eps=1e-5)
    assert values == {"learning_rate": 0.002, "decay": 0.99, "eps": 1e-5, "anneal": False}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "something"}, "no preset file"),
        ({"format_version": 2}, "format version 2, this is version 1"),
        ({"optimizer": "addam"}, "no handcrafted optimizer 'addam'"),
        ({"optimizer": None}, "must be a name"),
        ({"options": {"learning_rat": 1}}, "no hyperparameter 'learning_rat'"),
        ({"options": {"learning_rate": "high"}}, "must be a number"),
        ({"options": 3}, "options must be an object"),
        ({"task_options": {"ant": 3}}, "'ant' must be an object"),
        ({"extra": 1}, "unknown fields extra"),
    ],
)
def test_bad_presets_are_explained_with_the_files_name(tmp_path, change, message):
    path = tmp_path / "bad.json"
    presets.write_preset(path, "adam", OPTIONS)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message) as raised:
        presets.read_preset(path)
    assert "bad.json" in str(raised.value)


def test_what_is_no_json_or_no_preset_is_not_written_or_read(tmp_path):
    path = tmp_path / "bad.json"
    with pytest.raises(ValueError, match="learning_rate must be above 0"):
        presets.write_preset(path, "adam", {"learning_rate": -1.0})
    with pytest.raises(ValueError, match="plain JSON"):
        presets.write_preset(path, "adam", {}, provenance={"score": float("nan")})
    assert not path.exists()
    path.write_text('{"format": ')
    with pytest.raises(ValueError, match=r"bad\.json.*not JSON"):
        learned_opt.load(path)
