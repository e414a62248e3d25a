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
    state = strategy.init(jax.random.key(0), theta)
    for generation in range(generations):
        key = jax.random.fold_in(jax.random.key(1), generation)
        population, state = strategy.ask(key, state)
        fitness = -jnp.sum(jnp.square(population["w"] - target), axis=1)
        state = strategy.tell(key, population, fitness, state)
    return strategy.mean(state)["w"]


@pytest.mark.parametrize(
    "name",
    slow_but(
        ("Open_ES",),
        ("Open_ES", "PGPE", "SNES", "CMA_ES", "SimpleGA", "PersistentES"),
    ),
)
def test_strategies_climb_towards_higher_fitness(name):
    target = jnp.array([0.5, -0.5, 0.3, 0.0])
    found = climb(make(name), {"w": jnp.zeros(4)}, target, 60)
    assert float(jnp.sum(jnp.square(found - target))) < 0.5 * float(jnp.sum(jnp.square(target)))


@pytest.mark.slow
@pytest.mark.parametrize("name", strategies.names())
def test_every_strategy_can_be_asked_and_told(name):
    found = climb(make(name), {"w": jnp.zeros(4)}, jnp.ones(4), 3)
    assert found.shape == (4,)
    assert np.all(np.isfinite(found))


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
        ({"shaping": "rank"}, "centered_rank"),
        ({"name": "CMA_ES", "options": {"mood": 1}}, "mood"),
    ],
)
def test_bad_settings_are_explained(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)
