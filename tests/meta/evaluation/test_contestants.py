"""What ``--optimizer`` takes."""

import pickle

import numpy as np
import pytest

import learned_opt
from learned_opt.files import presets
from meta.evaluation import contestants


def resolve(text):
    (one,) = contestants.resolve([text])
    return one


@pytest.mark.parametrize(
    "text, name, expected",
    [
        ("adam:learning_rate=3e-4,anneal=true", None, {"learning_rate": 3e-4, "anneal": True}),
        ("slow=adam:learning_rate=1e-5", "slow", {"learning_rate": 1e-5}),
        ("adam:breakout,b1=0.8", None, {"learning_rate": 0.01, "b1": 0.8, "anneal": True}),
        ("sgd:momentum=0.9", None, {"momentum": 0.9}),
        ("adamw:weight_decay=0.1", None, {"learning_rate": 3e-4, "weight_decay": 0.1}),
    ],
)
def test_hyperparameters_stand_behind_a_colon(text, name, expected):
    one = resolve(text)
    assert one.name == (name or text)
    assert expected.items() <= one.hyperparameters("catch").items()


def test_values_that_were_given_are_not_replaced_by_tuned_ones():
    assert resolve("adam:learning_rate=0.5").hyperparameters("breakout")["b2"] == 0.999
    assert resolve("adam:learning_rate=0.5").origin("catch") == "given"
    assert resolve("adam").origin("catch") == "default"


def test_a_folder_stands_for_what_was_made_in_it(tmp_path):
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "optimizer.npz"
    learned_opt.save(path, "linear", {"w": np.ones(2, np.float32)})
    one = resolve(str(tmp_path / "run"))
    assert (one.name, one.source) == ("run", str(path))
    (tmp_path / "tuned").mkdir()
    presets.write_preset(tmp_path / "tuned" / "preset.json", "adam", {"learning_rate": 0.5})
    one = resolve(str(tmp_path / "tuned"))
    assert one.name == "tuned" and one.hyperparameters("catch")["learning_rate"] == 0.5
    with pytest.raises(ValueError, match=r"folder without an optimizer\.npz"):
        resolve(str(tmp_path))


def test_a_pickle_is_pointed_to_the_converter(tmp_path):
    path = tmp_path / "weights.pickle"
    path.write_bytes(pickle.dumps({"a": np.ones(2)}))
    with pytest.raises(ValueError, match="convert_pickle"):
        resolve(str(path)).load("catch")
