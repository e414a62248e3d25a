"""JAX's guard rails, all of them on: what optimizers compute is this toolkit's own."""

import jax
import pytest


@pytest.fixture(autouse=True)
def guard_rails():
    """No implicit promotion of ranks or dtypes, no key used twice."""
    with (
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
        jax.debug_key_reuse(True),
    ):
        yield


@pytest.fixture
def optax_promotes(guard_rails):
    """For optimizers of optax: Adam's bias correction raises a float to an integer's power."""
    del guard_rails
    with jax.numpy_dtype_promotion("standard"):
        yield
