"""What the suites share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.environments import arguments, episodes


@pytest.mark.parametrize(
    "terminated, out_of_time, expected",
    [
        (False, False, (False, False)),
        (True, False, (True, False)),
        (False, True, (False, True)),
        (True, True, (True, False)),
    ],
)
def test_termination_comes_before_truncation(terminated, out_of_time, expected):
    reached = episodes.Moment(jnp.int32(7), jnp.array([1.0]))
    restart = episodes.Moment(jnp.int32(0), jnp.array([2.0]))
    inner, log, timestep = episodes.finish_step(
        episodes.EpisodeLog(jnp.float32(2), jnp.int32(3), jnp.float32(-1), jnp.int32(9)),
        reached,
        restart,
        reward=jnp.float32(0.5),
        terminated=jnp.bool_(terminated),
        out_of_time=jnp.bool_(out_of_time),
    )
    assert (bool(timestep.terminated), bool(timestep.truncated)) == expected
    assert timestep.final_observation == 1
    if any(expected):
        assert (inner, timestep.observation) == (0, 2)
        assert log == episodes.EpisodeLog(0, 0, 2.5, 4)
        assert (timestep.episode_return, timestep.episode_length) == (2.5, 4)
    else:
        assert (inner, timestep.observation) == (7, 1)
        assert log == episodes.EpisodeLog(2.5, 4, -1, 9)
        assert (timestep.episode_return, timestep.episode_length) == (-1, 9)


def test_strong_gives_arrays_of_their_own_type():
    tree = episodes.strong({"int": 3, "weak": jnp.asarray(2.0), "key": jax.random.key(0)})
    assert not any(x.weak_type for name, x in tree.items() if name != "key")
    assert (tree["int"].dtype, tree["weak"].dtype) == (jnp.int32, jnp.float32)
    np.testing.assert_array_equal(
        jax.random.key_data(tree["key"]), jax.random.key_data(jax.random.key(0))
    )


def test_select_works_on_keys_and_refuses_other_types():
    key, other = jax.random.split(jax.random.key(0))
    chosen = episodes.select(jnp.bool_(True), key, other)
    np.testing.assert_array_equal(jax.random.key_data(chosen), jax.random.key_data(key))
    with pytest.raises(TypeError):
        episodes.select(jnp.bool_(True), jnp.int32(1), jnp.float32(1))


def test_actions_are_clipped_and_checked():
    np.testing.assert_array_equal(episodes.clip_action(jnp.array([-3, 0.5]), 2), [-1, 0.5])
    with pytest.raises(ValueError, match=r"must have shape \(2,\), got \(3,\)"):
        episodes.clip_action(jnp.zeros(3), 2)


@pytest.mark.parametrize("given", [1, 3.0, np.int64(2)])
def test_whole_numbers_pass(given):
    assert arguments.check_positive_int("x", given) == given


@pytest.mark.parametrize("given", [0, -2, 1.5, float("nan"), float("inf"), "three", None, True])
def test_other_numbers_do_not(given):
    with pytest.raises(ValueError, match="x must be a whole number of at least 1"):
        arguments.check_positive_int("x", given)
