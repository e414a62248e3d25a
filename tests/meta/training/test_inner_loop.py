import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import learned_opt
from agents import AgentConfig, environments, make_agent
from meta.training.inner_loop import REMAT, InnerLoop
from tests.meta.quadratic import QuadraticAgent, loss

STEPS = 4


def quadratic(optimizer, second_order=True, remat="none", regularization=0.0):
    return InnerLoop(QuadraticAgent(), optimizer, STEPS, remat, second_order, regularization)


def linear():
    return learned_opt.make("linear", learning_rate=0.1, gradient_clip=None)


def objective(loop, theta):
    return loop.objective(theta, loop.init(jax.random.key(5)))[0]


def test_the_meta_gradient_of_a_quadratic_equals_finite_differences():
    optimizer = linear()
    loop = quadratic(optimizer)
    theta = optimizer.init(jax.random.key(0))
    flat, unravel = ravel_pytree(theta)
    function = jax.jit(lambda vector: objective(loop, unravel(vector)))
    gradient = jax.jit(jax.grad(function))(flat)
    directions = jax.random.normal(jax.random.key(1), (8, flat.size)) / np.sqrt(flat.size)
    step = 2e-2
    for direction in directions:
        # Richardson's extrapolation of central differences: its error is of the fourth order.
        near, far = (
            (function(flat + h * direction) - function(flat - h * direction)) / (2 * h)
            for h in (step, 2 * step)
        )
        difference = (4 * near - far) / 3
        np.testing.assert_allclose(direction @ gradient, difference, atol=1e-4)


def test_the_meta_gradient_agrees_with_a_large_evolution_estimate():
    optimizer = linear()
    loop = quadratic(optimizer)
    flat, unravel = ravel_pytree(optimizer.init(jax.random.key(0)))
    function = lambda vector: objective(loop, unravel(vector))  # noqa: E731
    gradient = jax.jit(jax.grad(function))(flat)
    sigma, samples = 0.02, 20_000
    noise = jax.random.normal(jax.random.key(2), (samples, flat.size))
    ends = jax.jit(
        lambda noise: jax.lax.map(
            lambda e: function(flat + sigma * e) - function(flat - sigma * e),
            noise,
            batch_size=500,
        )
    )(noise)
    estimate = ends @ noise / (2 * sigma * samples)
    cosine = estimate @ gradient / (jnp.linalg.norm(estimate) * jnp.linalg.norm(gradient))
    assert cosine > 0.95


def test_first_order_leaves_out_how_updates_change_later_gradients():
    optimizer = linear()
    theta = optimizer.init(jax.random.key(0))
    gradients = [
        ravel_pytree(
            jax.jit(jax.grad(lambda t, o=o: objective(quadratic(optimizer, o), t)))(theta)
        )[0]
        for o in (False, True)
    ]
    assert float(jnp.max(jnp.abs(gradients[0] - gradients[1]))) > 1e-3
    # By hand: params move by the sum of updates, each a function of a constant gradient.
    loop = quadratic(optimizer)
    state = loop.init(jax.random.key(5))
    seen, params = [], state.params
    tx = optimizer.transform(theta)
    inner = tx.init(params)
    for _ in range(STEPS):
        seen.append(jax.grad(loss)(params))
        updates, inner = tx.update(seen[-1], inner, params)
        params = jax.tree.map(jnp.add, params, updates)

    def by_hand(theta):
        tx, params = optimizer.transform(theta), state.params
        inner = tx.init(params)
        for grads in seen:
            updates, inner = tx.update(grads, inner, params)
            params = jax.tree.map(jnp.add, params, updates)
        return loss(params)

    expected = ravel_pytree(jax.jit(jax.grad(by_hand))(theta))[0]
    np.testing.assert_allclose(gradients[0], expected, atol=1e-5)


@pytest.mark.parametrize("remat", REMAT)
def test_recomputation_changes_no_gradient(remat):
    optimizer = linear()
    theta = optimizer.init(jax.random.key(0))
    loops = [quadratic(optimizer, remat=kind) for kind in ("none", remat)]
    plain, other = (
        ravel_pytree(jax.jit(jax.grad(lambda t, loop=loop: objective(loop, t)))(theta))[0]
        for loop in loops
    )
    np.testing.assert_allclose(plain, other, rtol=1e-5, atol=1e-6)


def test_regularization_adds_the_mean_squared_norm_of_updates():
    optimizer = learned_opt.make("sgd", learning_rate=0.5)
    plain, penalised = (
        quadratic(optimizer, regularization=weight).objective(
            {}, quadratic(optimizer).init(jax.random.key(5))
        )
        for weight in (0.0, 2.0)
    )
    stretch = plain[1][1]
    np.testing.assert_allclose(
        penalised[0] - plain[0], 2.0 * float(stretch.update_norm) ** 2, rtol=1e-5
    )
    assert float(stretch.sign_agreement) == 1.0  # SGD goes against every gradient
    assert float(stretch.relative_update) > 0


def ppo_loop(**changes):
    config = AgentConfig(
        total_timesteps=512,
        num_envs=4,
        num_steps=8,
        num_epochs=2,
        num_minibatches=2,
        widths=(8,),
        max_grad_norm=0.0,
        **changes,
    )
    agent = make_agent(config, environments.make("catch"))
    optimizer = learned_opt.make("optim4rl", learning_rate=1e-3)
    return InnerLoop(agent, optimizer, 2, "update", False, 0.0)


@pytest.mark.slow
def test_the_policy_part_of_the_outer_gradient_reaches_theta():
    # Without value and entropy terms, the outer loss is the policy's alone; a ratio whose
    # derivative vanishes would leave nothing.
    loop = ppo_loop(value_coefficient=0.0, entropy_coefficient=0.0)
    theta = loop.optimizer.init(jax.random.key(0))
    state = jax.jit(loop.init)(jax.random.key(1))
    gradient, (state, _) = jax.jit(jax.grad(loop.objective, has_aux=True))(theta, state)
    flat = ravel_pytree(gradient)[0]
    assert bool(jnp.all(jnp.isfinite(flat))) and float(jnp.linalg.norm(flat)) > 1e-8
    # The truncated state carries no derivative into the next stretch.
    carried = jax.grad(lambda p: loop.objective(theta, state._replace(params=p))[0])
    zero = carried(state.params)
    assert all(float(jnp.max(jnp.abs(leaf))) == 0.0 for leaf in jax.tree.leaves(zero))


@pytest.mark.slow
@pytest.mark.parametrize("regularization", [0.0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_the_derivative_of_a_whole_stretch_changes_no_gradient(regularization):
    # Several minibatches and epochs in each iteration, clipped gradients, a second stretch.
    results = []
    for kernel in ("xla", "fused"):
        optimizer = learned_opt.make(
            "optim4rl", learning_rate=1e-2, gradient_clip=0.01, kernel=kernel
        )
        loop = ppo_loop()._replace(optimizer=optimizer, regularization=regularization)
        assert (loop.recorder is None) == (kernel == "xla")
        assert loop._replace(second_order=True).recorder is None
        theta = optimizer.init(jax.random.key(0))
        state = jax.jit(loop.init)(jax.random.key(1))
        step = jax.jit(jax.value_and_grad(loop.objective, has_aux=True))
        (_, (state, _)), _ = step(theta, state)
        (value, (state, stretch)), gradient = step(theta, state)
        results.append((value, state.params, stretch, gradient))
    assert float(optax.tree.norm(results[0][3])) > 1e-6
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
