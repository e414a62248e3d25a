"""The training step on problems with known answers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from agents import AgentConfig, environments, make_agent, rollout
from agents.actor_critic import dormancy, proportion
from tests.agents import probes

SMALL = AgentConfig(
    total_timesteps=32 * 8 * 40,
    num_envs=8,
    num_steps=32,
    num_epochs=2,
    num_minibatches=2,
    widths=(16,),
    entropy_coefficient=0.0,
)
A2C = dataclasses.replace(
    SMALL,
    algorithm="a2c",
    num_epochs=1,
    num_minibatches=1,
    normalize_advantages=False,
    total_timesteps=32 * 8 * 150,
)


def train(config, env, rate=0.02):
    agent = make_agent(config, env)
    tx = learned_opt.make("adam", learning_rate=rate).transform({})

    @jax.jit
    def run(key):
        state = agent.init(key, tx)
        return jax.lax.scan(
            lambda s, _: agent.train_step(tx, s), state, length=config.num_iterations
        )

    state, metrics = run(jax.random.key(0))
    return agent, state, metrics


@pytest.mark.parametrize("config", [SMALL, A2C], ids=["ppo", "a2c"])
def test_learns_the_better_of_two_actions(config):
    agent, state, _ = train(config, probes.Probe(probes.prefer_one))
    policy, _ = agent.network.policy(state.params, jnp.zeros((1, 1)))
    assert float(jax.nn.softmax(policy.parameters)[0, 1]) > 0.95


@pytest.mark.slow
def test_learns_a_continuous_target():
    agent, state, _ = train(SMALL, probes.Probe(probes.near_half, probes.CONTINUOUS))
    policy, _ = agent.network.policy(state.params, jnp.zeros((1, 1)))
    assert float(policy.parameters[0, 0]) == pytest.approx(0.5, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("truncation", ["terminate", "bootstrap"])
def test_value_of_a_time_limited_task(truncation):
    """Reward 1 for ever, episodes cut after 4 steps: 1 / (1 - discount) if time limits are
    bootstrapped, the sum of what is left of the episode if they count as deaths.
    """
    config = dataclasses.replace(
        SMALL, discount=0.5, truncation=truncation, clip_epsilon=10.0, total_timesteps=32 * 8 * 100
    )
    agent, state, _ = train(config, probes.Probe(lambda a: 1.0, length=4, truncates=True))
    values, _ = agent.network.value(state.params, jnp.array([[0.0], [0.75]]))
    expected = [2.0, 2.0] if truncation == "bootstrap" else [1.875, 1.0]
    np.testing.assert_allclose(values, expected, atol=0.12)


@pytest.mark.slow
def test_update_context_follows_its_documented_schedule():
    """A transformation that changes nothing and writes down what it is told."""

    def update(grads, state, params=None, **context):
        count, log = state
        told = jnp.stack([context["training_proportion"], context["batch_proportion"]])
        return jax.tree.map(jnp.zeros_like, grads), (count + 1, log.at[count].set(told))

    config = dataclasses.replace(SMALL, num_epochs=2, num_minibatches=2, total_timesteps=3 * 256)
    agent = make_agent(config, probes.Probe(probes.prefer_one))
    tx = optax.GradientTransformationExtraArgs(lambda p: (0, jnp.zeros((12, 2))), update)
    state = agent.init(jax.random.key(0), tx)
    for _ in range(3):
        state, _ = jax.jit(lambda s: agent.train_step(tx, s))(state)
    seen = np.asarray(state.opt_state[1])
    np.testing.assert_allclose(seen[:, 0], np.repeat([0.0, 0.5, 1.0], 4))
    np.testing.assert_allclose(seen[:, 1], np.tile([0.0, 0.0, 1.0, 1.0], 3))


def test_one_iteration_and_one_epoch_have_proportion_zero():
    config = dataclasses.replace(A2C, total_timesteps=256)
    agent = make_agent(config, probes.Probe(probes.prefer_one))
    assert float(proportion(jnp.int32(0), agent.num_iterations)) == 0.0


def test_dormancy_is_one_on_average_and_follows_the_neuron_that_a_weight_feeds():
    params = {"actor": {"Dense_0": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}}}
    params["actor"]["log_std"] = jnp.zeros(3)
    scores = dormancy(params, {"actor": {"Dense_0": jnp.array([0.0, 1.0, 2.0])}})
    np.testing.assert_allclose(scores["actor"]["Dense_0"]["kernel"], [0.0, 1.0, 2.0], atol=1e-6)
    assert scores["actor"]["log_std"] == 1.0
    silent = dormancy(params, {"actor": {"Dense_0": jnp.zeros(3)}})
    np.testing.assert_allclose(silent["actor"]["Dense_0"]["bias"], np.ones(3))


@pytest.mark.slow
def test_gradients_of_actor_and_critic_are_clipped_apart():
    config = dataclasses.replace(SMALL, max_grad_norm=1e-3)
    agent = make_agent(config, probes.Probe(lambda a: 100.0 * a))
    state = agent.init(jax.random.key(0), optax.identity())
    index = agent._minibatch_indices(jax.random.key(0))
    assert sorted(np.asarray(index[:2]).ravel()) == list(range(256))
    _, batch = jax.jit(
        lambda s: rollout.collect(
            agent.config, agent.env, agent.network, s.params, s, jax.random.key(1)
        )
    )(state)
    batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
    grads, _, _ = agent._gradient(state.params, batch)
    for network in ("actor", "critic"):
        assert float(optax.tree.norm(grads[network])) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.slow
def test_outer_loss_has_a_policy_gradient_and_no_gradient_through_its_data():
    agent, state, _ = train(
        dataclasses.replace(SMALL, total_timesteps=512), probes.Probe(probes.prefer_one)
    )
    gradient = jax.grad(lambda p: agent.outer_loss(state._replace(params=p))[0])(state.params)
    assert float(optax.tree.norm(gradient["actor"])) > 1e-4
    assert float(optax.tree.norm(gradient["critic"])) > 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_minibatches": 3}, r"8 x 32 = 256 .*num_minibatches=3.*nearest.*(2|4)"),
        ({"total_timesteps": 10}, "at least 256"),
        ({"algorithm": "dqn"}, "a2c, ppo"),
        ({"activation": "sine"}, "tanh"),
        ({"discount": 1.5}, r"\[0, 1\]"),
        ({"truncation": "ignore"}, "bootstrap"),
        ({"num_envs": 0}, "at least 1"),
        ({"critic_activation": "sine"}, "critic_activation.*tanh"),
        ({"network": "common"}, "'separate' or 'shared'"),
        ({"network": "shared"}, "set equal_hidden to False"),
    ],
)
def test_settings_that_do_not_fit_are_explained(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def test_settings_of_networks_may_be_lists_as_read_from_files():
    config = dataclasses.replace(SMALL, widths=[8], critic_widths=[4], convolutions=[[16, 2]])
    assert (config.widths, config.critic_widths) == ((8,), (4,))
    assert config.convolutions == ((16, 2),)
    assert hash(config)


OPTIM4RL = AgentConfig(
    algorithm="a2c",
    total_timesteps=64 * 20 * 400,
    num_envs=64,
    num_steps=20,
    num_epochs=1,
    num_minibatches=1,
    normalize_advantages=False,
    discount=0.995,
    max_grad_norm=0.0,
    network="shared",
    equal_hidden=False,
    widths=(32,),
    truncation="bootstrap",
)


@pytest.mark.slow
def test_a2c_learns_a_small_gridworld():
    """A random agent ends around 0 there: it takes the good and the bad object alike."""
    _, _, metrics = train(OPTIM4RL, environments.make("small_dense_short"), rate=1e-2)
    early, late = metrics["episode_return"][5:15].mean(), metrics["episode_return"][-20:].mean()
    assert -1 < early < 1
    assert late > 3


@pytest.mark.slow
def test_a_shared_network_with_convolutions_trains_end_to_end():
    config = dataclasses.replace(
        OPTIM4RL, num_envs=4, total_timesteps=4 * 20 * 2, convolutions=((16, 2),)
    )
    agent, state, metrics = train(config, environments.make("big_dense_long"))
    before = agent.init(jax.random.key(0), optax.identity()).params
    moved = jax.tree.map(lambda x, y: bool(np.any(x != y)), before, state.params)
    assert all(jax.tree.leaves(moved))
    assert np.all(np.isfinite(metrics["loss"]))
