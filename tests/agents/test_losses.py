import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import losses, normalization


def test_advantages_by_hand_with_a_death_and_a_time_limit():
    """Step 0 goes on, step 1 is a death, step 2 a time limit, step 3 is cut by the rollout."""
    rewards = jnp.array([1.0, 2.0, 3.0, 4.0])
    values = jnp.array([0.5, 0.6, 0.7, 0.8])
    next_values = jnp.array([0.6, 9.0, 0.9, 1.0])  # 9: of a dead state, must not count
    terminated = jnp.array([False, True, False, False])
    ended = jnp.array([False, True, True, False])
    got = losses.generalized_advantages(rewards, values, next_values, terminated, ended, 0.9, 0.5)
    last = 4.0 + 0.9 * 1.0 - 0.8
    limit = 3.0 + 0.9 * 0.9 - 0.7
    death = 2.0 - 0.6
    first = (1.0 + 0.9 * 0.6 - 0.5) + 0.9 * 0.5 * death
    np.testing.assert_allclose(got, [first, death, limit, last], rtol=1e-6)


def test_ppo_losses_by_hand():
    advantage = jnp.array([1.0, -1.0])
    ratio = jnp.array([1.5, 0.5])  # both beyond the clip, one on each side
    loss = losses.ppo_policy_loss(jnp.log(ratio), jnp.zeros(2), advantage, 0.2)
    assert float(loss) == pytest.approx(-(1.2 - 0.8) / 2)
    # The value may move 0.2 from 1.0; target 2.0: the clipped error is the larger one.
    value = losses.ppo_value_loss(jnp.array([1.9]), jnp.array([1.0]), jnp.array([2.0]), 0.2)
    assert float(value) == pytest.approx(0.5 * 0.8**2)


def test_a2c_losses_by_hand():
    policy = losses.a2c_policy_loss(jnp.array([-1.0, -2.0]), jnp.array([2.0, 1.0]))
    assert float(policy) == pytest.approx(2.0)
    value = losses.a2c_value_loss(jnp.array([1.0, 3.0]), jnp.array([0.0, 1.0]))
    assert float(value) == pytest.approx(0.5 * (1 + 4) / 2)


def test_constant_advantages_stay_finite():
    assert np.all(losses.standardize(jnp.full(4, 7.0)) == 0)


def test_running_statistics_equal_those_of_all_data_at_once():
    data = jax.random.normal(jax.random.key(0), (5, 20, 3)) * jnp.array([1.0, 5.0, 0.1]) + 2.0
    statistics = normalization.initial_statistics((3,))
    for batch in data:
        statistics = normalization.update_statistics(statistics, batch)
    flat = data.reshape(-1, 3)
    np.testing.assert_allclose(statistics.mean, flat.mean(0), rtol=1e-4)
    np.testing.assert_allclose(statistics.variance, flat.var(0), rtol=1e-3)
    np.testing.assert_allclose(
        normalization.normalize(statistics, flat).std(0), np.ones(3), rtol=1e-3
    )


def test_reward_scaling_follows_the_discounted_return_and_resets_it():
    scaler = normalization.initial_reward_scaler(2)
    rewards, ended = jnp.array([1.0, 3.0]), jnp.array([False, True])
    scaler, scaled = normalization.scale_rewards(scaler, rewards, ended, 0.5)
    np.testing.assert_allclose(scaler.discounted_return, [1.0, 0.0])
    np.testing.assert_allclose(scaled, rewards / np.std([1.0, 3.0]), rtol=1e-2)
    scaler, _ = normalization.scale_rewards(scaler, rewards, ended, 0.5)
    np.testing.assert_allclose(scaler.discounted_return, [1.5, 0.0])
