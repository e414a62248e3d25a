"""STAR against the reference implementation, and what its parts must hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt import flat
from learned_opt.families import star
from tests.learned_opt.families.test_open_golden import nested


def test_star_repeats_the_reference(golden):
    archive = np.load(golden / "star_golden.npz")
    optimizer = learned_opt.make(
        "star",
        learning_rate=1e-3,
        nominal_learning_rate=1e-3,
        weight_decay=0.1,
        gradient_clip=None,
    )
    theta = nested(archive, "theta")
    shapes = jax.eval_shape(optimizer.init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, theta) == jax.tree.map(jnp.shape, shapes)
    tx = optimizer.transform(theta)
    update = jax.jit(tx.update)
    params = nested(archive, "param0")
    state = tx.init(params)
    for t in range(10):
        updates, state = update(nested(archive, f"grad{t}"), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6),
            params,
            nested(archive, f"param{t + 1}"),
        )


@pytest.mark.parametrize(
    ("shape", "dims"),
    [((), None), ((7,), None), ((6, 5), (1, 0)), ((4, 4), (0, 1)), ((3, 9, 2, 5), (3, 1))],
)
def test_the_two_largest_dimensions_are_factored(shape, dims):
    assert star.factored_dimensions(shape) == dims


def by_hand(square, dims):
    """Adafactor's estimate of the second moment: row times column over the row's mean."""
    second, largest = dims
    row = square.mean(largest, keepdims=True)
    col = square.mean(second, keepdims=True)
    return row * col / row.mean(second, keepdims=True)


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 2), (3, 4, 2, 5)])
def test_factored_scales_are_those_of_adafactor(shape):
    square = np.random.default_rng(0).uniform(0.5, 2.0, shape).astype(np.float32)
    params = {"w": jnp.zeros(shape)}
    [state] = star._split(star._initial_state(params).factored, flat.layout_of(params))
    decay = jnp.zeros(3)  # a decay of 0 takes the newest moment
    new, features = jax.jit(star._adafactor_of_tensor)(decay, state, jnp.array(square))
    assert new.row.shape == state.row.shape and new.col.shape == state.col.shape
    estimate = by_hand(square, star.factored_dimensions(shape))
    for scale in features.gradient_scale:
        np.testing.assert_allclose(scale, 1.0 / np.sqrt(estimate), rtol=1e-4)
    assert features.row.shape == features.col.shape == (3, *shape)


def test_decays_start_as_the_paper_has_them():
    theta = learned_opt.make("star").init(jax.random.key(0))
    for name, expected in star.DECAYS.items():
        np.testing.assert_allclose(star.decays(theta, name), expected, rtol=1e-6)


def test_without_the_network_it_is_aggmo_adam_with_weight_decay():
    optimizer = learned_opt.make("star", nominal_learning_rate=0.1, weight_decay=0.5)
    theta = jax.tree.map(jnp.zeros_like, optimizer.init(jax.random.key(0)))
    tx = optimizer.transform(theta)
    params, grads = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([0.5, 0.5])}
    updates, _ = tx.update(grads, tx.init(params), params)
    momenta = 0.5 * np.array([0.1, 0.01, 0.001])
    adam = momenta.mean() / np.sqrt(0.001 * 0.25 + 1e-6)
    expected = -0.5 * np.array([1.0, -2.0]) - 0.1 * np.exp(0.001) * adam
    np.testing.assert_allclose(updates["w"], expected, rtol=1e-4)


def test_params_are_asked_for_by_name():
    optimizer = learned_opt.make("star")
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    grads = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match="star"):
        tx.update(grads, tx.init(grads))


def test_odd_trees_give_finite_updates():
    params = {"empty": jnp.zeros((0, 3)), "scalar": jnp.float32(1.0), "conv": jnp.ones((2, 1, 3))}
    optimizer = learned_opt.make("star")
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(2):
        updates, state = update(jax.tree.map(jnp.ones_like, params), state, params)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
    assert all(bool(jnp.all(jnp.isfinite(u))) for u in jax.tree.leaves(updates))


def test_weight_decay_out_of_range_is_refused():
    with pytest.raises(ValueError, match="weight_decay"):
        learned_opt.make("star", weight_decay=1.0)
