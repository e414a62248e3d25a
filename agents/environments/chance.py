"""The many small choices of a step, out of one draw.

A draw from a key is a chain of small kernels, as long for two words as for a few, and one for
many words costs more than all else that a small environment does in a step. So a step draws
two words, and spreads their 64 bits over the words that it needs with an integer hash,
which XLA fuses with what they are used for.

A choice uses the upper 24 bits of a word: probabilities are rounded to multiples of 2^-24,
and of n equally likely numbers one may be more likely than another by a factor of
1 + n / 2^24.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_BITS = 24
# Up to here the product of a 24-bit number and a count fits into 32 bits.
MAX_COUNT = 2 ** (32 - _BITS)

_GOLDEN = np.uint32(0x9E3779B9)  # 2^32 over the golden ratio: spreads a counter's values


def words(key: jax.Array, count: int) -> jax.Array:
    """Random uint32 words: ``[count]``.

    Each is uniform; together they have 64 bits of randomness, so this is for environments'
    choices and not for cryptography. The hash is the finaliser of MurmurHash3 (Appleby,
    public domain), once over a counter that starts at the first random word, and once more
    with the second one mixed in.
    """
    start, mixed_in = jax.random.bits(key, (2,), jnp.uint32)
    counter = jnp.asarray(_GOLDEN * np.arange(count, dtype=np.uint32))
    return _scramble(_scramble(start + counter) ^ mixed_in)


def _scramble(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which every bit depends on every bit."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def happens(words: jax.Array, probability: Any) -> jax.Array:
    """Whether each of several chances comes true.

    Args:
      words: uint32 ``[...]``.
      probability: real numbers in [0, 1], of a shape that broadcasts against the words'; 0
        never and 1 always happens.

    Returns:
      bool ``[...]``.
    """
    if not isinstance(probability, jax.Array):
        threshold = np.round(np.multiply(probability, 2.0**_BITS)).astype(np.uint32)
    else:
        threshold = jnp.round(probability * 2.0**_BITS).astype(jnp.uint32)
    return (words >> (32 - _BITS)) < threshold


def below(words: jax.Array, count: int | jax.Array) -> jax.Array:
    """Numbers ``0 .. count - 1``, all equally likely.

    Args:
      words: uint32 ``[...]``.
      count: at least 1 and at most ``MAX_COUNT``; an int or an integer array that
        broadcasts against the words.

    Returns:
      int32 ``[...]``.
    """
    scaled = (words >> (32 - _BITS)) * jnp.asarray(count, jnp.uint32)
    return (scaled >> _BITS).astype(jnp.int32)


def distinct_below(
    words: jax.Array,
    count: int | jax.Array,
    taken: jax.Array | None = None,
    wanted: jax.Array | None = None,
) -> jax.Array:
    """Different numbers from ``0 .. count - 1``; every ordered selection is equally likely.

    Each is drawn as a rank r among the numbers that are left, and is then r moved up once for
    every taken number t with t - (how many taken ones are smaller than t) <= r. Needs
    ``(n + k)^2`` comparisons, so it is for a few numbers.

    Args:
      words: uint32 ``[k]``.
      count: at most ``MAX_COUNT``; an int or an integer scalar. Where it is too small for as
        many different numbers, the surplus are repetitions.
      taken: int32 ``[n]``, different numbers not to choose; negative ones mean nothing.
      wanted: bool ``[k]``; the others are drawn too, but may be chosen again.

    Returns:
      int32 ``[k]``.
    """
    num_words = words.shape[0]
    nothing = np.int32(2**30)  # beyond all numbers
    occupied = jnp.zeros((0,), jnp.int32) if taken is None else jnp.where(taken < 0, nothing, taken)
    slots = np.arange(occupied.size + num_words)
    # A vector of all that is taken, and of how many others are smaller than each.
    occupied = jnp.concatenate([occupied, jnp.full((num_words,), nothing)])
    smaller = jnp.sum(occupied < occupied[:, None], axis=1, dtype=jnp.int32)
    left: int | jax.Array = count
    if taken is not None:
        left = left - jnp.sum(taken >= 0, dtype=jnp.int32)
    chosen: list[jax.Array] = []
    for i in range(num_words):
        rank = below(words[i], jnp.maximum(left, 1))
        number = rank + jnp.sum(occupied - smaller <= rank, dtype=jnp.int32)
        number = jnp.minimum(number, count - 1)
        chosen.append(number)
        taking = number if wanted is None else jnp.where(wanted[i], number, nothing)
        this = slots == slots.size - num_words + i
        smaller = jnp.where(this, number - rank, smaller + (taking < occupied))
        occupied = jnp.where(this, taking, occupied)
        left = left - (1 if wanted is None else wanted[i].astype(jnp.int32))
    return jnp.stack(chosen)
