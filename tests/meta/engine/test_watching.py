import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_opt
from meta.engine import watching
from meta.engine.watching import Measure
from tests.meta.quadratic import QuadraticAgent


def norms(update, state):
    """Norms of the update and of the gradient before, which is what is kept."""
    sizes = {"size": optax.tree.norm(update.updates), "before": state.gradients}
    return {**sizes, "count": jnp.uint32(1)}, optax.tree.norm(update.grads)


ZEROS = {"size": jnp.float32(0), "before": jnp.float32(0), "count": jnp.uint32(0)}
MEASURE = Measure(lambda params: (ZEROS, jnp.float32(0)), norms)


def test_sums_and_gradients_travel_in_the_state_and_updates_stay_the_same():
    tx = optax.with_extra_args_support(optax.adam(0.1))
    watched = watching.watched(tx, MEASURE)
    params = {"w": jnp.array([1.0, -2.0])}
    state, plain = watched.init(params), tx.init(params)
    sizes, gradients = [], []
    for gradient in (3.0, -1.0, 0.5):
        grads = jax.tree.map(lambda p, g=gradient: g + p, params)
        updates, state = watched.update(grads, state, params)
        expected, plain = tx.update(grads, plain, params)
        np.testing.assert_array_equal(updates["w"], expected["w"])
        sizes.append(np.linalg.norm(expected["w"]))
        gradients.append(np.linalg.norm(grads["w"]))
    assert int(state.statistics["count"]) == 3
    np.testing.assert_allclose(state.statistics["size"], sum(sizes), rtol=1e-6)
    np.testing.assert_allclose(state.statistics["before"], sum(gradients[:-1]), rtol=1e-6)
    assert jax.tree.structure(state.inner) == jax.tree.structure(plain)


def test_an_engine_records_what_came_since_the_point_before():
    optimizer = learned_opt.make("sgd", learning_rate=0.1)
    engine = watching.make_engine(
        optimizer, QuadraticAgent(), measure=MEASURE, members_per_device=1
    )
    probed = engine.run({}, jax.random.split(jax.random.key(0), 2), points=4).probed
    # Eight updates in all, two between points, each smaller than the one before.
    np.testing.assert_array_equal(probed["count"], np.full((2, 4), 2.0))
    assert np.all(np.diff(probed["size"], axis=1) < 0)


def test_counts_may_wrap_around():
    values = np.array([[2**32 - 5, 3]], np.uint32)
    np.testing.assert_array_equal(watching.since(values), [[2**32 - 5, 8]])
