"""Brax's environments: ends, resets, repeats and what making them leaves behind."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import environments
from agents.environments import brax_suite


def run(env, action, num_steps):
    """The first observation, and the time steps ``[T, ...]`` under one action."""

    @jax.jit
    def scan(key):
        state, observation = env.reset(key)

        def step(state, _):
            return env.step(jax.random.key(0), state, jnp.asarray(action))

        return observation, jax.lax.scan(step, state, length=num_steps)[1]

    return jax.device_get(scan(jax.random.key(0)))


@pytest.fixture
def countdown(monkeypatch):
    """An environment of Brax's whose reward is its time and which is done after 5 steps."""
    environments.make("brax/fast")
    from brax import envs

    class Countdown(envs.Env):
        action_size, observation_size, backend = 2, 1, "none"

        def __init__(self, backend="positional", length=5):
            self.length = length

        def reset(self, rng):
            zero = jnp.zeros(())
            offset = jax.random.uniform(rng)
            metrics, info = {"metric": zero}, {"time": zero}
            return envs.State((zero, offset), offset[None], zero, zero, metrics, info)

        def step(self, state, action):
            time, offset = state.pipeline_state
            time = time + 1
            state.metrics.update(metric=time)
            state.info.update(time=state.info["time"] + 1)
            reward = time + action.sum()
            done = jnp.where(state.info["time"] >= self.length, 1.0, 0.0)
            return state.replace(
                pipeline_state=(time, offset), obs=(offset + time)[None], reward=reward, done=done
            )

    monkeypatch.setitem(envs._envs, "countdown", Countdown)
    return "brax/countdown"


def test_termination_goes_back_to_the_first_state(countdown):
    env = environments.make(countdown)
    first, steps = run(env, [0.0, 0.0], 12)
    np.testing.assert_array_equal(np.flatnonzero(steps.terminated), [4, 9])
    assert not np.any(steps.truncated)
    np.testing.assert_array_equal(steps.observation[4], first)
    np.testing.assert_allclose(steps.final_observation[4], first + 5, rtol=1e-6)
    np.testing.assert_array_equal(steps.reward, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2])
    np.testing.assert_array_equal(steps.episode_return[[3, 4, 8, 9]], [0, 15, 15, 15])
    assert steps.episode_length[4] == 5


def test_parallel_environments_differ_in_their_first_states(countdown):
    env = environments.make(countdown)
    _, observations = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 4))
    assert len(np.unique(observations)) == 4


def test_the_time_limit_truncates_unless_the_episode_terminates_there(countdown):
    _, early = run(environments.make(countdown, episode_length=3), [0.0, 0.0], 6)
    np.testing.assert_array_equal(np.flatnonzero(early.truncated), [2, 5])
    assert not np.any(early.terminated)
    _, exact = run(environments.make(countdown, episode_length=5), [0.0, 0.0], 5)
    assert exact.terminated[4] and not np.any(exact.truncated)


def test_a_repeated_action_sums_rewards_up_to_the_termination(countdown):
    env = environments.make(countdown, action_repeat=3)
    assert env.spec.max_episode_steps == 334
    first, steps = run(env, [0.0, 0.0], 2)
    np.testing.assert_array_equal(steps.reward, [1 + 2 + 3, 4 + 5])
    np.testing.assert_array_equal(steps.terminated, [False, True])
    np.testing.assert_allclose(steps.final_observation[1], first + 5, rtol=1e-6)
    assert steps.episode_length[1] == 2


def test_actions_are_clipped(countdown):
    _, steps = run(environments.make(countdown), [7.0, -0.25], 1)
    np.testing.assert_allclose(steps.reward, 1 + 1 - 0.25)


def test_results_are_not_carried_as_state(countdown):
    state, _ = environments.make(countdown).reset(jax.random.key(0))
    assert set(state.now._fields) == {"pipeline_state", "observation", "info"}


@pytest.mark.slow
def test_inverted_pendulum_pushed_one_way_terminates():
    env = environments.make("inverted_pendulum")
    assert env.spec.action == environments.Continuous(1)
    first, steps = run(env, [1.0], 30)
    end = int(np.argmax(steps.terminated))
    assert steps.terminated[end] and not np.any(steps.truncated)
    assert abs(steps.final_observation[end, 1]) > 0.2
    np.testing.assert_array_equal(steps.observation[end], first)
    assert steps.episode_return[end] == steps.episode_length[end] == end + 1
    # The same start and the same actions: the second episode repeats the first.
    assert end < 15
    np.testing.assert_allclose(
        steps.final_observation[end + 1 : 2 * end + 2],
        steps.final_observation[: end + 1],
        atol=1e-5,
    )


@pytest.mark.slow
def test_ant_is_truncated_by_its_time_limit():
    env = environments.make("ant", episode_length=2)
    assert env.spec.observation_shape == (27,)
    assert env.spec.action == environments.Continuous(8)
    first, steps = run(env, np.zeros(8, np.float32), 2)
    np.testing.assert_array_equal(steps.truncated, [False, True])
    assert not np.any(steps.terminated)
    np.testing.assert_array_equal(steps.observation[1], first)
    assert not np.array_equal(steps.final_observation[1], first)


@pytest.mark.slow
@pytest.mark.parametrize("backend", brax_suite.BACKENDS)
def test_every_backend_steps(backend):
    _, steps = run(environments.make("inverted_pendulum", backend=backend), [0.0], 2)
    assert np.all(np.isfinite(steps.observation))


def test_what_cannot_be_made_is_an_error_that_names_the_fix():
    with pytest.raises(ValueError, match=r"unknown Brax backend.*generalized, mjx, positional"):
        environments.make("ant", backend="bullet")
    with pytest.raises(ValueError, match="default backend is 'generalized'"):
        environments.make("swimmer", backend="spring")
    with pytest.raises(ValueError, match="did you mean 'healthy_z_range'"):
        environments.make("ant", healthy_range=(0, 1))
    with pytest.raises(ValueError, match="unknown Brax environment: 'cat'"):
        brax_suite.make("cat")
    with pytest.raises(ValueError, match="episode_length must be"):
        environments.make("brax/fast", episode_length=0)
    with pytest.raises(ValueError, match="action_repeat must be"):
        environments.make("brax/fast", action_repeat=0)


def test_known_notices_are_dropped_and_others_pass(capsys):
    with brax_suite._silenced():
        print("Failed to import warp: no such module")
        print("something else")
    assert capsys.readouterr().out == "something else\n"


@pytest.mark.slow
def test_making_a_robot_prints_nothing_and_leaves_no_file(tmp_path):
    command = "from agents import environments; environments.make('halfcheetah')"
    result = subprocess.run(
        [sys.executable, "-c", command],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join([".", *sys.path]), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert (result.stdout, result.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []
