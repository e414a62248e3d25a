import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt import flat, random_normal


def test_flatten_and_back_keeps_values_shapes_and_dtypes():
    tree = {"b": jnp.arange(6.0).reshape(2, 3), "a": jnp.float32(7), "c": jnp.ones(2, jnp.bfloat16)}
    layout = flat.layout_of(tree)
    vector = flat.flatten(tree, layout)
    assert vector.shape == (9,)
    back = flat.unflatten(vector, layout)
    jax.tree.map(np.testing.assert_array_equal, tree, back)
    assert back["c"].dtype == jnp.bfloat16


def test_smaller_leaves_are_broadcast_and_other_trees_refused():
    layout = flat.layout_of({"a": jnp.zeros((2, 3))})
    np.testing.assert_array_equal(
        flat.flatten({"a": jnp.array([1.0, 2.0, 3.0])}, layout), [1, 2, 3, 1, 2, 3]
    )
    with pytest.raises(ValueError, match="expected a tree like"):
        flat.flatten({"b": jnp.zeros((2, 3))}, layout)


def test_second_moment_scale_by_hand():
    layout = flat.layout_of({"a": jnp.zeros(2), "b": jnp.zeros(1)})
    scale = flat.second_moment_scale(jnp.array([[3.0, 4.0, 0.0]]), layout)
    np.testing.assert_allclose(scale, [[1 / np.sqrt(12.5 + 1e-5), 1 / np.sqrt(1e-5)]], rtol=1e-6)
    np.testing.assert_array_equal(flat.spread(jnp.array([[5.0, 6.0]]), layout), [[5, 5, 6]])


def test_normal_draws_are_normal_and_a_function_of_the_key():
    draws = np.asarray(random_normal.standard_normal(jax.random.key(0), 200_001))
    again = np.asarray(random_normal.standard_normal(jax.random.key(0), 200_001))
    other = np.asarray(random_normal.standard_normal(jax.random.key(1), 200_001))
    np.testing.assert_array_equal(draws, again)
    assert abs(np.corrcoef(draws, other)[0, 1]) < 0.01
    assert abs(draws.mean()) < 0.01
    assert abs(draws.std() - 1) < 0.01
    assert abs((draws**4).mean() - 3) < 0.08
    for level, share in ((1.0, 0.1587), (2.0, 0.02275), (3.0, 0.00135)):
        assert np.mean(draws > level) == pytest.approx(share, rel=0.12)


def test_normal_draws_take_keys_of_other_kinds():
    draws = random_normal.standard_normal(jax.random.key(0, impl="rbg"), 10_000)
    assert abs(float(draws.mean())) < 0.05


def test_inverse_matches_the_library_over_the_whole_range():
    x = jnp.linspace(-1 + 2.0**-23, 1 - 2.0**-23, 10_001)
    ours = random_normal.inverse_normal_cdf_from_symmetric(x)
    np.testing.assert_allclose(ours, np.sqrt(2) * jax.lax.erf_inv(x), rtol=2e-5, atol=1e-6)
