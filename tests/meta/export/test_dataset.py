"""Exporting an agent's experience."""

import dataclasses

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

import learned_opt
from agents import task_presets
from meta.engine import agent_training
from meta.engine.tasks import make_task
from meta.export import dataset, recording
from meta.runs import progress
from tests.meta.experience_reference import assert_same_episodes, cut_slowly

SMALL = {
    "optimizer": "adam",
    "task": "cartpole",
    "num_steps": 501,  # no multiple of the environments
    "total_timesteps": 320,
    "seed": 5,
    "agent": "a2c",
    "agent_options": {"num_envs": 4, "num_steps": 16, "widths": [8]},
    # Short enough that some episodes run out of time, and that others do not.
    "env_options": {"max_steps_in_episode": 15},
}


def read(folder):
    """The dataset's builder, and its episodes as they were recorded."""
    builder = tfds.builder_from_directory(folder)
    episodes = []
    for fields in builder.as_data_source("train"):
        steps = list(fields["steps"])
        assert [step["is_last"] for step in steps] == [False] * (len(steps) - 1) + [True]
        assert steps[-1]["is_terminal"] == fields["terminated"]
        assert fields["recording_ended"] != (fields["terminated"] or fields["truncated"])
        episodes.append(
            recording.Episode(
                np.stack([step["observation"] for step in steps]),
                np.stack([step["action"] for step in steps[:-1]]),
                np.stack([step["reward"] for step in steps[:-1]]),
                fields["terminated"],
                fields["truncated"],
                fields["environment"],
                fields["iteration"],
            )
        )
    return builder, episodes


def recompute(request, block):
    """All steps that an export should hold, made anew and kept as one array each."""
    block = {**block, "total_timesteps": request.total_timesteps, "normalizer": 1.0}
    task = make_task(request.task, block)
    adam = learned_opt.make(
        "adam", **({"preset": "breakout"} if "breakout" in request.task else {})
    )
    train_key, record_key = jax.random.split(jax.random.key(request.seed))
    if request.when == "during":
        chunks = recording.of_training(task.agent, adam, {}, train_key)
    else:
        with progress.Progress("", 1, progress.StopRequest()) as bar:
            state = agent_training.train(adam, {}, task, train_key, bar)
        num_envs = request.num_envs or task.agent.config.num_envs
        chunks = recording.of_policy(task.agent, state, record_key, num_envs)
    kept, total = [], 0
    while total < request.num_steps:
        kept.append(next(chunks))
        total += kept[-1].reward.size
    return recording.Steps(*(np.concatenate(leaves) for leaves in zip(*kept, strict=True)))


def small_block():
    block = task_presets.task("cartpole")
    agent = {**block["agent"], "name": "a2c"}
    agent["a2c"] = {**agent["a2c"], **SMALL["agent_options"]}
    return {**block, "agent": agent, "env_options": SMALL["env_options"]}


@pytest.mark.slow
@pytest.mark.parametrize("when", ["after", pytest.param("during", marks=pytest.mark.slow)])
def test_an_export_holds_what_the_same_rollouts_give_again(tmp_path, when):
    request = dataset.Request(**SMALL, out=str(tmp_path / "data"), when=when)
    if when == "during":
        request = dataclasses.replace(request, num_steps=301)
    said = dataset.export(request)
    builder, found = read(tmp_path / "data")
    expected = cut_slowly(recompute(request, small_block()), request.num_steps)
    assert_same_episodes(found, expected)
    assert sum(len(episode.reward) for episode in found) == request.num_steps
    assert f"{request.num_steps} steps in {len(found)} episodes" in said
    ends = {(episode.terminated, episode.truncated) for episode in found}
    assert ends == {(True, False), (False, True), (False, False)}
    iterations = {episode.iteration for episode in found}
    assert iterations == ({5} if when == "after" else set(range(5)))
    about = builder.info.metadata
    assert about["environment"] == "gymnax/CartPole-v1" and about["optimizer"]["name"] == "adam"
    assert about["max_episode_steps"] == 15 and about["recorded"] == when


@pytest.mark.slow
def test_1e5_steps_of_breakout_are_read_back(tmp_path):
    request = dataset.Request(
        "adam:breakout", "breakout", str(tmp_path / "data"), 100_000, total_timesteps=100_000
    )
    dataset.export(request)
    _, found = read(tmp_path / "data")
    steps = recompute(request, task_presets.task("breakout"))
    assert_same_episodes(found, cut_slowly(steps, 100_000))
    assert sum(len(episode.reward) for episode in found) == 100_000


def test_a_stopped_export_leaves_nothing(tmp_path, monkeypatch):
    def stop(self, share):
        raise progress.Stopped(2)

    monkeypatch.setattr(progress.Progress, "share", stop)
    with pytest.raises(progress.Stopped):
        dataset.export(dataset.Request(**SMALL, out=str(tmp_path / "data")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 0}, "--num_steps must be at least 1"),
        ({"when": "before"}, "--when must be one of after, during"),
        ({"file_format": "csv"}, "--file_format must be one of array_record, tfrecord"),
        ({"num_envs": -1}, "--num_envs must be at least 0"),
        ({"num_envs": 8, "when": "during"}, "--agent_option=num_envs"),
        ({"num_steps": 321, "when": "during"}, "raise --total_timesteps"),
        ({"optimizer": "addam"}, "did you mean 'adam'"),
        ({"task": "cartpol"}, "did you mean 'cartpole'"),
        (
            {
                "task": "tfds/digits",
                "total_timesteps": 1024,
                "agent_options": {},
                "env_options": {},
            },
            "nothing acts there",
        ),
        ({"out": "."}, "exists already"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        dataset.export(dataset.Request(**{**SMALL, "out": "data", **changes}))
    assert list(tmp_path.iterdir()) == []
