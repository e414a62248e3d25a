import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import networks
from agents.actor_critic import dormancy
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


MAPS = (5, 4, 3)  # height, width, channels


def example(count=6):
    return jax.random.normal(jax.random.key(9), (count, 5 * 4 * 3))


def shapes(params):
    return jax.tree.map(lambda x: x.shape, params)


def test_a_convolution_is_that_of_flax():
    kernel = jax.random.normal(jax.random.key(0), (3, 2, 3, 7))
    x = example().reshape(-1, *MAPS)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(networks._convolve(x, kernel), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3])
def test_networks_may_begin_with_convolutions(size):
    network = networks.make_actor_critic(
        Discrete(9), (32,), "relu", convolutions=((16, size),), observation_shape=MAPS
    )
    params = network.init(jax.random.key(0), example(1), False)
    hidden = {
        "Conv_0": {"kernel": (size, size, 3, 16), "bias": (16,)},
        "Dense_0": {"kernel": (5 * 4 * 16, 32), "bias": (32,)},
    }
    assert shapes(params) == {
        "actor": {**hidden, "Dense_1": {"kernel": (32, 9), "bias": (9,)}},
        "critic": {**hidden, "Dense_1": {"kernel": (32, 1), "bias": (1,)}},
    }
    policy, activity = network.policy(params, example())
    assert policy.parameters.shape == (6, 9)
    assert {name: x.shape for name, x in activity.items()} == {
        "Conv_0": (16,), "Dense_0": (32,), "Dense_1": (9,)
    }  # fmt: skip
    assert network.value(params, example())[0].shape == (6,)


def test_the_kernels_of_convolutions_start_orthogonal():
    kernel = networks.orthogonal(2.0)(jax.random.key(0), (2, 2, 5, 16)).reshape(20, 16)
    np.testing.assert_allclose(kernel.T @ kernel, 4.0 * np.eye(16), atol=1e-5)


def test_dormancy_of_a_convolution_is_of_its_filters():
    network = networks.make_actor_critic(
        Discrete(2), (), "relu", convolutions=((4, 2),), observation_shape=MAPS
    )
    params = network.init(jax.random.key(0), example(1), False)
    # Without weights, a filter's output is its bias wherever it stands.
    layer = params["actor"]["Conv_0"]
    layer["kernel"] = jnp.zeros_like(layer["kernel"])
    layer["bias"] = jnp.array([1.0, 3.0, 0.0, -1.0])
    activity = {
        "actor": network.policy(params, example())[1],
        "critic": network.value(params, example())[1],
    }
    scores = dormancy(params, activity)
    np.testing.assert_allclose(scores["actor"]["Conv_0"]["bias"], [1.0, 3.0, 0.0, 0.0], atol=1e-6)
    broadcast = jax.tree.map(lambda score, p: jnp.broadcast_to(score, p.shape), scores, params)
    assert shapes(broadcast) == shapes(params)


def shared_network():
    network = networks.make_actor_critic(
        Discrete(9), (32,), "relu", convolutions=((16, 2),), observation_shape=MAPS, shared=True
    )
    return network, network.init(jax.random.key(0), example(1), False)


def test_a_shared_trunk_is_kept_with_the_actor():
    network, params = shared_network()
    assert shapes(params["critic"]) == {"Dense_0": {"kernel": (32, 1), "bias": (1,)}}
    assert set(params["actor"]) == {"Conv_0", "Dense_0", "Dense_1"}
    value, activity = network.value(params, example())
    assert value.shape == (6,) and set(activity) == {"Dense_0"}
    # By hand from the features that the policy's head reads.
    features = network.actor.apply({"params": params["actor"]}, example()).features
    head = params["critic"]["Dense_0"]
    np.testing.assert_allclose(value, (features @ head["kernel"] + head["bias"])[:, 0], rtol=1e-5)
    scores = dormancy(params, {"actor": network.policy(params, example())[1], "critic": activity})
    assert jax.tree.structure(scores) == jax.tree.structure(params)


def test_policy_and_value_both_train_a_shared_trunk_but_not_each_other_s_head():
    network, params = shared_network()
    of_value = jax.grad(lambda p: jnp.sum(network.value(p, example())[0]))(params)
    of_policy = jax.grad(lambda p: jnp.sum(network.policy(p, example())[0].parameters ** 2))(params)
    for gradient in (of_value, of_policy):
        for layer in ("Conv_0", "Dense_0"):
            assert np.any(gradient["actor"][layer]["kernel"] != 0)
    assert np.all(of_value["actor"]["Dense_1"]["kernel"] == 0)
    assert np.any(of_value["critic"]["Dense_0"]["kernel"] != 0)
    assert np.all(of_policy["critic"]["Dense_0"]["kernel"] == 0)


@pytest.mark.slow
def test_actor_and_critic_may_differ_as_in_brax():
    network = networks.make_actor_critic(
        Continuous(8), (32,) * 4, "swish", critic_widths=(64,) * 5, critic_activation="tanh"
    )
    params = network.init(jax.random.key(0), jnp.zeros((1, 27)), False)
    assert [params["actor"][f"Dense_{i}"]["bias"].size for i in range(5)] == [32] * 4 + [8]
    assert [params["critic"][f"Dense_{i}"]["bias"].size for i in range(6)] == [64] * 5 + [1]
    assert (network.actor.activation, network.critic.activation) == ("swish", "tanh")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolutions": ((16, 2),)}, "height, width, channels.*leave convolutions empty"),
        ({"convolutions": ((16,),)}, "pairs"),
        ({"convolutions": ((16, 0),), "observation_shape": MAPS}, "at least 1"),
        ({"critic_widths": (0,)}, "at least 1"),
        ({"critic_activation": "sine"}, "tanh"),
    ],
)
def test_networks_that_cannot_be_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        networks.make_actor_critic(Discrete(2), (4,), "relu", **options)
