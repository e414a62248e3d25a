"""The fused recurrent update against its definition in JAX, with all its derivatives."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt import kernels
from learned_opt.families import optim4rl
from tests.marks import slow_but

FAMILIES = optim4rl.FAMILIES


def optimizers(family, **options):
    """The definition and the fused kernel."""
    options = {"learning_rate": 1.0, "gradient_clip": None, **options}
    return [learned_opt.make(family, kernel=kernel, **options) for kernel in ("xla", "fused")]


def theta_of(optimizer, seed=0):
    theta = optimizer.init(jax.random.key(seed))
    # Biases that are not their initial 0.
    return jax.tree.map(lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), theta)


def example(optimizer, theta, size, seed=1):
    """(gradient, state): gradients of 0 and of many sizes, states in (-1, 1)."""
    keys = jax.random.split(jax.random.key(seed), 3)
    gradient = jax.random.normal(keys[0], (size,))
    gradient = (gradient * 10.0 ** jax.random.uniform(keys[1], (size,), minval=-7.0)).at[0].set(0)
    state = optimizer.transform(theta).init({"w": gradient})
    leaves, treedef = jax.tree.flatten(state)
    draws = zip(jax.random.split(keys[2], len(leaves)), leaves, strict=True)
    return gradient, treedef.unflatten(jnp.tanh(jax.random.normal(k, x.shape)) for k, x in draws)


def update(optimizer):
    def run(theta, gradient, state):
        updates, state = optimizer.transform(theta).update({"w": gradient}, state)
        return updates["w"], state

    return run


def with_derivatives(optimizer):
    """(results, cotangents of theta, gradient and state)."""

    def run(theta, gradient, state):
        results, pull = jax.vjp(update(optimizer), theta, gradient, state)
        # Weights of every result that are neither all equal nor all of one sign.
        weights = lambda x: jnp.cos(1.0 + jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)  # noqa: E731
        return results, pull(jax.tree.map(weights, results))

    return run


def assert_close(found, expected, tolerance):
    """Errors against the largest element of each array."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = max(1e-3, float(jnp.max(jnp.abs(b))))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("size", slow_but((64,), (3, 64, 1000)))
@pytest.mark.parametrize("family", slow_but(("optim4rl",), FAMILIES))
def test_equals_the_definition_with_its_derivatives(family, size):
    xla, fused = optimizers(family)
    theta = theta_of(xla)
    arguments = (theta, *example(xla, theta, size))
    expected, expected_cotangents = jax.jit(with_derivatives(xla))(*arguments)
    found, cotangents = jax.jit(with_derivatives(fused))(*arguments)
    assert_close(found, expected, 1e-6)
    # Sums over all parameters, which XLA adds up in another order.
    assert_close(cotangents, expected_cotangents, 2e-5)


@pytest.mark.slow
def test_other_hidden_sizes():
    for size in (1, 3, 16):
        xla, fused = optimizers("linear", hidden_size=size)
        theta = theta_of(xla)
        arguments = (theta, *example(xla, theta, 70))
        expected = jax.jit(with_derivatives(xla))(*arguments)
        # With one unit, a derivative is a single sum of terms that mostly cancel.
        assert_close(jax.jit(with_derivatives(fused))(*arguments), expected, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", slow_but(("optim4rl",), FAMILIES))
def test_batches_of_agents_and_of_theta(family):
    xla, fused = optimizers(family)
    theta = theta_of(xla)
    gradients, states = jax.vmap(lambda i: example(xla, theta, 70, i))(jnp.arange(3))
    agents = lambda o: jax.jit(jax.vmap(with_derivatives(o), (None, 0, 0)))  # noqa: E731
    found = agents(fused)(theta, gradients, states)
    assert jax.tree.leaves(found[1][0])[0].shape[0] == 3  # a gradient of theta for each
    assert_close(found, agents(xla)(theta, gradients, states), 1e-5)
    thetas = jax.tree.map(lambda x, y: jnp.stack([x, y]), theta, theta_of(xla, 1))
    both = lambda o: jax.jit(jax.vmap(jax.vmap(update(o), (None, 0, 0)), (0, None, None)))  # noqa: E731
    assert_close(both(fused)(thetas, gradients, states), both(xla)(thetas, gradients, states), 1e-6)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_meta_gradients_through_a_scan(checkpoint):
    def meta_gradient(optimizer):
        def loss(theta, gradient, state):
            step = update(optimizer)
            if checkpoint:
                step = jax.checkpoint(step)

            def body(carry, _):
                x, state = carry
                # The optimizer sees where it went: derivatives flow through the gradient too.
                change, state = step(theta, jnp.sin(x), state)
                return (x + 0.1 * change, state), None

            (x, _), _ = jax.lax.scan(body, (gradient, state), None, length=4)
            return jnp.sum(jnp.square(x - 1.0))

        return jax.jit(jax.value_and_grad(loss))

    xla, fused = optimizers("optim4rl")
    theta = theta_of(xla)
    arguments = (theta, *example(xla, theta, 100))
    expected, found = meta_gradient(xla)(*arguments), meta_gradient(fused)(*arguments)
    assert any(bool(jnp.any(x != 0)) for x in jax.tree.leaves(found[1]))
    assert_close(found, expected, 1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_nan_stays_where_it_comes_in(family):
    _, fused = optimizers(family)
    theta = theta_of(fused)
    gradient, state = example(fused, theta, 70)
    step, (hidden,) = update(fused)(theta, gradient.at[66].set(jnp.nan), state)
    bad = np.arange(70) == 66
    np.testing.assert_array_equal(jnp.isnan(step), bad)
    for rows in hidden:
        np.testing.assert_array_equal(jnp.all(jnp.isnan(rows), axis=0), bad)


def test_saturated_gates_pass_nothing_on():
    # The square of a huge gradient saturates all gates: what it is multiplied by must be 0.
    _, fused = optimizers("optim4rl")
    theta = theta_of(fused)
    gradient, state = example(fused, theta, 40)
    _, cotangents = with_derivatives(fused)(theta, jnp.full_like(gradient, 1e8), state)
    kernels = [cotangents[0]["rnn2"][gate]["kernel"] for gate in ("ir", "iz", "in")]
    assert all(bool(jnp.all(kernel == 0)) for kernel in kernels)


@pytest.mark.slow
def test_two_devices_at_once(run_python):
    text = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from tests.learned_opt.kernels.test_recurrent_update import (
    example, optimizers, theta_of, with_derivatives,
)
xla, fused = optimizers("optim4rl")
theta = theta_of(xla)
agents = jax.vmap(lambda i: example(xla, theta, 70, i))(jnp.arange(4))
many = jax.vmap(with_derivatives(fused), (None, 0, 0))
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("n",))
sharded = jax.jit(jax.shard_map(many, mesh=mesh, in_specs=(P(), P("n"), P("n")), out_specs=P("n"),
    check_vma=False))(theta, *agents)
alone = jax.jit(many)(theta, *agents)
jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), sharded, alone)
print(len(jax.devices()))
"""
    flags = "--xla_force_host_platform_device_count=2"
    assert run_python(text, XLA_FLAGS=flags).strip() == "2"


@pytest.mark.slow
def test_sizes_without_a_kernel():
    large = {"hidden_size": kernels.MAX_HIDDEN_SIZE + 1}
    optimizer = learned_opt.make("linear", kernel="fused", **large)
    grads = {"w": jnp.ones(3)}
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    with pytest.raises(ValueError, match="hidden_size of at most 16, got 17"):
        tx.update(grads, tx.init(grads))
    optimizer = learned_opt.make("linear", **large)  # by XLA
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    tx.update(grads, tx.init(grads))
    with pytest.raises(ValueError, match="kernel must be one of"):
        learned_opt.make("linear", kernel="fast")


@pytest.mark.parametrize(
    ("family", "size"),
    slow_but(
        (("optim4rl", 150),),
        list(itertools.product(FAMILIES, (7, 150, "no kernel"))),
        unpack=True,
    ),
)
def test_a_stretch_has_the_derivative_of_its_updates_one_by_one(family, size, monkeypatch):
    # 150 parameters: two whole blocks and a part of one; 7: a part alone.
    if size == "no kernel":  # what programs for other platforms contain
        choose = lambda *args, cpu, default: default(*args)  # noqa: E731
        monkeypatch.setattr(jax.lax, "platform_dependent", choose)
        size = 7
    rate, penalty = 0.1, 0.3
    xla, fused = optimizers(family, learning_rate=rate, gradient_clip=0.5)
    assert kernels.stretch_of(xla) is None
    theta = theta_of(xla)
    gradient, state = example(xla, theta, size)
    gradients = jnp.stack([gradient, jnp.roll(gradient, 1), -0.3 * gradient])
    weights = jnp.cos(jnp.arange(size, dtype=jnp.float32))

    def one_by_one(theta):
        params, squared_norm, inner = jnp.zeros(size), 0.0, state
        for row in gradients:
            updates, inner = xla.transform(theta).update({"w": row}, inner)
            params = params + updates["w"]
            squared_norm += jnp.sum(jnp.square(updates["w"]))
        return params @ weights + penalty * squared_norm, (params, squared_norm)

    (value, known), expected = jax.jit(jax.value_and_grad(one_by_one, has_aux=True))(theta)

    def at_once(theta):
        result = kernels.StretchResult({"w": known[0]}, known[1])
        result = kernels.stretch_of(fused)(theta, state, gradients, result)
        return result.params["w"] @ weights + penalty * result.squared_norm

    found = jax.jit(jax.value_and_grad(at_once))(theta)
    np.testing.assert_allclose(found[0], value, rtol=1e-5)
    assert_close(found[1], expected, 1e-5)
    # Batches of batches share one room.
    batch = jax.tree.map(lambda x: jnp.stack([x, x])[None], theta)
    batched = jax.jit(jax.vmap(jax.vmap(jax.grad(at_once))))(batch)
    assert_close(jax.tree.map(lambda x: x[0, 1], batched), expected, 1e-5)
