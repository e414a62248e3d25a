"""RLDS datasets as tensorflow-datasets reads them back."""

import tracemalloc

import numpy as np
import pytest
import tensorflow_datasets as tfds

from agents.environments import Continuous, Discrete, EnvironmentSpec
from meta.export import recording, rlds

GRID = EnvironmentSpec("grid", (2, 3), Discrete(4), 100)
ARM = EnvironmentSpec("arm", (5,), Continuous(2), 100)
META = {"seed": 2**32 - 1, "agent": "ppo", "optimizer": "äther"}


def episode(spec, length, *, terminated=False, truncated=False, seed=0):
    rng = np.random.default_rng(seed)
    action = rng.normal(size=(length, 2)).astype(np.float32)
    if isinstance(spec.action, Discrete):
        action = rng.integers(0, 4, length).astype(np.int32)
    observation = rng.normal(size=(length + 1, *spec.observation_shape)).astype(np.float32)
    reward = rng.normal(size=length).astype(np.float32)
    return recording.Episode(observation, action, reward, terminated, truncated, 3, 7)


def writing(folder, spec=GRID):
    return rlds.writing(folder, "My data-1", spec, description="d", metadata={"some": [1, "x"]})


def read(folder):
    """Every episode with its steps as one array for each field, from a folder that was moved."""
    moved = folder.rename(folder.with_name(f"{folder.name}_moved"))
    builder = tfds.builder_from_directory(moved)
    episodes = []
    for fields in builder.as_data_source("train"):
        steps = list(fields["steps"])
        episodes.append({**fields, "steps": {k: np.stack([s[k] for s in steps]) for k in steps[0]}})
    return builder, episodes


@pytest.mark.parametrize("spec", [GRID, ARM])
def test_what_was_written_is_read_back(tmp_path, spec):
    written = [
        episode(spec, 4, terminated=True),
        episode(spec, 1, truncated=True, seed=1),
        episode(spec, 3, seed=2),
    ]
    with writing(tmp_path / "deep" / "data", spec) as writer:
        for one in written:
            writer.write(one, META)
    builder, found = read(tmp_path / "deep" / "data")
    assert builder.info.name == "my_data_1" and builder.info.metadata["some"] == [1, "x"]
    assert len(found) == writer.num_episodes == 3 and writer.num_transitions == 8
    for number, (one, fields) in enumerate(zip(written, found, strict=True)):
        steps = fields["steps"]
        for name in ("observation", "action", "reward"):
            values = getattr(one, name)
            read_back = steps[name] if name == "observation" else steps[name][:-1]
            assert read_back.dtype == values.dtype
            np.testing.assert_array_equal(read_back, values)
        assert not steps["action"][-1].any() and steps["reward"][-1] == 0
        last = len(one.reward)
        assert np.flatnonzero(steps["is_first"]).tolist() == [0]
        assert np.flatnonzero(steps["is_last"]).tolist() == [last]
        assert np.flatnonzero(steps["is_terminal"]).tolist() == [last] * one.terminated
        # Only a reward that nothing follows has discount 0; the last step's means nothing.
        expected = np.ones(last + 1)
        expected[last - one.terminated :] = 0
        np.testing.assert_array_equal(steps["discount"], expected)
        assert fields["terminated"] is one.terminated and fields["truncated"] is one.truncated
        assert fields["recording_ended"] is (number == 2)
        assert (fields["episode_id"], fields["environment"], fields["iteration"]) == (number, 3, 7)
        assert fields["seed"] == 2**32 - 1 and fields["optimizer"].decode() == "äther"


@pytest.mark.parametrize("spec", [GRID, ARM])
def test_records_are_those_of_tfds_own_serializer(spec):
    fields = rlds.example(episode(spec, 5, terminated=True), {"episode_id": 0, **META})
    mine = rlds.serialize(fields)
    theirs = rlds.features(spec).serialize_example(fields)
    from tensorflow_datasets.proto import tf_example_pb2

    parse = tf_example_pb2.Example.FromString  # maps have no order in bytes
    assert parse(mine) == parse(theirs)


def test_tfrecords_hold_the_same_records(tmp_path):
    written = [episode(GRID, length, truncated=True, seed=length) for length in (3, 1)]
    settings = {"description": "d", "metadata": {}, "file_format": "tfrecord"}
    with rlds.writing(tmp_path / "data", "data", GRID, **settings) as writer:
        for one in written:
            writer.write(one, META)
    (shard,) = (tmp_path / "data").glob("data-train.tfrecord-*")
    content, records = shard.read_bytes(), []
    while content:  # its length, a checksum, the record, a checksum
        size = int.from_bytes(content[:8], "little")
        records.append(content[12 : 12 + size])
        content = content[16 + size :]
    expected = [
        rlds.serialize(rlds.example(one, {"episode_id": number, **META}))
        for number, one in enumerate(written)
    ]
    assert records == expected
    builder = tfds.builder_from_directory(tmp_path / "data")
    assert builder.info.splits["train"].num_examples == 2
    assert builder.info.file_format.value == "tfrecord"


@pytest.mark.slow
def test_tfrecords_are_read_by_tensorflow(tmp_path):
    pytest.importorskip("tensorflow", reason="not needed but for this")
    one = episode(GRID, 6, terminated=True)
    settings = {"description": "d", "metadata": {}, "file_format": "tfrecord"}
    with rlds.writing(tmp_path / "data", "data", GRID, **settings) as writer:
        writer.write(one, META)
    dataset = tfds.builder_from_directory(tmp_path / "data").as_dataset(split="train")
    (fields,) = tfds.as_numpy(dataset)
    steps = list(fields["steps"])
    assert len(steps) == 7 and steps[-1]["is_terminal"]
    np.testing.assert_array_equal(np.stack([s["observation"] for s in steps]), one.observation)


def test_shards_are_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(rlds, "_SHARD_BYTES", 1000)
    with writing(tmp_path / "data") as writer:
        for seed in range(7):
            writer.write(episode(GRID, 9, truncated=True, seed=seed), META)
    builder, found = read(tmp_path / "data")
    assert len(builder.info.splits["train"].shard_lengths) > 1
    for seed, fields in enumerate(found):
        expected = episode(GRID, 9, seed=seed).observation
        np.testing.assert_array_equal(fields["steps"]["observation"], expected)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_export_that_breaks_off_leaves_nothing(tmp_path, error):
    def broken():
        with writing(tmp_path / "data") as writer:
            writer.write(episode(GRID, 4, terminated=True), META)
            for path in tmp_path.rglob("*"):  # nor would a kill leave a dataset
                assert "dataset_info" not in path.name and path.name != "data"
            raise error

    with pytest.raises(error):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_refused_and_untouched(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=r"exists already.*another"), writing(tmp_path / "data"):
        pytest.fail("began to write")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]

    def overtaken():
        with writing(tmp_path / "other") as writer:
            writer.write(episode(GRID, 4), META)
            (tmp_path / "other").mkdir()

    with pytest.raises(ValueError, match="exists already"):
        overtaken()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "other"]
    assert list((tmp_path / "other").iterdir()) == []


def test_writing_holds_the_episodes_under_way_alone(tmp_path):
    def peak(chunks):
        episodes = recording.Episodes(8)
        tracemalloc.start()
        with writing(tmp_path / str(chunks)) as writer:
            for seed in range(chunks):
                rng = np.random.default_rng(seed)
                steps = recording.Steps(
                    rng.normal(size=(32, 8, 2, 3)).astype(np.float32),
                    np.zeros((32, 8), np.int32),
                    np.zeros((32, 8), np.float32),
                    rng.random((32, 8)) < 0.05,
                    np.zeros((32, 8), bool),
                    rng.normal(size=(32, 8, 2, 3)).astype(np.float32),
                )
                for one in episodes.add(steps, 0, 10**9):
                    writer.write(one, META)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(2)  # what is made once: message types, caches
    few, many = peak(10), peak(40)
    # 30 more chunks hold 184 KB of observations, were they kept.
    assert many < few + 8e4
