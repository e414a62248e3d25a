"""Datasets: what is written is what is read, splits are disjoint, and errors name the fix."""

import json

import numpy as np
import pytest

from agents import datasets

load_digits = pytest.importorskip("sklearn.datasets").load_digits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def digits(folder):
    return datasets.load("digits", str(folder))


def test_all_digits_are_read_back_once_in_three_splits(digits):
    images, labels = load_digits(return_X_y=True)
    original = sorted((*map(int, x), int(y)) for x, y in zip(images, labels, strict=True))
    parts = [digits.train, digits.validation, digits.test]
    assert [len(part) for part in parts] == [1154, 288, 355]
    read = [(*map(int, x), int(y)) for p in parts for x, y in zip(p.images, p.labels, strict=True)]
    assert sorted(read) == original
    # No two images are equal here, so equality of images is identity of examples.
    rows = [{image.tobytes() for image in part.images} for part in parts]
    assert not (rows[0] & rows[1] or rows[0] & rows[2] or rows[1] & rows[2])
    assert np.bincount(digits.test.labels).min() >= 34  # a fifth of each digit
    assert (digits.num_classes, digits.image_shape, digits.scale) == (10, (8, 8, 1), 16.0)


def test_tensorflow_is_not_needed(folder, digits, run_python):
    printed = run_python(
        "import sys\nfrom agents import datasets\n"
        f"print(len(datasets.load('tfds/digits', {str(folder)!r}).test), "
        "'tensorflow' in sys.modules)"
    )
    assert printed.split()[-2:] == ["355", "False"]


def test_it_is_written_once_and_then_read(folder, digits, monkeypatch):
    monkeypatch.setattr(datasets, "_prepare", None)  # would raise if called
    datasets._load.cache_clear()
    again = datasets.load("tfds/digits", str(folder))
    np.testing.assert_array_equal(again.train.images, digits.train.images)


def test_the_folder_of_one_prepared_dataset_can_be_given(folder, digits):
    again = datasets.load("digits", str(folder / "digits" / "1.0.0"))
    np.testing.assert_array_equal(again.test.labels, digits.test.labels)


def test_the_environment_and_the_cache_decide_where(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(datasets, "_load", lambda *args: asked.append(args))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    datasets.load("tfds/digits")
    datasets.load("mnist")
    monkeypatch.setenv("TFDS_DATA_DIR", "/elsewhere")
    datasets.load("digits")
    datasets.load("digits", "/here")
    cache = str(tmp_path / "lopt-rl" / "datasets")
    assert asked == [
        ("digits", cache), ("mnist", ""), ("digits", "/elsewhere"), ("digits", "/here"),
    ]  # fmt: skip


def test_unknown_names_are_answered_with_near_ones(tmp_path):
    with pytest.raises(ValueError, match=r"'digitz' \(did you mean 'digits'\?\)"):
        datasets.load("digitz", str(tmp_path))


def test_what_cannot_be_prepared_says_how(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def refuse(self, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
    with pytest.raises(ValueError, match=r"no network.*array_record.*env_options.data_dir"):
        datasets.load("mnist", str(tmp_path))


def test_a_folder_of_another_dataset_is_refused(folder, digits):
    with pytest.raises(ValueError, match="holds the dataset 'digits', and 'mnist'"):
        datasets.load("mnist", str(folder / "digits" / "1.0.0"))


def test_a_folder_of_another_layout_is_refused(tmp_path):
    (tmp_path / "dataset_info.json").write_text(json.dumps({"name": 3, "layout": "other"}))
    with pytest.raises(ValueError, match="is not a dataset that tensorflow-datasets prepared"):
        datasets.load("digits", str(tmp_path))


def test_damaged_files_are_refused(tmp_path):
    import shutil

    datasets.load("digits", str(tmp_path))
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "digits", broken / "digits")
    for file in (broken / "digits" / "1.0.0").glob("*.array_record*"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be read"):
        datasets.load("digits", str(broken))


def test_a_missing_package_names_the_command(monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "tensorflow_datasets":
            raise ModuleNotFoundError("No module named 'tensorflow_datasets'", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(datasets.MissingPackageError, match=r"pip install -c constraints\.txt"):
        datasets.load("digits", "/nowhere")


class Info:
    """As much of a dataset's description as is looked at."""

    def __init__(self, features, keys=("image", "label")):
        self.features, self.supervised_keys = features, keys


def test_what_is_no_image_classification_is_refused():
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=(None, None, 3))
    label = tfds.features.ClassLabel(num_classes=3)
    whole = tfds.features.Tensor(shape=(4,), dtype=np.float32)
    for features, keys, message in [
        ({"image": image, "label": label}, ("image", "label"), "has the shape"),
        ({"image": whole, "label": whole}, None, "'label' is no class label"),
        ({"text": tfds.features.Text(), "label": label}, ("text", "label"), "'text' has the sha"),
        ({"a": whole}, None, "it has a"),
    ]:
        with pytest.raises(ValueError, match=message):
            datasets._keys("x", Info(features, keys))
    assert datasets._keys("x", Info({"image": whole, "label": label})) == ("image", "label")
