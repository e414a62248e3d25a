"""The fused kernel against its definition in JAX, and in all the places where updates run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.families import open_optimizer
from learned_opt.families.open_optimizer import OpenConfig, make_open
from tests.learned_opt.test_optimizer_contract import context, example_params
from tests.marks import slow_but

KINDS = {
    "open": {},
    "large": open_optimizer.LARGE,
    "no_features": open_optimizer.NO_FEATURES,
    "odd sizes": {"hidden_size": 5, "width": 7, "zero_mean": False},
    "critic only": {"features": ("parameter", "dormancy"), "noise_on": ("critic",)},
}


def optimizers(kind="open"):
    options = {**KINDS[kind], "initial_theta": "random"}
    return [make_open(OpenConfig(kernel=kernel, **options)) for kernel in ("xla", "fused")]


def theta_of(optimizer, seed=0):
    theta = optimizer.init(jax.random.key(seed))
    # Biases and scales that are not their initial 0 and 1.
    return jax.tree.map(lambda x: x + 0.2 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), theta)


def larger_params():
    """Tensors of no, one, some and many blocks."""
    sizes = {"a": (40, 30), "b": (30,), "c": (), "d": (0, 3), "e": (64, 1)}
    leaf = lambda i, shape: jax.random.normal(jax.random.key(i), shape)  # noqa: E731
    tree = {name: leaf(i, shape) for i, (name, shape) in enumerate(sizes.items())}
    return {"actor": {"x": tree}, "critic": {"x": jax.tree.map(lambda x: -0.5 * x, tree)}}


def run(optimizer, theta, params, steps=3, seed=7):
    tx = optimizer.transform(theta)

    def step(carry, t):
        params, state = carry
        told = {**context(params), "key": jax.random.fold_in(jax.random.key(seed), t)}
        grads = jax.tree.map(lambda p: 0.1 * jnp.sin(3.0 * p + t.astype(p.dtype)) + 0.01, params)
        updates, state = tx.update(grads, state, params, **told)
        return (jax.tree.map(jnp.add, params, updates), state), updates

    return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(steps))


def assert_close(a, b, rtol=2e-5, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


@pytest.mark.parametrize("kind", slow_but(("open",), list(KINDS)))
@pytest.mark.parametrize(
    "make_params", slow_but((example_params,), (example_params, larger_params))
)
def test_equals_the_definition(kind, make_params):
    xla, fused = optimizers(kind)
    theta, params = theta_of(xla), make_params()
    (expected_params, expected), _ = jax.jit(lambda: run(xla, theta, params))()
    (got_params, got), _ = jax.jit(lambda: run(fused, theta, params))()
    assert_close(got_params, expected_params)
    assert_close(got, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_equals_the_definition_outside_jit_and_with_given_noise():
    xla, fused = optimizers()
    theta, params = theta_of(xla), example_params()
    grads = jax.tree.map(jnp.cos, params)
    told = {**context(params), "noise": jax.tree.map(jnp.sin, params)}
    results = []
    for optimizer in (xla, fused):
        tx = optimizer.transform(theta)
        results.append(tx.update(grads, tx.init(params), params, **told))
    assert_close(*results)


@pytest.mark.slow
def test_a_key_of_another_generator_gives_the_same_noise():
    xla, fused = optimizers()
    theta, params = theta_of(xla), example_params()
    told = {**context(params), "key": jax.random.key(3, impl="rbg")}
    results = []
    for optimizer in (xla, fused):
        tx = optimizer.transform(theta)
        results.append(tx.update(params, tx.init(params), params, **told)[0])
    assert_close(*results)


@pytest.mark.slow
def test_batches_of_theta_and_of_seeds():
    xla, fused = optimizers()
    thetas = jax.tree.map(lambda *x: jnp.stack(x), *(theta_of(xla, seed) for seed in range(3)))
    params, seeds = example_params(), jnp.arange(2)

    def batch(optimizer):
        one = lambda theta, seed: run(optimizer, theta, params, seed=seed)[0]  # noqa: E731
        return jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(thetas, seeds)

    assert_close(batch(fused)[0], batch(xla)[0])
    mapped = jax.jit(
        lambda: jax.lax.map(lambda theta: run(fused, theta, params, seed=0)[0][0], thetas)
    )()
    assert_close(mapped, jax.tree.map(lambda x: x[:, 0], batch(fused)[0]))


@pytest.mark.slow
def test_derivatives_are_the_definitions():
    xla, fused = optimizers()
    theta, params = theta_of(xla), example_params()

    def loss(optimizer, theta, params):
        (params, _), _ = run(optimizer, theta, params, steps=2)
        return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params))

    def both(optimizer):
        return jax.jit(jax.grad(lambda t, p: loss(optimizer, t, p), (0, 1)))(theta, params)

    expected, got = both(xla), both(fused)
    assert_close(got, expected, rtol=1e-4)
    assert any(bool(jnp.any(x != 0)) for x in jax.tree.leaves(got[0]))
    tangent = jax.tree.map(jnp.ones_like, theta)
    forward = [
        jax.jvp(lambda t, o=o: loss(o, t, params), (theta,), (tangent,)) for o in (xla, fused)
    ]
    assert_close(forward[1], forward[0], rtol=1e-4)
    batched = jax.vmap(jax.grad(lambda t: loss(fused, t, params)))(
        jax.tree.map(lambda x: jnp.stack([x, x]), theta)
    )
    assert_close(jax.tree.map(lambda x: x[1], batched), expected[0], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_what_is_not_finite_is_not_hidden(bad):
    xla, fused = optimizers()
    theta, params = theta_of(xla), larger_params()
    grads = jax.tree.map(jnp.cos, params)
    grads["actor"]["x"]["a"] = grads["actor"]["x"]["a"].at[3, 4].set(bad)
    for optimizer in (xla, fused):
        tx = optimizer.transform(theta)
        update = jax.jit(functools.partial(tx.update, **context(params)))
        updates, state = update(grads, tx.init(params), params)
        # By way of the mean over all parameters.
        assert all(bool(jnp.all(jnp.isnan(u))) for u in jax.tree.leaves(updates))
        assert not bool(jnp.all(jnp.isfinite(state.hidden)))
        assert bool(jnp.any(jnp.isfinite(state.hidden)))


@pytest.mark.slow
def test_zero_gradients_are_fine():
    xla, fused = optimizers()
    theta, params = theta_of(xla), larger_params()
    results = []
    for optimizer in (xla, fused):
        tx = optimizer.transform(theta)
        zeros = jax.tree.map(jnp.zeros_like, params)
        results.append(tx.update(zeros, tx.init(params), zeros, **context(params)))
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(results[1]))
    assert_close(*results)


@pytest.mark.slow
def test_two_devices_at_once(run_python):
    text = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from tests.learned_opt.kernels.test_open_update import optimizers, theta_of, run, larger_params
xla, fused = optimizers()
thetas = jax.tree.map(lambda *x: jnp.stack(x), *(theta_of(xla, s) for s in range(4)))
params = larger_params()
one = lambda optimizer: lambda theta: run(optimizer, theta, params, steps=20)[0][0]
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("p",))
many = jax.vmap(one(fused))
sharded = jax.jit(jax.shard_map(
    many, mesh=mesh, in_specs=P("p"), out_specs=P("p"), check_vma=False))(thetas)
alone = jax.jit(many)(thetas)
jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), sharded, alone)
print(len(jax.devices()))
"""
    flags = "--xla_force_host_platform_device_count=2"
    assert run_python(text, XLA_FLAGS=flags).strip() == "2"
