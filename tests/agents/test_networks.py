import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import networks
from agents.environments.base import Continuous, Discrete


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_orthogonal_initialisation_is_orthogonal(shape):
    w = networks.orthogonal(2.0)(jax.random.key(0), shape)
    small = w.T @ w if shape[0] >= shape[1] else w @ w.T
    np.testing.assert_allclose(small, 4.0 * np.eye(min(shape)), atol=1e-5)


def test_initialising_many_agents_inside_a_compiled_program_does_not_hang(run_python):
    """Batched QR decompositions deadlocked XLA's CPU client on two threads."""
    text = """
import os
os.sched_setaffinity(0, set(list(os.sched_getaffinity(0))[:2]))
import jax, jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", 2)
from agents import networks
from agents.environments.base import Discrete
net = networks.make_actor_critic(Discrete(3), (64, 64), "relu")
init = lambda key: net.init(key, jnp.zeros((1, 64)), False)
mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
spec = jax.sharding.PartitionSpec("i")
f = jax.shard_map(jax.vmap(init), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
f = jax.jit(f)
for seed in range(20):
    jax.block_until_ready(f(jax.random.split(jax.random.key(seed), 8)))
single = init(jax.random.split(jax.random.key(19), 8)[5])["actor"]["Dense_1"]["kernel"]
batched = f(jax.random.split(jax.random.key(19), 8))["actor"]["Dense_1"]["kernel"][5]
print("difference", float(jnp.abs(single - batched).max()))
"""
    difference = float(run_python(text, timeout=120).split()[-1])
    assert difference < 1e-5


def test_distributions_agree_with_scipy():
    from scipy import stats

    logits = jnp.log(jnp.array([[0.2, 0.3, 0.5]]))
    categorical = networks.Distribution(logits, None)
    assert float(categorical.log_prob(jnp.array([1]))[0]) == pytest.approx(np.log(0.3), rel=1e-5)
    assert float(categorical.entropy()[0]) == pytest.approx(
        stats.entropy([0.2, 0.3, 0.5]), rel=1e-5
    )
    mean, log_std = jnp.array([[0.5, -1.0]]), jnp.array([0.2, -0.3])
    normal = networks.Distribution(mean, log_std)
    reference = stats.norm(np.array([0.5, -1.0]), np.exp([0.2, -0.3]))
    action = np.array([0.1, 0.4])
    expected = reference.logpdf(action).sum()
    assert float(normal.log_prob(jnp.asarray(action)[None])[0]) == pytest.approx(expected, rel=1e-5)
    assert float(normal.entropy()[0]) == pytest.approx(reference.entropy().sum(), rel=1e-5)


def test_samples_follow_the_distribution():
    noise = networks.draw_noise(jax.random.key(0), Discrete(3), (20_000,))
    logits = jnp.log(jnp.array([0.2, 0.3, 0.5]))
    actions = networks.Distribution(jnp.broadcast_to(logits, (20_000, 3)), None).sample(noise)
    shares = np.bincount(np.asarray(actions), minlength=3) / 20_000
    np.testing.assert_allclose(shares, [0.2, 0.3, 0.5], atol=0.015)
    noise = networks.draw_noise(jax.random.key(0), Continuous(1), (20_000,))
    drawn = networks.Distribution(jnp.full((20_000, 1), 2.0), jnp.log(jnp.array([0.5]))).sample(
        noise
    )
    assert float(drawn.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.02)


def test_equal_hidden_layers_start_equal_and_others_do_not():
    network = networks.make_actor_critic(Discrete(3), (4,), "tanh")
    equal = network.init(jax.random.key(0), jnp.zeros((1, 5)), True)
    other = network.init(jax.random.key(0), jnp.zeros((1, 5)), False)
    np.testing.assert_array_equal(
        equal["actor"]["Dense_0"]["kernel"], equal["critic"]["Dense_0"]["kernel"]
    )
    assert np.any(other["actor"]["Dense_0"]["kernel"] != other["critic"]["Dense_0"]["kernel"])
