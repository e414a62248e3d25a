"""Choices out of words drawn at once."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.environments import chance

COUNT = 20_000


@pytest.fixture(scope="module")
def draws():
    """uint32 ``[COUNT, 6]``, a row per key."""
    keys = jax.random.split(jax.random.key(0), COUNT)
    return np.asarray(jax.vmap(lambda key: chance.words(key, 6))(keys))


def test_words_have_fair_and_independent_bits(draws):
    bits = (draws[..., None] >> np.arange(32, dtype=np.uint32)) & 1
    bits = bits.reshape(COUNT, -1).astype(np.float64)
    # Standard errors are 0.5 / sqrt(20000) = 0.0035 and 1 / sqrt(20000) = 0.0071; the
    # largest of 18336 correlations is expected at 4 standard errors.
    np.testing.assert_allclose(bits.mean(0), 0.5, atol=0.018)
    correlations = np.corrcoef(bits.T) - np.eye(bits.shape[1])
    assert np.abs(correlations).max() < 0.04


def test_words_of_neighbouring_keys_are_unrelated():
    words = np.stack([chance.words(jax.random.key(seed), 4) for seed in range(50)])
    assert len(np.unique(words)) == words.size


def test_chances_are_exact_at_the_ends_and_right_between(draws):
    assert not np.any(chance.happens(jnp.asarray(draws), 0.0))
    assert np.all(chance.happens(jnp.asarray(draws), 1.0))
    assert np.all(chance.happens(jnp.uint32([2**32 - 1]), jnp.float32(1.0)))
    probability = np.array([0.05, 0.5, 0.9])
    for given in (probability, jnp.asarray(probability)):
        happened = chance.happens(jnp.asarray(draws[:, :3]), given)
        np.testing.assert_allclose(happened.mean(0), probability, atol=0.012)


def test_numbers_below_a_count_are_uniform(draws):
    numbers = chance.below(jnp.asarray(draws[:, 0]), 7)
    shares = np.bincount(np.asarray(numbers), minlength=7) / COUNT
    np.testing.assert_allclose(shares, np.full(7, 1 / 7), atol=0.012)
    ends = chance.below(jnp.uint32([0, 2**32 - 1]), chance.MAX_COUNT)
    np.testing.assert_array_equal(ends, [0, chance.MAX_COUNT - 1])


@pytest.mark.parametrize("count", [4, jnp.int32(4)])
def test_every_ordered_selection_is_equally_likely(draws, count):
    chosen = jax.vmap(lambda words: chance.distinct_below(words, count))(jnp.asarray(draws[:, :3]))
    rows, counts = np.unique(np.asarray(chosen), axis=0, return_counts=True)
    assert rows.tolist() == [list(p) for p in itertools.permutations(range(4), 3)]
    np.testing.assert_allclose(counts / COUNT, np.full(24, 1 / 24), atol=0.007)


def test_all_numbers_can_be_selected(draws):
    chosen = jax.vmap(lambda words: chance.distinct_below(words, 6))(jnp.asarray(draws[:100]))
    np.testing.assert_array_equal(np.sort(chosen, axis=1), np.tile(np.arange(6), (100, 1)))


def test_taken_numbers_are_left_out_and_unwanted_ones_are_free_again(draws):
    """Of 0..6, with 5, 1 and 2 taken: 0, 3, 4, 6 are left. The middle choice is unwanted."""
    taken, wanted = jnp.array([5, -1, 1, 2]), jnp.array([True, False, True])
    chosen = jax.vmap(lambda words: chance.distinct_below(words, jnp.int32(7), taken, wanted))(
        jnp.asarray(draws[:, :3])
    )
    first, unwanted, last = np.asarray(chosen).T
    assert np.all(first != unwanted) and np.all(first != last)
    assert np.any(unwanted == last)
    pairs, counts = np.unique(np.column_stack([first, last]), axis=0, return_counts=True)
    assert pairs.tolist() == [list(p) for p in itertools.permutations((0, 3, 4, 6), 2)]
    np.testing.assert_allclose(counts / COUNT, np.full(12, 1 / 12), atol=0.01)


def test_too_small_a_count_gives_repetitions_within_range(draws):
    chosen = jax.vmap(lambda words: chance.distinct_below(words, 2))(jnp.asarray(draws[:200]))
    assert np.asarray(chosen).min() == 0 and np.asarray(chosen).max() == 1
