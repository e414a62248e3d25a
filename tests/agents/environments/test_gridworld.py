"""Optim4RL's gridworlds: hand-made transitions, chances, and the table of the eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import environments
from agents.environments import episodes, gridworld
from agents.environments.gridworld import GridworldState, Object, Room

STAY, UP, RIGHT, DOWN, LEFT, DOWN_LEFT, DOWN_RIGHT, UP_RIGHT, UP_LEFT = range(9)

# As in the paper's released code: rows, columns, copies of each object, p_respawn, steps.
TABLE = {
    "small_sparse_short": (3, 8, 1, 0.05, 50),
    "small_sparse_long": (8, 3, 1, 0.05, 500),
    "small_dense_short": (4, 6, 1, 0.5, 50),
    "small_dense_long": (6, 4, 1, 0.5, 500),
    "big_sparse_short": (10, 12, 2, 0.05, 50),
    "big_sparse_long": (12, 10, 2, 0.05, 500),
    "big_dense_short": (9, 13, 2, 0.5, 50),
    "big_dense_long": (13, 9, 2, 0.5, 500),
}


def room(*objects, rows=3, columns=4, limit=100):
    """A gridworld of our own, numbered 0..3 / 4..7 / 8..11."""
    spec = environments.EnvironmentSpec(
        "gridworld/own", (rows + 2, columns + 2, len(objects) + 1), environments.Discrete(9), limit
    )
    return gridworld.Gridworld(Room(rows, columns, objects, limit), spec)


def at(agent, *objects):
    return GridworldState(jnp.int32(agent), jnp.array(objects, jnp.int32), episodes.new_log())


def many_steps(env, state, action, count=4000):
    """The states and time steps of one step from one state with many keys."""
    keys = jax.random.split(jax.random.key(7), count)
    step = jax.jit(jax.vmap(env.step, in_axes=(0, None, None)))
    return jax.device_get(step(keys, state, jnp.int32(action)))


@pytest.mark.parametrize("name", TABLE)
def test_the_eight_gridworlds_are_those_of_the_table(name):
    rows, columns, copies, p_respawn, steps = TABLE[name]
    env = environments.make(f"gridworld/{name}")
    assert (env.room.rows, env.room.columns) == (rows, columns)
    assert env.room.objects == ((1, 0, p_respawn),) * copies + ((-1, 0.5, p_respawn),) * copies
    assert env.spec.max_episode_steps == steps
    assert env.spec.action == environments.Discrete(9)
    assert env.spec.observation_shape == (rows + 2, columns + 2, 2 * copies + 1)
    assert environments.make(name).spec.name == env.spec.name


def test_the_papers_two_abbreviations():
    assert environments.make("sdl").spec.name == "gridworld/small_dense_long"
    assert environments.make("bdl").spec.name == "gridworld/big_dense_long"


@pytest.mark.parametrize(
    ("start", "action", "end"),
    [
        (5, STAY, 5), (5, UP, 1), (5, RIGHT, 6), (5, DOWN, 9), (5, LEFT, 4),
        (5, DOWN_LEFT, 8), (5, DOWN_RIGHT, 10), (5, UP_RIGHT, 2), (5, UP_LEFT, 0),
        # Walls, straight on and diagonally; no sliding along them, no wrapping around.
        (0, UP, 0), (0, LEFT, 0), (0, DOWN_LEFT, 0), (0, UP_RIGHT, 0), (4, LEFT, 4),
        (3, RIGHT, 3), (7, DOWN_RIGHT, 7), (11, DOWN, 11), (11, RIGHT, 11),
    ],
)  # fmt: skip
def test_moves_and_walls(start, action, end):
    env = room(Object(1.0, 0.0, 0.0))
    state, timestep = env.step(jax.random.key(0), at(start, -1), jnp.int32(action))
    assert int(state.agent) == end
    assert timestep.reward == 0 and not timestep.terminated and not timestep.truncated


def test_observations_are_maps_of_each_object_and_of_the_agent():
    env = room(Object(1.0, 0.0, 0.0), Object(-1.0, 0.0, 0.0), Object(1.0, 0.0, 0.0))
    _, timestep = env.step(jax.random.key(0), at(5, 0, -1, 11), jnp.int32(RIGHT))
    expected = np.zeros((5, 6, 4))
    expected[1, 1, 0] = expected[3, 4, 2] = expected[2, 3, 3] = 1
    np.testing.assert_array_equal(timestep.observation, expected)


def test_an_object_is_collected_once_and_those_elsewhere_stay():
    env = room(Object(2.5, 0.0, 0.0), Object(-1.0, 1.0, 0.0))
    state, timestep = env.step(jax.random.key(0), at(5, 6, 10), jnp.int32(RIGHT))
    assert timestep.reward == 2.5 and not timestep.terminated
    np.testing.assert_array_equal(state.objects, [-1, 10])
    state, timestep = env.step(jax.random.key(1), state, jnp.int32(STAY))
    assert timestep.reward == 0
    _, timestep = env.step(jax.random.key(2), state, jnp.int32(DOWN))
    assert timestep.reward == -1 and timestep.terminated and not timestep.truncated
    assert (timestep.episode_return, timestep.episode_length) == (1.5, 3)
    # The end shows the world without the object, and then comes another episode.
    assert np.asarray(timestep.final_observation)[..., 1].sum() == 0
    np.testing.assert_array_equal(np.asarray(timestep.observation).sum((0, 1)), [1, 1, 1])


def test_objects_on_one_cell_are_collected_together():
    env = room(Object(1.0, 0.0, 0.0), Object(3.0, 0.0, 0.0))
    _, timestep = env.step(jax.random.key(0), at(5, 6, 6), jnp.int32(RIGHT))
    assert timestep.reward == 4


def test_the_time_limit_truncates_unless_the_task_ended():
    env = room(Object(1.0, 1.0, 0.0), limit=2)
    state, timestep = env.step(jax.random.key(0), at(0, 11), jnp.int32(STAY))
    assert not timestep.truncated
    _, cut = env.step(jax.random.key(1), state, jnp.int32(STAY))
    assert cut.truncated and not cut.terminated
    state = state._replace(agent=jnp.int32(10))
    _, ended = env.step(jax.random.key(1), state, jnp.int32(RIGHT))
    assert ended.terminated and not ended.truncated


def test_endings_have_their_probability_and_are_independent():
    env = room(Object(1.0, 0.3, 0.0), Object(1.0, 0.6, 0.0))
    _, single = many_steps(env, at(5, 6, 0), RIGHT)
    assert single.terminated.mean() == pytest.approx(0.3, abs=0.03)
    _, both = many_steps(env, at(5, 6, 6), RIGHT)
    assert both.terminated.mean() == pytest.approx(1 - 0.7 * 0.4, abs=0.03)


def test_objects_come_back_with_their_probability_anywhere_from_the_same_step_on():
    env = room(Object(1.0, 0.0, 0.3), Object(1.0, 0.0, 0.6), Object(1.0, 0.0, 1.0))
    # The first is collected by this step, the second was absent, the third stays.
    states, steps = many_steps(env, at(5, 6, -1, 3), RIGHT, 12_000)
    assert np.all(steps.reward == 1)
    present = states.objects >= 0
    np.testing.assert_allclose(present.mean(0), [0.3, 0.6, 1.0], atol=0.02)
    assert np.all(states.objects[:, 2] == 3)
    correlation = np.corrcoef(present[:, 0], present[:, 1])[0, 1]
    assert abs(correlation) < 0.04
    for i in (0, 1):  # every free cell, the agent's included
        shares = np.bincount(states.objects[present[:, i], i], minlength=12) / present[:, i].sum()
        np.testing.assert_allclose(shares, np.full(12, 1 / 12), atol=0.02)


def test_an_object_that_comes_back_under_the_agent_is_collected_by_the_next_step():
    env = room(Object(1.0, 0.0, 1.0), rows=1, columns=1)
    state = at(0, 0)
    for key in jax.random.split(jax.random.key(0), 3):
        state, timestep = env.step(key, state, jnp.int32(STAY))
        assert timestep.reward == 1


def test_first_cells_differ_and_are_uniform():
    env = room(Object(1.0, 0.0, 0.0), Object(1.0, 0.0, 0.0))
    states, observations = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 12_000))
    cells = np.column_stack([states.agent, states.objects])
    assert all(len(set(row)) == 3 for row in cells.tolist())
    for column in cells.T:
        np.testing.assert_allclose(
            np.bincount(column, minlength=12) / 12_000, np.full(12, 1 / 12), atol=0.012
        )
    np.testing.assert_array_equal(observations.sum((1, 2)), np.ones((12_000, 3)))


@pytest.mark.slow
def test_steps_are_the_same_alone_batched_and_compiled():
    env = environments.make("big_dense_long")
    keys = jax.random.split(jax.random.key(3), 4)
    states, _ = jax.vmap(env.reset)(keys)
    actions = jnp.array([UP, LEFT, STAY, DOWN_RIGHT])
    batched = jax.jit(jax.vmap(env.step))(keys, states, actions)
    for i in range(4):
        alone = env.step(keys[i], jax.tree.map(lambda x, i=i: x[i], states), actions[i])
        jax.tree.map(lambda x, y, i=i: np.testing.assert_array_equal(x[i], y), batched, alone)


def test_unknown_arguments_are_errors_that_list_the_known():
    with pytest.raises(ValueError, match="did you mean 'max_steps_in_episode'"):
        environments.make("bdl", max_steps=2)
    with pytest.raises(ValueError, match="max_steps_in_episode must be a whole number"):
        environments.make("bdl", max_steps_in_episode=0)
    with pytest.raises(ValueError, match="did you mean 'big_dense_long'"):
        gridworld.make("big_dense_lon")
