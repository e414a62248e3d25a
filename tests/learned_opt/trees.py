"""A small agent's parameters, and optimizers for them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

import learned_opt
from learned_opt.files import serialization


def make(name="open", seed=3, **options):
    """A ``TrainedOptimizer`` whose theta was drawn and never trained."""
    if name.startswith(("open", "no_features")):
        options = {"initial_theta": "random", **options}  # theirs is 0, where nothing is seen
    if name == "velo":
        sizes = {"lstm_hidden_size": 8, "num_parameter_sets": 4}
        options = {"loss": "constant", **sizes, **options}
    optimizer = learned_opt.make(name, **options)
    theta = optimizer.init(jax.random.key(seed))
    return serialization.TrainedOptimizer(optimizer, theta, {"name": name, "options": options})


def network(key, sizes=(3, 5, 2)):
    """A multi-layer perceptron: ``Dense_0`` and so on."""
    keys = list(jax.random.split(key, len(sizes)))
    return {
        f"Dense_{i}": {"kernel": jax.random.normal(keys[i], (a, b)), "bias": jnp.zeros((b,))}
        for i, (a, b) in enumerate(itertools.pairwise(sizes))
    }


def agent():
    """An actor's and a critic's parameters."""
    return {
        "actor": network(jax.random.key(0)),
        "critic": network(jax.random.key(1), (3, 5, 1)),
    }


def gradients(params):
    """Some, of the parameters' dtypes."""
    return jax.tree.map(lambda p: jnp.cos(3 * p), params)


def assert_close(a, b, tolerance=1e-6):
    """Two trees of one structure are equal within an absolute tolerance."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance), a, b)
