"""Image datasets by name, through tensorflow-datasets, as arrays.

Any dataset of tensorflow-datasets that has images of one size and one label each can be
given. It is written as ArrayRecord files on first use and read from there ever after, without
TensorFlow. Only digits ships with this project (``agents.digits``); others are downloaded by
tensorflow-datasets, or read from where they were prepared.

Three splits, so that nothing is chosen by what is reported in the end: agents learn from
``train``; optimizers are meta-trained and tuned by ``validation``; finished ones are compared on
``test``. A dataset without a validation split of its own gives up a fifth of its training
examples, always the same ones.
"""

import functools
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learned_opt.names import did_you_mean

PREFIX = "tfds/"  # of a task's env that names a dataset
OWN = "digits"
VALIDATION_SHARE = 0.2
_VALIDATION_SEED = 0


class Examples(NamedTuple):
    """N examples: ``images`` ``[N, features]`` in their own dtype, ``labels`` int32 ``[N]``."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


class Dataset(NamedTuple):
    """A dataset in memory.

    Attributes:
      name: as tensorflow-datasets knows it.
      train, validation, test: disjoint.
      image_shape: of an image before it was flattened.
      num_classes: C; labels are 0 .. C - 1.
      scale: the largest value in the training images, > 0; divided by it they lie in [0, 1].
    """

    name: str
    train: Examples
    validation: Examples
    test: Examples
    image_shape: tuple[int, ...]
    num_classes: int
    scale: float

    @property
    def num_features(self) -> int:
        return int(np.prod(self.image_shape))


class MissingPackageError(ValueError):
    """What reads or makes datasets is not installed."""


def load(name: str, data_dir: str = "") -> Dataset:
    """A dataset as arrays, prepared on first use.

    Args:
      name: as ``tfds.builder`` takes it (``digits``, ``mnist``, ``emnist/letters``), with or
        without ``tfds/`` before it.
      data_dir: a folder of datasets as tensorflow-datasets keeps them, or the folder of one
        prepared dataset. Empty: the environment's ``TFDS_DATA_DIR``, or else for digits a
        folder in the user's cache and for others ``~/tensorflow_datasets``.

    Raises:
      MissingPackageError: tensorflow-datasets or scikit-learn is not installed.
      ValueError: unknown, cannot be prepared or read, or is not images with labels; names the
        fix.
    """
    name = name.removeprefix(PREFIX)
    folder = data_dir or os.environ.get("TFDS_DATA_DIR", "")
    if not folder and name == OWN:
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = str(Path(cache) / "lopt-rl" / "datasets")
    return _load(name, str(Path(folder).expanduser()) if folder else "")


@functools.lru_cache(maxsize=4)
def _load(name: str, folder: str) -> Dataset:
    builder = _prepared(name, folder)
    image_key, label_key = _keys(name, builder.info)
    splits = set(builder.info.splits)
    if not {"train", "test"} <= splits:
        raise ValueError(
            f"dataset {name!r} has the splits {', '.join(sorted(splits)) or 'none'}, and train "
            "and test are needed; give another dataset"
        )

    def read(split: str) -> Examples:
        return _read(name, builder, split, image_key, label_key)

    train, test = read("train"), read("test")
    if "validation" in splits:
        validation = read("validation")
    else:
        train, validation = _divide(name, train)
    feature = builder.info.features
    scale = float(np.max(train.images))
    return Dataset(
        name,
        train,
        validation,
        test,
        tuple(int(size) for size in feature[image_key].shape),
        int(feature[label_key].num_classes),
        scale if scale > 0 else 1.0,
    )


def _import_tfds(name: str) -> Any:
    try:
        import tensorflow_datasets as tfds

        if name == OWN:
            from agents import digits  # noqa: F401 (makes its builder known)
    except ImportError as error:
        raise MissingPackageError(_missing(error)) from error
    return tfds


def _missing(error: ImportError) -> str:
    return f"datasets as tasks need another package ({error}): pip install -c constraints.txt -e ."


def _prepared(name: str, folder: str) -> Any:
    """The builder of a dataset whose files are there."""
    tfds = _import_tfds(name)
    if folder and (Path(folder) / "dataset_info.json").is_file():
        return _of_folder(tfds, name, folder)
    try:
        builder = tfds.builder(name, **({"data_dir": folder} if folder else {}))
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        hint = did_you_mean(name, [OWN, *tfds.list_builders(with_community_datasets=False)])
        raise ValueError(
            f"tensorflow-datasets knows no dataset {name!r}{hint} and {folder or 'its folder'} "
            f"holds none of that name; {OWN} ships with this project"
        ) from error
    if not builder.is_prepared():
        _prepare(tfds, name, builder)
    return builder


def _of_folder(tfds: Any, name: str, folder: str) -> Any:
    """The builder of a folder that holds one prepared dataset."""
    try:
        builder = tfds.builder_from_directory(folder)
    # tfds raises whatever its parsers raise where the files are no dataset.
    except Exception as error:
        raise ValueError(
            f"{folder} is not a dataset that tensorflow-datasets prepared ({error}); give the "
            "folder that holds dataset_info.json and features.json, or the one above its name"
        ) from error
    if builder.name != name.partition("/")[0].partition(":")[0]:
        raise ValueError(
            f"{folder} holds the dataset {builder.name!r}, and {name!r} was asked for; ask for "
            f"{PREFIX}{builder.name}"
        )
    return builder


def _prepare(tfds: Any, name: str, builder: Any) -> None:
    """Writes the dataset's files, as ArrayRecord, which is read without TensorFlow."""
    tfds.disable_progress_bar()
    try:
        builder.download_and_prepare(file_format=tfds.core.FileFormat.ARRAY_RECORD)
    # Anything may fail here: networks, disks, parsers that want TensorFlow.
    except Exception as error:
        if builder.is_prepared():  # by another process, at the same time
            return
        if isinstance(error, ImportError) and name == OWN:
            raise MissingPackageError(_missing(error)) from error
        raise ValueError(
            f"dataset {name!r} is not in {builder.data_dir} and could not be prepared there "
            f"({type(error).__name__}: {str(error)[:300]}). Prepare it once where there are a "
            "network and what its parser needs (for many: pip install tensorflow): "
            f"tfds.builder({name!r}, data_dir=FOLDER).download_and_prepare("
            "file_format='array_record'), and give env_options.data_dir=FOLDER"
        ) from error


def _keys(name: str, info: Any) -> tuple[str, str]:
    """What images and labels are called; ValueError where it is no image classification."""
    keys = info.supervised_keys or ("image", "label")
    features = info.features
    wrong = ""
    if len(keys) != 2 or not all(isinstance(k, str) and k in features for k in keys):
        wrong = f"it has {', '.join(features)}"
    elif not hasattr(features[keys[1]], "num_classes") or features[keys[1]].shape != ():
        wrong = f"its {keys[1]!r} is no class label"
    elif not features[keys[0]].shape or None in features[keys[0]].shape:
        wrong = f"its {keys[0]!r} has the shape {features[keys[0]].shape}"
    elif not np.issubdtype(features[keys[0]].np_dtype, np.number):
        wrong = f"its {keys[0]!r} is of {features[keys[0]].np_dtype}"
    if wrong:
        raise ValueError(
            f"dataset {name!r} is not images of one size with a class each: {wrong}; give "
            "another dataset"
        )
    return keys[0], keys[1]


def _read(name: str, builder: Any, split: str, image_key: str, label_key: str) -> Examples:
    try:
        source = builder.as_data_source(split=split)
        examples = (source[index] for index in range(len(source)))
        rows = [(np.asarray(e[image_key]), int(e[label_key])) for e in examples]
    # tfds raises of many kinds here: a file format without random access, damaged files.
    except Exception as error:
        raise ValueError(
            f"dataset {name!r} in {builder.data_dir} cannot be read "
            f"({type(error).__name__}: {str(error)[:300]}); files must be of the format "
            f"array_record: prepare it again into an empty folder with tfds.builder({name!r}, "
            "data_dir=FOLDER).download_and_prepare(file_format='array_record')"
        ) from error
    if not rows:
        raise ValueError(f"dataset {name!r} has no examples in its split {split!r}")
    images = np.stack([image for image, _ in rows]).reshape(len(rows), -1)
    return Examples(images, np.array([label for _, label in rows], np.int32))


def _divide(name: str, train: Examples) -> tuple[Examples, Examples]:
    """Training and validation examples, by a shuffle that is always the same."""
    count = int(len(train) * VALIDATION_SHARE)
    if count < 1:
        raise ValueError(f"dataset {name!r} has {len(train)} training examples, too few to divide")
    order = np.random.Generator(np.random.PCG64(_VALIDATION_SEED)).permutation(len(train))
    # In the order of the files, so that only membership depends on the shuffle.
    kept, held_out = np.sort(order[count:]), np.sort(order[:count])
    return (
        Examples(train.images[kept], train.labels[kept]),
        Examples(train.images[held_out], train.labels[held_out]),
    )
