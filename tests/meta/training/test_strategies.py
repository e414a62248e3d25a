import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta.training import strategies
from tests.marks import slow_but


def make(name="Open_ES", population=32, theta=None, **kwargs):
    theta = {"w": jnp.zeros(4)} if theta is None else theta
    settings = {"optimizer": optax.adam(0.05), "sigma": lambda step: 0.1, **kwargs}
    return strategies.Strategy(name, population, theta, **settings)


def climb(strategy, theta, target, generations):
    """The mean's squared distance from the target after some generations."""

    def generation(state, key):
        population, state = strategy.ask(key, state)
        fitness = -jnp.sum(jnp.square(population["w"] - target), axis=1)
        return strategy.tell(key, population, fitness, state), None

    keys = jax.random.split(jax.random.key(1), generations)
    state = strategy.init(jax.random.key(0), theta)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), state)
    state, _ = jax.jit(lambda state: jax.lax.scan(generation, state, keys))(state)
    return float(jnp.sum(jnp.square(strategy.mean(state)["w"] - target)))


def first_spread(name, sigma):
    theta = {"w": jnp.full(4, 3.0)}
    strategy = make(name, population=64, theta=theta, sigma=lambda step: sigma)
    population, _ = strategy.ask(jax.random.key(2), strategy.init(jax.random.key(0), theta))
    return float(jnp.std(population["w"] - theta["w"]))


# Besides Open_ES: one that compares generations, and one whose sigma was squared.
LISTED = slow_but(("Open_ES", "HillClimbing", "xNES"), strategies.names())


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_strategy_improves_on_a_quadratic(name):
    start = {"w": jnp.full(4, 0.75)}
    found = climb(make(name, theta=start, sigma=lambda step: 0.3), start, jnp.zeros(4), 60)
    assert found < 0.5 * 2.25


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_strategy_is_spread_by_sigma(name):
    narrow, wide = first_spread(name, 0.1), first_spread(name, 0.2)
    np.testing.assert_allclose(wide / narrow, 2.0, rtol=0.1)
    assert 0.02 < narrow < 0.3


def test_every_strategy_of_evosax_is_listed_or_left_out_with_a_reason():
    reasons = strategies.left_out()
    assert {*strategies.names(), *reasons} == set(strategies.evosax_algorithms.algorithms)
    assert all(reasons.values())


@pytest.mark.parametrize("name", [*strategies.left_out(), "LearnedES", "LearnedGA"])
def test_a_strategy_that_is_left_out_is_refused_before_anything_is_unpickled(name, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    monkeypatch.setattr("pickle.loads", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    with pytest.raises(ValueError, match="not offered: it"):
        make(name)


def test_open_es_estimates_the_gradient_of_a_quadratic():
    """With raw fitness and plain SGD the step is the smoothed gradient, which for a quadratic
    is the gradient itself.
    """
    theta, target = {"w": jnp.array([0.3, -0.2, 0.1, 0.4])}, jnp.zeros(4)
    strategy = make(population=20_000, optimizer=optax.sgd(1.0), shaping="none")
    state = strategy.init(jax.random.key(0), theta)
    population, state = strategy.ask(jax.random.key(1), state)
    fitness = -jnp.sum(jnp.square(population["w"] - target), axis=1)
    moved = strategy.mean(strategy.tell(jax.random.key(2), population, fitness, state))
    step, gradient = np.asarray(moved["w"] - theta["w"]), np.asarray(-2 * theta["w"])
    cosine = step @ gradient / np.linalg.norm(step) / np.linalg.norm(gradient)
    assert cosine > 0.99
    np.testing.assert_allclose(step, gradient, atol=0.1)


def test_failed_members_rank_last_and_poison_nothing():
    cost = strategies.worst_for_nan(jnp.array([1.0, jnp.nan, 3.0, jnp.inf]))
    assert np.all(np.isfinite(cost))
    assert float(cost[1]) > 3.0
    assert float(cost[3]) > 3.0
    np.testing.assert_array_equal(strategies.worst_for_nan(jnp.full(4, jnp.nan)), np.ones(4))
    strategy = make()
    state = strategy.init(jax.random.key(0), {"w": jnp.zeros(4)})
    population, state = strategy.ask(jax.random.key(1), state)
    state = strategy.tell(jax.random.key(2), population, jnp.full(32, jnp.nan), state)
    np.testing.assert_allclose(strategy.mean(state)["w"], np.zeros(4), atol=1e-6)


def test_pairwise_shaping_compares_within_pairs_alone():
    shaped = strategies.pairwise_shaping(
        None, jnp.array([1.0, 9.0, 5.0, 2.0, 3.0, 5.0]), None, None
    )
    np.testing.assert_array_equal(shaped, [-1.0, 0.0, -0.5, 0.0, -1.0, -0.5])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"name": "OpenES"}, "did you mean 'Open_ES'"),
        ({"name": "LearnedES"}, "pickled"),
        ({"population": 31}, "30 or 32"),
        ({"name": "ESMC", "population": 2}, "population_size=2.*>= 4"),
        ({"shaping": "rank"}, "centered_rank"),
        ({"name": "CMA_ES", "options": {"mood": 1}}, "mood"),
    ],
)
def test_bad_settings_are_explained(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)
