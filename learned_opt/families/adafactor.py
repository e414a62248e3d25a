"""What STAR and VeLO share: Adafactor's factored second moments.

Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018 (arXiv
1804.04235), as the reference implementations of both have it.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Second moments are averages of squares and so at least 0; each of these keeps a reciprocal
# root, or a quotient, of them finite. The values are the references'.
RMS_EPSILON = 1e-6
FEATURE_EPSILON = 1e-8
FACTOR_EPSILON = 1e-9
SQUARE_EPSILON = 1e-30


def factored_dimensions(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The (second largest, largest) dimension of a tensor, or None for a rank below 2.

    Of equal dimensions the later counts as the larger, on every machine; NumPy's default
    sort, which the reference uses, orders them differently on some processors from rank 4 on.
    """
    if len(shape) < 2:
        return None
    order = np.argsort(shape, kind="stable")
    return int(order[-2]), int(order[-1])


def without(shape: tuple[int, ...], dimension: int) -> tuple[int, ...]:
    """A shape less one of its dimensions."""
    return shape[:dimension] + shape[dimension + 1 :]


def safe_rsqrt(x: jax.Array) -> jax.Array:
    """1 / sqrt(x) of x >= 0; below ``FACTOR_EPSILON`` constant, and so finite."""
    return jax.lax.rsqrt(jnp.maximum(x, FACTOR_EPSILON))
