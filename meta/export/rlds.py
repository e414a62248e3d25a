"""Writing episodes as an RLDS dataset, one after another, for tensorflow-datasets to read.

RLDS (Ramos et al. 2021, arXiv 2111.02767): an example is an episode, its ``steps`` a nested
dataset. An episode of n transitions has n + 1 steps: step i holds an observation, the action
taken on it, and the reward and discount that this action gave. The last step holds the
observation that the last action led to; it has ``is_last``, and its action, reward and discount
mean nothing (they are 0). ``is_terminal`` says that the task's own rules ended the episode
there; an ``is_last`` that is not terminal is a state that has a value.

Writing never takes TensorFlow. Reading does not either where the records are in ArrayRecord
files (``builder_from_directory(...).as_data_source()``); TFRecord files are for those who have it
(``.as_dataset()``), and only they can be read with it.
"""

import contextlib
import functools
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.record_writer import RecordWriter

from agents.environments.base import Discrete, EnvironmentSpec
from meta.export.recording import Episode

SPLIT = "train"
FORMATS = {"array_record": "as_data_source", "tfrecord": "as_dataset"}  # and what reads them
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"  # as tfds' own sequential writer
_SHARD_BYTES = 256 * 2**20  # before compression


def modules() -> tuple[Any, Any]:
    """``tensorflow_datasets`` and ``array_record``'s writer; they take a second to import.

    Raises:
      ValueError: they are not installed; says how to.
    """
    try:
        import tensorflow_datasets as tfds
        from array_record.python import array_record_module
    except ImportError as error:
        raise ValueError(
            "RLDS datasets are written with tensorflow-datasets and array_record: "
            f"pip install -c constraints.txt -e . ({error})"
        ) from error
    return tfds, array_record_module


def refuse_existing(folder: Path) -> None:
    """Raises a ValueError if there is something already."""
    if folder.exists() or folder.is_symlink():
        raise ValueError(
            f"--out={folder} exists already, and datasets are not written over: give another "
            "folder, or remove this one"
        )


@contextlib.contextmanager
def writing(
    folder: Path,
    name: str,
    spec: EnvironmentSpec,
    *,
    description: str,
    metadata: Mapping[str, Any],
    file_format: str = "array_record",
) -> Iterator["Writer"]:
    """Makes a dataset in ``folder`` of what is written within the block.

    Until the block has ended well, everything is in a hidden folder beside it, which then gets
    its name in one step. It holds nothing that could be taken for a dataset before, and it is
    removed if the block raises.

    Args:
      folder: where to; must not exist. Its parents are made.
      name: of the dataset, under which tensorflow-datasets knows it.
      description: of the dataset, in words.
      metadata: of the dataset, anything that JSON holds.
      file_format: one of ``FORMATS``.

    Raises:
      ValueError: there is something in the way, or tensorflow-datasets is not installed.
    """
    modules()
    refuse_existing(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.unfinished")
    unfinished.mkdir()
    try:
        writer = Writer(unfinished, name, spec, file_format)
        try:
            yield writer
        finally:
            writer.close_shard()
        writer.describe(description, metadata)
        refuse_existing(folder)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


class Writer:
    """Writes episodes to shards; see ``writing``.

    Attributes:
      num_episodes, num_transitions: written so far.
    """

    def __init__(self, folder: Path, name: str, spec: EnvironmentSpec, file_format: str):
        self._tfds, self._array_record = modules()
        self._folder = folder
        self._format = file_format
        self._name = re.sub(r"\W+", "_", name).strip("_").lower()
        self._features = features(spec)
        self._template = self._tfds.core.ShardedFileTemplate(
            dataset_name=self._name,
            data_dir=str(folder),
            split=SPLIT,
            filetype_suffix=file_format,
            template=_TEMPLATE,
        )
        self._shard: Any = None
        self._shard_lengths: list[int] = []
        self._shard_bytes = 0
        self._num_bytes = 0
        self.num_episodes = 0
        self.num_transitions = 0

    def write(self, episode: Episode, metadata: Mapping[str, Any]) -> None:
        """Writes an episode.

        Args:
          episode: of n >= 1 steps.
          metadata: ``seed``, ``agent`` and ``optimizer`` of the episode.
        """
        record = serialize(example(episode, {"episode_id": self.num_episodes, **metadata}))
        if self._shard is None:
            path = self._template.sharded_filepath(
                shard_index=len(self._shard_lengths), num_shards=None
            )
            self._shard = self._open(str(path))
            self._shard_lengths.append(0)
            self._shard_bytes = 0
        self._shard.write(record)
        self._shard_lengths[-1] += 1
        self._shard_bytes += len(record)
        self._num_bytes += len(record)
        self.num_episodes += 1
        self.num_transitions += len(episode.reward)
        if self._shard_bytes >= _SHARD_BYTES:
            self.close_shard()

    def _open(self, path: str) -> Any:
        if self._format == "tfrecord":
            return RecordWriter(path)  # plain Python: checksums take a second for each 10 MB
        # Each record a group of its own, so that one episode can be read without others.
        return self._array_record.ArrayRecordWriter(path, "group_size:1")

    def close_shard(self) -> None:
        """Ends the file that is being written, if there is one."""
        if self._shard is not None:
            shard, self._shard = self._shard, None
            shard.close()

    def describe(self, description: str, metadata: Mapping[str, Any]) -> None:
        """Writes what makes the files a dataset."""
        core = self._tfds.core
        identity = core.DatasetIdentity(
            name=self._name,
            version=core.Version("1.0.0"),
            data_dir=str(self._folder),
            module_name="",
        )
        info = core.DatasetInfo(
            builder=identity,
            description=description,
            features=self._features,
            metadata=core.MetadataDict(metadata),
        )
        info.set_file_format(self._format)
        split = core.SplitInfo(
            name=SPLIT,
            shard_lengths=self._shard_lengths,
            num_bytes=self._num_bytes,
            filename_template=self._template,
        )
        info.set_splits(core.splits.SplitDict([split]))
        info.write_to_directory(str(self._folder))


def features(spec: EnvironmentSpec) -> Any:
    """The ``tfds.features.FeaturesDict`` of an episode of an environment."""
    kinds, action = modules()[0].features, spec.action
    floats = functools.partial(kinds.Tensor, dtype=np.float32)
    steps = {
        "observation": floats(shape=spec.observation_shape),
        "action": np.int32 if isinstance(action, Discrete) else floats(shape=(action.size,)),
        **dict.fromkeys(("reward", "discount"), np.float32),
        **dict.fromkeys(("is_first", "is_last", "is_terminal"), np.bool_),
    }
    return kinds.FeaturesDict(
        {
            "steps": kinds.Dataset(steps),
            **dict.fromkeys(("episode_id", "seed", "environment", "iteration"), np.int64),
            "agent": kinds.Text(),
            "optimizer": kinds.Text(),
            **dict.fromkeys(("terminated", "truncated", "recording_ended"), np.bool_),
        }
    )


def example(episode: Episode, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """An episode as RLDS has it: n + 1 steps for n transitions; ``metadata`` are more fields."""
    num_steps = len(episode.reward) + 1
    places = np.arange(num_steps)
    # The discount is the environment's: 0 where nothing follows the reward, else 1.
    discount = np.ones(num_steps, np.float32)
    discount[-1] = 0.0
    if episode.terminated:
        discount[-2] = 0.0
    return {
        "steps": {
            "observation": episode.observation,
            "action": _one_more(episode.action),
            "reward": _one_more(episode.reward),
            "discount": discount,
            "is_first": places == 0,
            "is_last": places == num_steps - 1,
            "is_terminal": (places == num_steps - 1) & episode.terminated,
        },
        "environment": episode.environment,
        "iteration": episode.iteration,
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "recording_ended": not (episode.terminated or episode.truncated),
        **metadata,
    }


def _one_more(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.zeros_like(values[:1])])


def serialize(fields: Mapping[str, Any]) -> bytes:
    """A ``tf.train.Example`` as ``features(spec).serialize_example`` makes it, six times faster.

    The difference is all in how numbers get into the message: as lists, which protobuf takes
    at once, and not one array element after another.
    """
    from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

    def feature(value: Any) -> Any:
        if isinstance(value, str):
            return tf_feature_pb2.Feature(
                bytes_list=tf_feature_pb2.BytesList(value=[value.encode()])
            )
        array = np.asarray(value)
        if array.dtype.kind == "f":
            floats = tf_feature_pb2.FloatList(value=array.ravel().tolist())
            return tf_feature_pb2.Feature(float_list=floats)
        integers = tf_feature_pb2.Int64List(value=array.ravel().astype(np.int64).tolist())
        return tf_feature_pb2.Feature(int64_list=integers)

    steps = {f"steps/{name}": value for name, value in fields["steps"].items()}
    flat = {**steps, **{name: value for name, value in fields.items() if name != "steps"}}
    message = tf_example_pb2.Example(
        features=tf_feature_pb2.Features(
            feature={name: feature(value) for name, value in flat.items()}
        )
    )
    return message.SerializeToString(deterministic=True)  # equal exports are equal files
