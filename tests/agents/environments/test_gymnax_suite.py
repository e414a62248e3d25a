"""gymnax' environments: whole episodes with known ends, rewards and actions."""

from urllib.error import URLError

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import environments
from agents.environments import gymnax_suite


def run(env, policy, num_steps, key=None):
    """The state's and time step's histories ``[T, ...]`` under ``policy(observation)``."""
    reset_key, step_key = jax.random.split(jax.random.key(0) if key is None else key)

    def step(carry, key):
        state, observation = carry
        state, timestep = env.step(key, state, policy(observation))
        return (state, timestep.observation), (state, timestep)

    @jax.jit
    def scan(reset_key, step_keys):
        return jax.lax.scan(step, env.reset(reset_key), step_keys)[1]

    return jax.device_get(scan(reset_key, jax.random.split(step_key, num_steps)))


def always(action):
    return lambda observation: jnp.asarray(action)


def balance(observation):
    """Pushes cartpole's cart under its pole, and back to the middle."""
    x, velocity, angle, angular_velocity = observation
    return jnp.where(0.1 * x + 0.3 * velocity + 4 * angle + angular_velocity > 0, 1, 0)


def test_cartpole_balanced_is_truncated_at_500():
    _, steps = run(environments.make("cartpole"), balance, 501)
    assert not np.any(steps.terminated)
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated), [499])
    assert steps.episode_return[498] == 0
    assert steps.episode_return[499] == steps.episode_return[500] == 500
    assert steps.episode_length[499] == 500


def test_cartpole_pushed_one_way_terminates_unless_the_limit_comes_first():
    _, fallen = run(environments.make("cartpole"), always(1), 30)
    fall = int(np.argmax(fallen.terminated))
    assert 5 <= fall + 1 < 15
    assert not np.any(fallen.truncated)

    _, cut = run(environments.make("cartpole", max_steps_in_episode=fall), always(1), fall)
    assert cut.truncated[-1] and not np.any(cut.terminated)

    # The pole falls in the very step of the limit: nothing would have followed.
    _, both = run(environments.make("cartpole", max_steps_in_episode=fall + 1), always(1), fall + 1)
    assert both.terminated[-1] and not np.any(both.truncated)


@pytest.mark.slow
def test_freeway_never_terminates():
    _, steps = run(environments.make("freeway"), always(1), 2500)
    assert not np.any(steps.terminated)
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated), [2499])
    assert steps.episode_length[-1] == 2500
    assert steps.episode_return[-1] == np.sum(steps.reward) > 0


@pytest.mark.parametrize("name", ["cartpole", "breakout"])
def test_an_end_gives_the_old_episode_s_last_observation_and_a_new_one_s_first(name):
    env = environments.make(name)
    key = jax.random.key(3)
    state, _ = env.reset(jax.random.key(0))
    step = jax.jit(env.step)
    for _ in range(50):
        key, step_key = jax.random.split(key)
        before = state
        state, timestep = step(step_key, before, jnp.int32(0))
        if timestep.terminated:
            break
    assert timestep.terminated

    own_step_key, reset_key = jax.random.split(step_key)
    last, *_ = env.env.step_env(own_step_key, before.inner, jnp.int32(0), env.params)
    first, first_state = env.env.reset_env(reset_key, env.params)
    np.testing.assert_allclose(timestep.final_observation, last, rtol=1e-5)
    np.testing.assert_array_equal(timestep.observation, first)
    assert not np.array_equal(timestep.observation, timestep.final_observation)
    jax.tree.map(np.testing.assert_array_equal, state.inner, first_state)
    assert state.log.running_return == state.log.running_length == 0


def test_new_episodes_are_drawn_anew():
    states, steps = run(environments.make("cartpole"), always(1), 40)
    starts = steps.observation[steps.terminated]
    assert len(starts) >= 3
    assert len(np.unique(starts, axis=0)) == len(starts)
    assert np.all(states.inner.time[steps.terminated] == 0)


@pytest.mark.parametrize("action, torque", [(1, 2), (-1, -2), (0.25, 0.5), (7, 2), (-7, -2)])
def test_pendulum_s_actions_are_clipped_and_rescaled_to_its_torque(action, torque):
    env = environments.make("pendulum")
    state, _ = env.reset(jax.random.key(0))
    state, _ = env.step(jax.random.key(1), state, jnp.array([action], jnp.float32))
    assert state.inner.last_u == torque


def test_mountaincar_continuous_is_not_charged_for_more_than_its_range():
    env = environments.make("mountaincar_continuous")
    state, _ = env.reset(jax.random.key(0))
    _, timestep = env.step(jax.random.key(1), state, jnp.array([3.0]))
    np.testing.assert_allclose(timestep.reward, -0.1)


@pytest.mark.parametrize("size", [4, 10])
def test_deepsea_has_its_size_and_ends_at_the_bottom(size):
    env = environments.make("deepsea", size=size, randomize_actions=False)
    assert env.spec.observation_shape == (size, size)
    assert env.spec.max_episode_steps == size
    _, steps = run(env, always(1), 2 * size)
    np.testing.assert_array_equal(np.flatnonzero(steps.terminated), [size - 1, 2 * size - 1])
    assert not np.any(steps.truncated)
    # All the way right: the treasure, less the cost of moving.
    np.testing.assert_allclose(steps.episode_return[-1], 1 - 0.01, rtol=1e-5)
    np.testing.assert_array_equal(steps.final_observation[size - 1], np.zeros((size, size)))
    np.testing.assert_array_equal(np.argwhere(steps.observation[size - 1]), [[0, 0]])


def test_catch_ends_with_the_ball_on_the_last_row():
    _, steps = run(environments.make("catch"), always(1), 27)
    np.testing.assert_array_equal(np.flatnonzero(steps.terminated), [8, 17, 26])
    assert set(steps.episode_return[8:]) <= {1, -1}
    assert np.all(steps.episode_length[8:] == 9)


def test_integer_observations_become_one_hot():
    env = environments.make("gymnax/FrozenLake-misc")
    _, observation = env.reset(jax.random.key(0))
    np.testing.assert_array_equal(observation, np.eye(16)[0])


def test_constructor_and_params_arguments_reach_their_places():
    env = environments.make("breakout", use_minimal_action_set=False, max_steps_in_episode=9)
    assert env.spec.action == environments.Discrete(6)
    assert env.spec.max_episode_steps == env.params.max_steps_in_episode == 9


def test_a_whole_number_may_be_given_for_a_real_one():
    # gymnax itself refuses this: it selects between the limit and 1.0.
    env = environments.make("gymnax/BernoulliBandit-misc", max_steps_in_episode=7)
    assert env.spec.max_episode_steps == 7


def test_unknown_arguments_are_errors_that_list_the_known():
    with pytest.raises(ValueError, match=r"'max_steps'.*did you mean 'max_steps_in_episode'"):
        environments.make("breakout", max_steps=9)
    with pytest.raises(ValueError, match=r"known: .*max_steps_in_episode.*size"):
        environments.make("deepsea", length=9)
    with pytest.raises(ValueError, match="unknown gymnax environment: 'Pong'"):
        gymnax_suite.make("Pong")


@pytest.mark.parametrize("limit", [0, -1, 2.5, "ten", None, True])
def test_an_impossible_time_limit_is_an_error(limit):
    with pytest.raises(ValueError, match="max_steps_in_episode must be a whole number"):
        environments.make("cartpole", max_steps_in_episode=limit)


@pytest.mark.parametrize("error", [URLError("no network"), EOFError("cut off")])
def test_an_environment_that_cannot_read_its_files_says_what_it_needs(error, monkeypatch):
    from gymnax.utils import load_mnist

    def fail(*args):
        raise error

    monkeypatch.setattr(load_mnist, "load_mnist", fail)
    with pytest.raises(ValueError, match=r"(no network|cut off).*It needs .*MNIST.*/tmp/mnist"):
        environments.make("gymnax/MNISTBandit-bsuite")


def test_what_needs_files_is_an_environment_of_gymnax():
    assert set(gymnax_suite.NEEDS) <= set(gymnax_suite.names())
