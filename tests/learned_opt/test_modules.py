import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from tests.learned_opt.test_optimizer_contract import context, example_params


def flax_network(outputs):
    return learned_opt.from_flax(nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(outputs)]))


def haiku_network(outputs):
    transformed = hk.transform(lambda x: hk.Linear(outputs)(jnp.tanh(x)))
    return learned_opt.from_haiku(hk.without_apply_rng(transformed))


@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("make", [flax_network, haiku_network])
def test_user_networks_become_optimizers(make, outputs):
    optimizer = make(outputs)
    params = example_params()
    grads = jax.tree.map(jnp.cos, params)
    thetas = jax.vmap(optimizer.init)(jax.random.split(jax.random.key(0), 2))

    def update(theta):
        tx = optimizer.transform(theta)
        return tx.update(grads, tx.init(params), params, **context(params))[0]

    updates = jax.jit(jax.vmap(update))(thetas)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    assert bool(jnp.any(updates["actor"]["Dense_0"]["kernel"][0] != 0))


def test_a_linear_network_on_the_gradient_is_normalised_gradient_descent():
    network = nn.Dense(1, use_bias=False)
    rule = learned_opt.UpdateRule(features=("gradient",), step_size=0.5)
    optimizer = learned_opt.from_flax(network, rule)
    params = {"w": jnp.array([1.0, 2.0])}
    grads = {"w": jnp.array([3.0, 4.0])}
    tx = optimizer.transform({"params": {"kernel": jnp.array([[2.0]])}})
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(
        updates["w"], -0.5 * 2.0 * np.array([3.0, 4.0]) / np.sqrt(12.5), rtol=1e-5
    )


def test_a_network_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"\[D, 1\], \[D, 2\] or \[D, 3\]"):
        learned_opt.from_flax(nn.Dense(4))
