import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from agents import AgentConfig, make_agent
from learned_opt.base import LearnedOptimizer
from meta.engine import memory
from meta.engine.population import Engine, broadcast_theta
from tests.agents import probes

CONFIG = AgentConfig(
    total_timesteps=4 * 8 * 5, num_envs=4, num_steps=8, num_epochs=1, num_minibatches=2, widths=(4,)
)


@pytest.fixture(scope="module")
def agent():
    return make_agent(CONFIG, probes.Probe(probes.prefer_one, length=3))


@pytest.fixture(scope="module")
def optimizer():
    return learned_opt.make("open", initial_theta="random", direction_multiplier=0.1)


@pytest.fixture(scope="module")
def engine(agent, optimizer):
    """One for all tests of it: it compiles once."""
    return Engine(optimizer, agent, members_per_device=2)


def members(optimizer, count):
    thetas = jax.vmap(optimizer.init)(jax.random.split(jax.random.key(0), count))
    return thetas, jax.random.split(jax.random.key(1), count)


@pytest.mark.slow
def test_curves_end_where_single_recordings_end_however_waves_are_filled(engine, optimizer):
    thetas, keys = members(optimizer, 5)
    end = engine.run(thetas, keys)
    curve = engine.run(thetas, keys, points=3)
    assert curve.env_steps.tolist() == [64, 96, 160]
    assert end.env_steps.tolist() == [160]
    np.testing.assert_array_equal(end.episode_return[:, 0], curve.episode_return[:, -1])
    reverse = engine.run(jax.tree.map(lambda x: x[::-1], thetas), keys[::-1])
    np.testing.assert_array_equal(end.episode_return, reverse.episode_return[::-1])


@pytest.mark.slow
def test_members_with_equal_theta_and_key_are_equal(engine, optimizer):
    theta = optimizer.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(3), 1)[jnp.zeros(4, int)]
    returns = engine.run(broadcast_theta(theta, 4), keys).episode_return
    assert len(set(returns[:, 0].tolist())) == 1


@pytest.mark.slow
def test_a_run_that_diverges_counts_as_failed(agent):
    broken = LearnedOptimizer(
        init=lambda key: {"scale": jnp.float32(1)},
        transform=lambda theta: (
            learned_opt.make("sgd")
            .transform({})
            ._replace(
                update=lambda g, s, p=None, **_: (
                    jax.tree.map(lambda x: x * theta["scale"] + theta["scale"] - theta["scale"], g),
                    s,
                )
            )
        ),
    )
    engine = Engine(broken, agent, members_per_device=2)
    keys = jax.random.split(jax.random.key(0), 2)
    thetas = {"scale": jnp.array([0.1, jnp.inf])}
    returns = engine.run(thetas, keys).episode_return
    assert np.isfinite(returns[0, 0])
    assert np.isnan(returns[1, 0])


@pytest.mark.slow
def test_progress_is_told_and_can_stop_a_run(engine, optimizer):
    thetas, keys = members(optimizer, 4)
    shares = []
    engine.run(thetas, keys, on_progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

    def stop(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run(thetas, keys, on_progress=stop)


@pytest.mark.slow
def test_one_device_equals_eight(run_python):
    text = """
import jax
jax.config.update("jax_num_cpu_devices", {devices})
import numpy as np
import learned_opt
from agents import make_agent
from meta.engine.population import Engine
from tests.agents import probes
from tests.meta.engine.test_population import CONFIG, members
agent = make_agent(CONFIG, probes.Probe(probes.prefer_one, length=3))
optimizer = learned_opt.make("open", initial_theta="random", direction_multiplier=0.1)
assert len(jax.devices()) == {devices}
recording = Engine(optimizer, agent, members_per_device=1).run(*members(optimizer, 16), points=2)
print(recording.episode_return.astype(np.float64).tolist())
"""
    one, eight = (run_python(text.format(devices=n)).splitlines()[-1] for n in (1, 8))
    assert one == eight
    assert len(set(np.array(json.loads(one))[:, 1])) > 1


def test_memory_is_estimated_from_shapes_and_refused_where_it_is_short(
    agent, optimizer, monkeypatch
):
    params = sum(np.prod(s) for s in ((1, 4), (4,), (4, 2), (2,), (1, 4), (4,), (4, 1), (1,)))
    # Parameters, momenta and hidden state, three times: with temporaries.
    assert memory.member_cost(optimizer, agent) > 3 * 4 * params * (1 + 6 + 8)
    monkeypatch.setattr(memory, "device_memory", lambda device: 1000)
    with pytest.raises(ValueError, match="reduce num_envs"):
        Engine(optimizer, agent).members_per_device(2)
