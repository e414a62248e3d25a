"""What every optimizer of the registry must hold to."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from tests.marks import slow_but


def example_params():
    keys = iter(jax.random.split(jax.random.key(0), 20))
    dense = lambda a, b: {  # noqa: E731
        "kernel": jax.random.normal(next(keys), (a, b)),
        "bias": jax.random.normal(next(keys), (b,)),
    }
    return {
        "actor": {"Dense_0": dense(4, 3), "Dense_1": dense(3, 2), "log_std": jnp.zeros(2)},
        "critic": {"Dense_0": dense(4, 3), "Dense_1": dense(3, 1), "scalar": jnp.float32(0.5)},
    }


def context(params):
    return {
        "key": jax.random.key(7),
        "training_proportion": jnp.float32(0.25),
        "batch_proportion": jnp.float32(0.5),
        "dormancy": jax.tree.map(lambda x: jnp.ones(x.shape[-1:]), params),
        "loss": jnp.float32(1.0),
    }


@pytest.fixture(params=slow_but(("adam", "open", "optim4rl"), learned_opt.names()))
def optimizer(request):
    if learned_opt.is_handcrafted(request.param):
        request.getfixturevalue("optax_promotes")
    options = {}
    if request.param.startswith(("open", "no_features")):
        options["initial_theta"] = "random"  # theirs is 0, where nothing would be seen
    if request.param == "velo":
        options = {"total_updates": 10, "lstm_hidden_size": 8, "num_parameter_sets": 4}
    return learned_opt.make(request.param, **options)


@pytest.fixture
def params():
    return example_params()


@pytest.fixture
def grads(params):
    return jax.tree.map(lambda x: 0.1 * jnp.sin(3.0 * x) + 0.01, params)


def test_update_has_the_structure_and_dtypes_of_params(optimizer, params, grads):
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    updates, state = jax.jit(tx.update)(grads, tx.init(params), params, **context(params))
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
    assert all(
        u.dtype == p.dtype for u, p in zip(*map(jax.tree.leaves, (updates, params)), strict=True)
    )
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(params))
    assert all(bool(jnp.all(jnp.isfinite(u))) for u in jax.tree.leaves(updates))
    assert any(bool(jnp.any(u != 0)) for u in jax.tree.leaves(updates))


def test_unknown_context_is_ignored(optimizer, params, grads):
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    known, _ = tx.update(grads, tx.init(params), params, **context(params))
    more, _ = tx.update(grads, tx.init(params), params, **context(params), weather="rain")
    jax.tree.map(np.testing.assert_array_equal, known, more)


def test_state_does_not_hold_theta(optimizer, params):
    theta = optimizer.init(jax.random.key(0))
    other = jax.tree.map(lambda x: x + 1.0, theta)
    states = [optimizer.transform(t).init(params) for t in (theta, other)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_second_step_does_not_compile_again(optimizer, params, grads):
    theta = optimizer.init(jax.random.key(0))
    traces = []

    @jax.jit
    def step(theta, grads, state, params, context):
        traces.append(1)
        updates, state = optimizer.transform(theta).update(grads, state, params, **context)
        return optax.apply_updates(params, updates), state

    state = optimizer.transform(theta).init(params)
    params, state = step(theta, grads, state, params, context(params))
    step(theta, grads, state, params, context(params))
    assert len(traces) == 1


@pytest.mark.slow
def test_vmap_over_theta_equals_one_by_one(optimizer, params, grads):
    thetas = jax.vmap(optimizer.init)(jax.random.split(jax.random.key(1), 3))
    if not jax.tree.leaves(thetas):
        pytest.skip("a handcrafted optimizer has no theta to vmap over")

    def first_update(theta):
        tx = optimizer.transform(theta)
        return tx.update(grads, tx.init(params), params, **context(params))[0]

    batched = jax.vmap(first_update)(thetas)
    for i in range(3):
        single = first_update(jax.tree.map(lambda x, i=i: x[i], thetas))
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-7),
            batched,
            single,
        )


@pytest.mark.slow
def test_gradient_with_respect_to_theta_is_finite(optimizer, params, grads):
    theta = optimizer.init(jax.random.key(0))

    def size(theta):
        tx = optimizer.transform(theta)
        state = tx.init(params)
        for _ in range(2):
            updates, state = tx.update(grads, state, params, **context(params))
        return sum(jnp.sum(jnp.square(u)) for u in jax.tree.leaves(updates))

    gradient = jax.tree.leaves(jax.grad(size)(theta))
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in gradient)
    if gradient:
        assert any(bool(jnp.any(g != 0)) for g in gradient)


def test_composes_in_a_chain(optimizer, params, grads):
    tx = optax.chain(optimizer.transform(optimizer.init(jax.random.key(0))), optax.scale(2.0))
    plain = optimizer.transform(optimizer.init(jax.random.key(0)))
    doubled, _ = tx.update(grads, tx.init(params), params, **context(params))
    single, _ = plain.update(grads, plain.init(params), params, **context(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 2 * b, rtol=1e-6), doubled, single)


def test_zero_gradients_give_finite_updates(optimizer, params):
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params, **context(params))
    assert all(bool(jnp.all(jnp.isfinite(u))) for u in jax.tree.leaves(updates))
