"""What is measured of updates agrees with what is known or computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.families import open_optimizer
from meta.analysis import update_measure
from meta.engine.watching import watched

PARAMS = {
    "actor": {
        "Dense_0": {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "bias": jnp.zeros(2)},
        "Dense_1": {"kernel": jnp.array([[2.0], [-1.0]]), "bias": jnp.array([0.5])},
    },
    "critic": {"Dense_0": {"kernel": jnp.array([[4.0]]), "bias": jnp.array([-3.0])}},
}
GRADS = [
    jax.tree.map(lambda p, n=n: jnp.sin(p + n) + 0.1 * n, PARAMS) for n in range(3)
]  # three different ones
DORMANCY = {
    "actor": {
        "Dense_0": {"kernel": jnp.array([2.0, 0.0]), "bias": jnp.array([2.0, 0.0])},
        "Dense_1": {"kernel": jnp.ones(1), "bias": jnp.ones(1)},
    },
    "critic": {"Dense_0": {"kernel": jnp.ones(1), "bias": jnp.ones(1)}},
}


def vector(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def watch(tx, updates=1, *, params=PARAMS, grads=GRADS, dormancy=DORMANCY, **context):
    """The mean of every statistic over some updates, and the updates."""
    tx = watched(optax.with_extra_args_support(tx), update_measure.make_measure())
    state, made = tx.init(params), []
    for n in range(updates):
        step, state = tx.update(grads[n], state, params, dormancy=dormancy, **context)
        made.append(step)
        params = optax.apply_updates(params, step)
    assert state.statistics["updates"] == updates
    return {name: float(value) / updates for name, value in state.statistics.items()}, made


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.slow
def test_the_step_of_plain_gradient_descent_points_along_the_gradient():
    found, _ = watch(optax.sgd(0.01), updates=3)
    for network in ("all", "actor", "critic"):
        assert found[f"cos_gradient/{network}"] == pytest.approx(1.0, abs=1e-6)
    ascent, _ = watch(optax.scale(0.01))
    assert ascent["cos_gradient/all"] == pytest.approx(-1.0, abs=1e-6)


def test_adams_relative_update_is_as_computed_by_hand():
    rate, b1, b2, eps = 0.1, 0.9, 0.99, 1e-8
    found, _ = watch(optax.adam(rate, b1, b2, eps), updates=2)
    p, m, v, ratios, means = vector(PARAMS), 0.0, 0.0, [], []
    for n in (1, 2):
        g = vector(GRADS[n - 1])
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        step = rate * (m / (1 - b1**n)) / (np.sqrt(v / (1 - b2**n)) + eps)
        ratios.append(np.linalg.norm(step) / np.linalg.norm(p))
        means.append(np.mean(np.abs(step[p != 0] / p[p != 0])))
        p = p - step
    assert found["relative_update/all"] == pytest.approx(np.mean(ratios), rel=1e-5)
    assert found["update_over_parameter/all"] == pytest.approx(np.mean(means), rel=1e-5)


def test_momenta_include_the_newest_gradient():
    found, made = watch(optax.adam(0.1), updates=3)
    expected = dict.fromkeys(open_optimizer.MOMENTUM_DECAYS, 0.0)
    for decay in expected:
        m = 0.0
        for grads, step in zip(GRADS, made, strict=True):
            m = decay * m + (1 - decay) * vector(grads)
            expected[decay] += cosine(-vector(step), m) / 3
    for decay, value in expected.items():
        assert found[f"cos_momentum_{decay}/all"] == pytest.approx(value, abs=1e-5)


def test_norms_are_of_each_network():
    found, made = watch(optax.sgd(0.5))
    assert found["parameter_norm/critic"] == pytest.approx(5.0)
    for name, tree in (("parameter", PARAMS), ("gradient", GRADS[0]), ("update", made[0])):
        for network in ("actor", "critic"):
            expected = np.linalg.norm(vector(tree[network]))
            assert found[f"{name}_norm/{network}"] == pytest.approx(expected, rel=1e-6)


def test_silent_neurons_are_dormant_and_outputs_are_no_neurons():
    found, _ = watch(optax.sgd(0.1))
    assert found["dormant_0/actor"] == found["dormant_0.1/all"] == 0.5
    assert "dormant_0/critic" not in found  # it has no hidden layer


@pytest.mark.parametrize(("gradient", "share"), [(0.0, 1.0), (0.3, 0.0)])
def test_a_layer_that_is_silent_as_a_whole_is_told_from_an_even_one(gradient, share):
    even = jax.tree.map(jnp.ones_like, DORMANCY)
    grads = [jax.tree.map(lambda p: jnp.full_like(p, gradient), PARAMS)]
    found, _ = watch(optax.sgd(0.1), grads=grads, dormancy=even)
    assert found["dormant_0/actor"] == share


@pytest.fixture(scope="module")
def noisy():
    """OPEN with random weights, its context, and its updates with and without noise."""
    optimizer = learned_opt.make("open", initial_theta="random", kernel="xla", zero_mean=False)
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    context = {"training_proportion": 0.5, "batch_proportion": 0.5}
    draws = jax.tree.map(lambda p: 1.0 + jnp.cos(p), PARAMS)

    def step(noise):
        state = tx.init(PARAMS)
        kwargs = {"dormancy": DORMANCY, "noise": noise, **context}
        return -vector(tx.update(GRADS[0], state, PARAMS, **kwargs)[0]["actor"])

    found, _ = watch(tx, noise=draws, **context)
    return found, step(draws), step(jax.tree.map(jnp.zeros_like, draws))


def test_noise_is_told_from_the_rest_of_an_update(noisy):
    found, with_noise, without = noisy
    expected = np.linalg.norm(with_noise - without) / np.linalg.norm(without)
    assert expected > 0
    assert found["relative_noise/actor"] == pytest.approx(expected, rel=1e-4)
    assert found["relative_noise/critic"] == 0
    norm = np.linalg.norm(without) / np.linalg.norm(vector(PARAMS["actor"]))
    assert found["relative_update/actor"] == pytest.approx(norm, rel=1e-5)


def test_the_noise_of_deterministic_optimizers_is_0_and_of_opaque_ones_unknown():
    found, _ = watch(optax.adam(0.1))
    assert found["relative_noise/all"] == found["noise_over_parameter/all"] == 0

    def draw(updates, state, params=None, *, key, **context):
        return jax.tree.map(lambda g: g + jax.random.normal(key), updates), state

    opaque = optax.GradientTransformationExtraArgs(lambda params: (), draw)
    found, _ = watch(opaque, key=jax.random.key(0))
    assert np.isnan(found["relative_noise/all"]) and np.isfinite(found["cos_gradient/all"])


def test_updates_are_those_of_the_optimizer():
    _, made = watch(optax.adam(0.1))
    plain = optax.adam(0.1)
    expected, _ = plain.update(GRADS[0], plain.init(PARAMS), PARAMS)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), made[0], expected)))
