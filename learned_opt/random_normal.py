"""Standard normal draws that are cheap on CPUs.

``jax.random.normal`` computes each 32-bit word from a counter of its own and inverts the
error function by a routine that XLA does not vectorise on CPUs; for the noise of a learned
update, drawn at every step for every parameter, that cost more than the Adam update. Here
one Threefry block makes two words and the inverse is a polynomial.
"""

import jax
import jax.numpy as jnp
from jax.extend import random as extended_random

# Giles, "Approximating the erfinv function" (2010), single precision: coefficients of two
# polynomials in w = -log(1 - x^2), for the centre (w < 5) and for the tails.
CENTRE = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    2.1858087e-04,
    -1.25372503e-03,
    -4.17768164e-03,
    2.46640727e-01,
    1.50140941e00,
)
TAIL = (
    -2.00214257e-04,
    1.00950558e-04,
    1.34934322e-03,
    -3.67342844e-03,
    5.73950773e-03,
    -7.6224613e-03,
    9.43887047e-03,
    1.00167406e00,
    2.83297682e00,
)


def _polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    value = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def inverse_normal_cdf_from_symmetric(x: jax.Array) -> jax.Array:
    """sqrt(2) erfinv(x): maps uniform draws on (-1, 1) to N(0, 1)."""
    w = -jnp.log((1.0 - x) * (1.0 + x))  # x is in the open interval, so the log is finite
    # The tail's root is only used where w >= 5; the maximum keeps its argument positive.
    tail = _polynomial(TAIL, jnp.sqrt(jnp.maximum(w, 1.0)) - 3.0)
    return jnp.float32(2**0.5) * x * jnp.where(w < 5.0, _polynomial(CENTRE, w - 2.5), tail)


def standard_normal(key: jax.Array, size: int) -> jax.Array:
    """``[size]`` float32 draws from N(0, 1), a function of the key (of any kind) alone.

    The uniform draws have 23 bits, so values lie within about +-5.2.
    """
    if str(jax.random.key_impl(key)) == "threefry2x32":
        counters = jnp.arange(size, dtype=jnp.uint32)
        bits = extended_random.threefry_2x32(jax.random.key_data(key), counters)
    else:
        bits = jax.random.bits(key, (size,), jnp.uint32)
    # Apart from the concatenation of the cipher's two halves, what follows vectorises.
    bits = jax.lax.optimization_barrier(bits)
    # 23 random bits as the mantissa of a float in [1, 2), then the midpoints of 2^23 equal
    # intervals of (-1, 1): exact in float32, never +-1. (A conversion from unsigned
    # integers would not vectorise.)
    one_to_two = jax.lax.bitcast_convert_type((bits >> 9) | jnp.uint32(0x3F800000), jnp.float32)
    uniform = (one_to_two - 1.5) * 2.0 + jnp.float32(2.0**-23)
    # Without the barrier XLA repeats the polynomials in every consumer of the draws
    # (measured: twice the time of a whole learned update).
    return jax.lax.optimization_barrier(inverse_normal_cdf_from_symmetric(uniform))
