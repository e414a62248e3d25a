"""What can be named is listed, and files and folders say what they are."""

from pathlib import Path

import pytest

import learned_opt
from learned_opt.files import presets
from meta import listing

ROOT = Path(__file__).parents[2]


def test_every_name_is_listed_in_lines_of_100_columns():
    text = listing.describe([])
    for name in ("spaceinvaders", "gymnax/Pong-misc", "brax/fast", "supervised", "Open_ES"):
        assert name in text
    for name in (*learned_opt.names(), "meta_gradient", "ant_optim4rl"):
        assert name in text
    assert "optim4rl_blocks" not in text  # parts of configs, and no configs
    assert max(map(len, text.splitlines())) <= 100


def test_environments_that_need_files_say_so():
    assert "gymnax/MNISTBandit-bsuite: the four files of MNIST" in " ".join(
        listing.describe(["environments"]).split()
    )


def test_strategies_that_are_left_out_say_why():
    text = listing.describe(["strategies"])
    assert "not RandomSearch: it draws" in text and "not LES:" in text


def test_what_is_registered_is_listed(monkeypatch):
    monkeypatch.setattr(learned_opt.registry, "_FACTORIES", {"mine": lambda: None})
    assert "mine" in listing.describe(["optimizers"])


def test_an_optimizer_file_says_what_it_was_trained_on():
    text = listing.describe([str(ROOT / "examples" / "cartpole_open.npz")])
    assert "open (direction_multiplier=0.01" in text
    assert "120 meta-steps" in text and "640 updates of 16 x 16" in text
    assert "as_optax" in text and "launchers/evaluate.py" in text


def test_a_preset_file_says_where_its_values_come_from(tmp_path):
    file = tmp_path / "preset.json"
    presets.write_preset(file, "adam", {"learning_rate": 0.5}, provenance={"tuned_on": ["catch"]})
    text = listing.describe([str(file)])
    assert "adam (learning_rate=0.5)" in text and "['catch']" in text


def test_a_folder_says_what_run_it_is_of_and_what_is_missing(tmp_path):
    (tmp_path / "config.json").write_text('{"kind": "tuning"}')
    text = listing.describe([str(tmp_path)])
    assert "tuning" in text and "manifest.json is missing" in text


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="did you mean 'agents'"):
        listing.describe(["agent"])
