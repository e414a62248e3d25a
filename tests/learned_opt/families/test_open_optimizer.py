import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt import base, flat
from learned_opt.families import coordinate_network, open_optimizer
from learned_opt.families.open_optimizer import FEATURES, OpenConfig, make_open
from tests.learned_opt.test_optimizer_contract import context, example_params


@pytest.mark.slow
def test_fast_evaluation_equals_the_flax_definition():
    network = coordinate_network.CoordinateNetwork(hidden_size=8, width=16, num_outputs=3)
    keys = jax.random.split(jax.random.key(0), 4)
    theta = network.initial_theta(keys[0], num_inputs=7)
    # Biases and scales that are not their initial 0 and 1.
    theta = jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), theta)
    inputs, hidden = jax.random.normal(keys[1], (5, 50)), jax.random.normal(keys[2], (8, 50))
    shared = jax.random.normal(keys[3], (2,))
    rows = jnp.concatenate([inputs.T, jnp.broadcast_to(shared, (50, 2))], axis=1)
    expected_hidden, expected = jax.jit(network.apply)({"params": theta}, hidden.T, rows)
    new_hidden, outputs = jax.jit(coordinate_network.evaluate)(theta, hidden, inputs, shared)
    np.testing.assert_allclose(new_hidden, expected_hidden.T, atol=2e-6)
    np.testing.assert_allclose(outputs, expected.T, atol=2e-5)


@pytest.mark.parametrize(
    ("options", "size"), [({}, 1211), ({"hidden_size": 16, "width": 32}, 3571)]
)
def test_sizes_are_those_of_the_published_files(options, size):
    theta = make_open(OpenConfig(**options)).init(jax.random.key(0))
    assert flat.layout_of(theta).num_parameters == size
    assert all(bool(jnp.all(leaf == 0)) for leaf in jax.tree.leaves(theta))


def test_no_features_sees_fourteen_channels_and_makes_no_noise():
    config = OpenConfig(**open_optimizer.NO_FEATURES)
    assert (config.num_inputs, config.num_outputs, config.context) == (14, 2, ())


@pytest.mark.parametrize("left_out", FEATURES)
def test_an_ablated_feature_does_not_change_the_update(left_out):
    """Each of the paper's ablations ignores what it leaves out and heeds the rest."""
    features = tuple(name for name in FEATURES if name != left_out)
    optimizer = make_open(OpenConfig(features=features, initial_theta="random", kernel="xla"))
    params = example_params()
    grads = jax.tree.map(jnp.cos, params)
    told = context(params)
    changed = {
        "training_proportion": jnp.float32(0.9),
        "batch_proportion": jnp.float32(0.9),
        "dormancy": jax.tree.map(lambda d: 3.0 * d, told["dormancy"]),
    }
    tx = optimizer.transform(optimizer.init(jax.random.key(3)))
    update = jax.jit(lambda told: tx.update(grads, tx.init(params), params, **told)[0])
    before = update(told)
    for name, value in changed.items():
        after = update({**told, name: value})
        same = jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), before, after))
        assert same == (name == left_out), name


@pytest.mark.slow
def test_noise_moves_the_actor_alone_and_the_mean_update_is_zero():
    params = example_params()
    grads, told = jax.tree.map(jnp.cos, params), context(params)

    def updates(key, **options):
        options = {"initial_theta": "random", "kernel": "xla", **options}
        optimizer = make_open(OpenConfig(**options))
        tx = optimizer.transform(optimizer.init(jax.random.key(3)))
        return tx.update(grads, tx.init(params), params, **{**told, "key": key})[0]

    with_mean = jax.jit(functools.partial(updates, zero_mean=False))
    first, second = with_mean(told["key"]), with_mean(jax.random.key(8))
    jax.tree.map(np.testing.assert_array_equal, first["critic"], second["critic"])
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), first["actor"], second["actor"])
    assert jax.tree.all(moved)
    total = sum(float(jnp.sum(u)) for u in jax.tree.leaves(jax.jit(updates)(told["key"])))
    assert abs(total) < 1e-6


def test_a_tree_without_the_actor_is_refused_by_name():
    tx = learned_opt.make("open").transform(learned_opt.make("open").init(jax.random.key(0)))
    params = {"policy": {"w": jnp.ones((2, 2))}}
    told = {**context(params), "dormancy": jax.tree.map(jnp.ones_like, params)}
    with pytest.raises(ValueError, match=r"policy.*noise_on"):
        tx.update(params, tx.init(params), params, **told)


def test_missing_context_and_params_are_named():
    optimizer = learned_opt.make("open")
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    params = example_params()
    with pytest.raises(ValueError, match="dormancy"):
        tx.update(params, tx.init(params), params, key=jax.random.key(0))
    with pytest.raises(ValueError, match="reads the parameters"):
        tx.update(params, tx.init(params))


def test_layers_are_ordered_by_number_and_log_std_comes_last():
    layer = {"kernel": jnp.zeros((1, 1)), "bias": jnp.zeros(1)}
    network = {f"Dense_{i}": layer for i in range(11)} | {"log_std": jnp.zeros(1)}
    proportions = base.layer_proportions({"actor": network, "critic": {"Dense_0": layer}})
    assert proportions["actor"]["Dense_10"]["kernel"] == pytest.approx(10 / 11)
    assert proportions["actor"]["Dense_2"]["bias"] == pytest.approx(2 / 11)
    assert proportions["actor"]["log_std"] == 1.0
    assert proportions["critic"]["Dense_0"]["kernel"] == 0.0
