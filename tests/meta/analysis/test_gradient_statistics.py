"""Distributions of gradients and updates: counts by hand, known answers, what is left."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from meta import results
from meta.analysis import gradient_counts, gradient_statistics
from meta.analysis.distributions import LEVELS, Sizes, distance, phases, read_distributions, sizes
from meta.analysis.gradient_counts import COUNTS, EDGES, NUM_BINS, PER_DECADE, above
from meta.analysis.gradient_statistics import analyze
from meta.engine import watching
from meta.engine.population import Engine
from meta.evaluation import contestants, runner
from meta.evaluation.runner import Request
from meta.evaluation.store import Store
from tests.meta.quadratic import QuadraticAgent

TINY = {"num_envs": 4, "num_steps": 8, "widths": [4], "num_epochs": 1, "num_minibatches": 2}


def by_hand(vectors):
    """Counts at or above each bin's edge, of all vectors together."""
    size = np.abs(np.concatenate(vectors)).astype(np.float32)
    at_least = [np.sum(size > 0), *(np.sum(size >= np.float32(10.0**e)) for e in EDGES[1:])]
    return np.array(at_least), int(np.sum(size == 0))


def test_counts_are_those_of_numpy():
    rng = np.random.default_rng(0)
    scales = 10.0 ** rng.uniform(-18, 3, (5, 200))
    gradients = (rng.normal(size=(5, 200)) * scales).astype(np.float32)
    gradients[rng.random((5, 200)) < 0.2] = 0.0
    tx = watching.watched(optax.with_extra_args_support(optax.sgd(0.5)), COUNTS)
    params = {"actor": {"w": jnp.zeros((200,))}}
    state = tx.init(params)
    for gradient in gradients:
        _, state = tx.update({"actor": {"w": jnp.asarray(gradient)}}, state, params)
    for quantity, vectors in [("gradient", gradients), ("update", np.float32(-0.5) * gradients)]:
        at_least, zeros = by_hand(vectors)
        np.testing.assert_array_equal(state.statistics[quantity], at_least)
        assert int(state.statistics[f"{quantity}_zero"]) == zeros
    pairs = (gradients[1:] != 0) & (gradients[:-1] != 0)
    assert int(state.statistics["sign_pairs"]) == pairs.sum()
    changes = pairs & (np.sign(gradients[1:]) != np.sign(gradients[:-1]))
    assert int(state.statistics["sign_changes"]) == changes.sum()
    wide = gradients.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    cosines = np.sum(wide[1:] * wide[:-1], axis=1) / (norms[1:] * norms[:-1])
    np.testing.assert_allclose(
        float(state.statistics["cosine"]), cosines.sum(), rtol=1e-4, atol=1e-6
    )
    assert int(state.statistics["cosine_count"]) == 4


def test_numbers_that_are_not_finite_are_in_no_bin():
    found = gradient_counts._at_least(jnp.array([jnp.nan, jnp.inf, 1.0]))
    assert int(found[0]) == 1


def test_a_watched_run_counts_between_points_and_changes_nothing():
    optimizer = learned_opt.make("sgd", learning_rate=0.1)
    keys = jax.random.split(jax.random.key(0), 2)
    watched = watching.make_engine(
        optimizer, QuadraticAgent(), measure=COUNTS, members_per_device=1
    )
    recording = watched.run({}, keys, points=4)
    plain = Engine(optimizer, QuadraticAgent(), members_per_device=1)
    # Another program may round otherwise.
    returns = plain.run({}, keys, points=4).episode_return
    np.testing.assert_allclose(recording.episode_return, returns, rtol=1e-6)
    # Three parameters and two updates between points; no gradient is 0.
    np.testing.assert_array_equal(recording.probed[above("gradient", 0)], np.full((2, 4), 6.0))
    np.testing.assert_array_equal(recording.probed["cosine_count"], [[1, 2, 2, 2]] * 2)
    np.testing.assert_array_equal(recording.probed["sign_changes"], np.zeros((2, 4)))
    # g <- (1 - 0.1 c) g: the larger curvature's element crosses an edge later or earlier.
    start = 1.0 + np.array([jax.random.uniform(jax.random.split(k)[0], (3,)) for k in keys])
    curvature = np.array([1.0, 0.3, 0.1])
    for member in range(2):
        gradient = curvature * start[member]
        taken = [gradient * (1 - 0.1 * curvature) ** i for i in range(8)]
        for point in range(4):
            size = np.concatenate(taken[2 * point : 2 * point + 2])
            for index in range(40, NUM_BINS):
                counted = recording.probed[above("gradient", index)][member, point]
                assert counted == np.sum(size >= 10.0 ** EDGES[index])


def spread(values, zeros=0.0):
    """Shares of one point from log10 sizes."""
    bins = ((np.array(values) - EDGES[0]) * PER_DECADE).astype(int)
    shares = np.bincount(bins, minlength=NUM_BINS)[None] / len(values) * (1 - zeros)
    return Sizes(shares, np.array([zeros]))


def test_quantiles_and_distances_are_those_of_the_sizes():
    values = np.random.default_rng(1).normal(-4.0, 1.0, 20_000)
    quantiles = spread(values, zeros=0.5).quantiles()[0]
    exact = np.quantile(values, LEVELS)
    np.testing.assert_allclose(quantiles, exact, atol=0.5 / PER_DECADE)
    moved = distance(spread(values), spread(values + 1.5, zeros=0.3))
    assert moved == pytest.approx(1.5, abs=1e-9)
    assert distance(spread(values), spread(values)) == 0.0
    nothing = Sizes(np.zeros((1, NUM_BINS)), np.ones(1))
    assert np.isnan(distance(spread(values), nothing)) and np.isnan(nothing.quantiles()).all()


def test_shares_sum_to_1_with_the_zeros():
    counts = {above("update", k): np.array([3.0 if k < 20 else 0.0]) for k in range(NUM_BINS)}
    found = sizes({**counts, "update_zero": np.array([1.0])}, "update")
    assert found.zeros[0] == 0.25 and found.shares[0, 19] == 0.75
    assert found.shares.sum() + found.zeros.sum() == 1.0


def test_thirds_cover_training():
    for points in (3, 4, 10, 40):
        covered = [i for part in phases(points) for i in range(points)[part]]
        assert covered == list(range(points))
    for points in (1, 2):  # an agent of so few iterations has no more points
        assert all(len(range(points)[part]) == 1 for part in phases(points))


def request(folder, **changes):
    asked = {
        "optimizers": ("sgd",), "workdir": str(folder), "tasks": ("catch",), "num_seeds": 2,
        "total_timesteps": 96, "points": 3, "seeds_per_device": 1, "agent_options": TINY,
        "untrained": False,
    }  # fmt: skip
    return Request(**{**asked, **changes})


@pytest.mark.slow
def test_an_analysis_leaves_table_summary_and_figure_and_repeats_nothing(tmp_path, monkeypatch):
    text = analyze(request(tmp_path))
    assert (tmp_path / "summary.md").read_text() == text and "| sgd | catch | update |" in text
    assert (tmp_path / "gradients_sgd.png").stat().st_size > 20_000
    with open(tmp_path / "gradients.csv") as file:
        rows = list(csv.DictReader(file))
    shares = [r for r in rows if r["statistic"].startswith(("share_from", "zeros"))]
    for seed in "01":
        for quantity in ("gradient", "update"):
            mine = [r for r in shares if (r["seed"], r["quantity"]) == (seed, quantity)]
            assert sum(float(r["value"]) for r in mine) == pytest.approx(3.0, abs=1e-4)
    # The update of SGD is the gradient times the learning rate.
    medians = {
        quantity: [float(r["value"]) for r in rows
                   if (r["quantity"], r["statistic"]) == (quantity, "log10_quantile_0.5")]
        for quantity in ("gradient", "update")
    }  # fmt: skip
    rate = contestants.resolve(["sgd"])[0].hyperparameters("catch")["learning_rate"]
    difference = np.subtract(medians["update"], medians["gradient"])
    np.testing.assert_allclose(difference, np.log10(rate), atol=1 / PER_DECADE)
    assert results.read(tmp_path / "results.csv").optimizers() == ["sgd"]
    monkeypatch.setattr(runner, "make_task", None)  # would raise if called
    monkeypatch.setattr(gradient_statistics.gradient_plots, "plot", None)
    assert analyze(request(tmp_path)) == text


def test_failed_seeds_are_left_out(tmp_path):
    from meta.evaluation.store import Cell

    store = Store(tmp_path, {}, "gradients")
    cell = Cell("catch", "sgd", {}, "sgd")
    returns = np.array([[1.0, 2.0, 3.0], [1.0, np.nan, np.nan]])
    names = [above(q, k) for q in gradient_counts.QUANTITIES for k in range(NUM_BINS)]
    names += ["gradient_zero", "update_zero", "sign_pairs", "sign_changes", "cosine"]
    series = {name: np.ones((2, 3)) for name in [*names, "cosine_count"]}
    with store.writing():
        store.begin(cell, 1)
        store.write_chunk(cell, [0, 1], [1, 2, 3], returns, series)
    found = read_distributions(store, "catch", "sgd")
    assert found.failed == [1] and list(found.by_seed) == [0]
    np.testing.assert_array_equal(found.sign_changes, np.ones(3))
    assert "1, and 1 that failed" in gradient_statistics._markdown({"sgd": {"catch": found}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": 2}, "--points must be at least 3"),
        ({"tasks": ("cach",)}, "catch"),
        ({"agent": "supervised"}, "--agent=supervised learns datasets, and 'catch'"),
    ],
)
def test_bad_input_is_explained(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        analyze(request(tmp_path / "run", **changes))
