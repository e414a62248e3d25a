"""OPEN's update against vectors of the authors' implementation, to 1e-6."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from agents.actor_critic import dormancy


def nested(archive, prefix):
    """The arrays under a prefix, as nested dicts."""
    tree = {}
    for name in archive.files:
        if name.startswith(prefix + "/"):
            node = tree
            *parents, leaf = name[len(prefix) + 1 :].split("/")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = jnp.asarray(archive[name])
    return tree


@pytest.mark.parametrize("name", ["ant", "breakout", "gridworld"])
def test_published_optimizer_repeats_the_authors_updates(golden, published, name):
    archive = np.load(golden / f"open_{name}_golden.npz")
    trained = learned_opt.load(published / f"open_{name}.npy")
    theta, _ = jax.flatten_util.ravel_pytree(trained.theta)
    np.testing.assert_array_equal(theta, archive["meta_params_flat"])
    tx = trained.optimizer.transform(trained.theta)
    update = jax.jit(tx.update)
    params = nested(archive, "param0")
    state = tx.init(params)
    steps = sum(name.startswith("training_proportion") for name in archive.files)
    assert steps >= 8
    for t in range(steps):
        updates, state = update(
            nested(archive, f"grad{t}"),
            state,
            params,
            training_proportion=archive[f"training_proportion{t}"],
            batch_proportion=archive[f"batch_proportion{t}"],
            dormancy=dormancy(params, nested(archive, f"mean_abs_activation{t}")),
            noise=nested(archive, f"noise{t}"),
        )
        params = jax.tree.map(jnp.add, params, updates)
        expected = nested(archive, f"param{t + 1}")
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), params, expected
        )
    hidden = jax.tree.map(
        lambda x: x.reshape(-1, x.shape[-1]), nested(archive, f"gru_state{steps}")
    )
    hidden = jnp.concatenate(jax.tree.leaves(hidden)).T
    np.testing.assert_allclose(state.hidden, hidden, rtol=0, atol=1e-5)
