"""Recording steps and cutting them into episodes."""

import jax
import numpy as np
import pytest

import learned_opt
from agents import environments, normalization, rollout
from meta.engine import agent_training
from meta.engine.tasks import make_task
from meta.export import recording
from meta.runs import progress
from tests.meta.experience_reference import assert_same_episodes, cut_slowly


def made_up_steps(num_steps, num_envs, seed=0):
    """Steps whose numbers tell where they stand."""
    rng = np.random.default_rng(seed)
    place = np.arange(num_steps * num_envs, dtype=np.float32).reshape(num_steps, num_envs)
    chance = rng.random((num_steps, num_envs))
    return recording.Steps(
        observation=np.stack([place, -place], axis=-1),
        action=place.astype(np.int32),
        reward=place / 7,
        terminated=chance < 0.1,
        truncated=(chance >= 0.1) & (chance < 0.15),
        final_observation=np.stack([place + 0.5, -place - 0.5], axis=-1),
    )


def cut(steps, chunk, limit):
    episodes = recording.Episodes(steps.reward.shape[1])
    found, done = [], 0
    for begin in range(0, len(steps.reward), chunk):
        part = recording.Steps(*(leaf[begin : begin + chunk] for leaf in steps))
        found += episodes.add(part, begin, limit - done)
        done += part.reward.size
    return [*found, *episodes.finish()]


@pytest.mark.parametrize("limit", [1, 3, 41, 200, 10_000])
@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_episodes_are_cut_as_a_walk_through_each_environment_does(chunk, limit):
    steps = made_up_steps(50, 4)
    found = cut(steps, chunk, limit)
    assert_same_episodes(found, cut_slowly(steps, limit))
    assert sum(len(episode.reward) for episode in found) == min(limit, 200)


def test_episodes_tell_the_iteration_they_began_in():
    steps = made_up_steps(50, 4)
    for episode in cut(steps, 10, 200):
        began = int(episode.action[0]) // 4  # its first step's time
        assert episode.iteration == began - began % 10


def test_steps_may_be_overwritten_once_they_are_taken():
    steps = made_up_steps(6, 2)
    episodes = recording.Episodes(2)
    given = recording.Steps(*(leaf.copy() for leaf in steps))
    found = list(episodes.add(given, 0, 100))
    for leaf in given:
        leaf[...] = 0
    found += episodes.finish()
    assert len(found) > 1
    assert_same_episodes(found, cut_slowly(steps, 100))


def small_task(env, **options):
    agent = {
        "name": "a2c", "num_envs": 4, "num_steps": 8, "discount": 0.99, "gae_lambda": 0.95,
        "value_coefficient": 0.5, "entropy_coefficient": 0.01, "max_grad_norm": 0.5,
        "network": "separate", "widths": (8,), "activation": "tanh", "reward_scale": 1.0,
        "normalize_observations": True, "normalize_rewards": False, "truncation": "terminate",
        "equal_hidden": False, "num_epochs": 1, "num_minibatches": 1,
        "normalize_advantages": False,
    }  # fmt: skip
    block = {"env": env, "env_options": options, "total_timesteps": 320, "normalizer": 1.0}
    return make_task(env, {**block, "agent": agent})


@pytest.mark.slow
def test_recording_a_training_does_not_change_it():
    task = small_task("cartpole", max_steps_in_episode=12)
    adam = learned_opt.make("adam", learning_rate=0.05)
    key = jax.random.key(3)
    with progress.Progress("", 1, progress.StopRequest()) as bar:
        state = agent_training.train(adam, {}, task, key, bar)
    cut_up, last = recording.Episodes(4), {}
    for number, steps in enumerate(recording.of_training(task.agent, adam, {}, key)):
        for episode in cut_up.add(steps, number, 10_000):
            last[episode.environment] = episode
    lengths = [len(last[environment].reward) for environment in range(4)]
    assert lengths == np.asarray(state.episode_length).tolist()
    # What the environments stand at is what the last recorded steps led to.
    unfinished = {episode.environment: episode for episode in cut_up.finish()}
    statistics = state.observation_statistics
    assert unfinished, "choose another seed: all episodes end with the training"
    for environment, episode in unfinished.items():
        seen = normalization.normalize(statistics, episode.observation[-1:])
        np.testing.assert_allclose(seen[0], state.observation[environment], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_policy_is_recorded_in_the_task_it_was_trained_in():
    task = small_task("rand_dense")
    assert isinstance(task.agent.env, environments.TaskEnvironment)
    adam = learned_opt.make("adam")
    state = jax.jit(lambda key: task.agent.init(key, adam.transform({})))(jax.random.key(0))
    for number in range(2):
        key = jax.random.key(number)
        inner, _ = rollout.reset_as_trained(task.agent.env, state, key, 3)
        for mine, trained in zip(
            jax.tree.leaves(inner.task), jax.tree.leaves(state.env_state.task), strict=True
        ):
            np.testing.assert_array_equal(mine, np.asarray(trained)[:3])
