"""Statistics and intervals: against hand computations and against rliable called by hand."""

import sys
import time

import numpy as np
import pytest

from meta.results import bootstrap

REPETITIONS = 300


def scores(*shape, seed=0):
    return np.random.default_rng(seed).normal(10.0, 3.0, shape)


def by_hand(samples, statistic, seed=0):
    """rliable as its documentation shows it, with the global generator seeded."""
    from rliable import library

    np.random.seed(seed)
    points, bounds = library.get_interval_estimates(
        {"x": samples}, lambda *a: np.array([statistic(*a)]), reps=REPETITIONS
    )
    return points["x"][0], *bounds["x"][:, 0]


@pytest.mark.parametrize("shape", [(9,), (2,), (8, 3)])
@pytest.mark.parametrize("name", bootstrap.STATISTICS)
def test_interval_is_that_of_rliable(name, shape):
    from rliable import metrics

    reference = {
        "iqm": metrics.aggregate_iqm,
        "mean": metrics.aggregate_mean,
        "median": metrics.aggregate_median,
        "optimality_gap": lambda sample: metrics.aggregate_optimality_gap(sample, gamma=9.0),
    }[name]
    x = scores(*shape)
    expected = by_hand(x.reshape(len(x), -1), reference, seed=5)
    estimate = bootstrap.interval(x, name, REPETITIONS, seed=5, gamma=9.0)
    np.testing.assert_allclose(estimate, expected, rtol=1e-12)
    assert all(isinstance(value, float) for value in estimate)


def test_statistics_by_hand():
    x = np.array([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, -50.0, 6.0])
    assert bootstrap.interval(x, "iqm", 10).point == 3.5  # of 2, 3, 4, 5
    assert bootstrap.interval(x, "mean", 10).point == 71 / 8
    tasks = np.array([[0.0, 10.0, 2.0], [2.0, 30.0, 4.0]])
    assert bootstrap.interval(tasks, "median", 10).point == 3.0  # of the means 1, 20, 3
    half = np.array([0.5, 2.0])
    assert bootstrap.interval(half, "optimality_gap", 10).point == 0.25  # 1 - (0.5 + 1) / 2
    assert bootstrap.interval(half, "optimality_gap", 10, gamma=2.0).point == 0.75


def test_the_interval_of_two_seeds_spans_them():
    # The bootstrap draws {a, a}, {a, b}, {b, b} with chances 1/4, 1/2, 1/4: far more than 2.5 %.
    assert bootstrap.interval(np.array([1.0, 5.0]), "iqm", 500) == (3.0, 1.0, 5.0)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    hits = 0
    for seed in range(100):
        _, low, high = bootstrap.interval(scores(20, seed=seed), "mean", 200, seed=seed)
        hits += low <= 10.0 <= high
    # Bootstrap intervals of 20 scores are a little too narrow: about 92 of 100.
    assert 84 <= hits <= 99


def test_intervals_are_functions_of_their_seed_and_leave_numpy_alone():
    x = scores(9)
    np.random.seed(123)
    expected = np.random.random()
    np.random.seed(123)
    first = bootstrap.interval(x, "mean", REPETITIONS, seed=1)
    assert np.random.random() == expected
    assert bootstrap.interval(x, "mean", REPETITIONS, seed=1) == first
    assert bootstrap.interval(x, "mean", REPETITIONS, seed=2) != first


def test_curve_interval_is_rliable_point_by_point():
    from rliable import library, metrics

    returns = scores(10, 4)
    np.random.seed(7)
    points, bounds = library.get_interval_estimates(
        {"x": returns},
        lambda sample: np.array([metrics.aggregate_iqm(column) for column in sample.T]),
        reps=REPETITIONS,
    )
    estimate = bootstrap.curve_interval(returns, REPETITIONS, seed=7)
    np.testing.assert_allclose(estimate.point, points["x"], rtol=1e-12)
    np.testing.assert_allclose([estimate.low, estimate.high], bounds["x"], rtol=1e-12)


@pytest.mark.parametrize("seeds", range(2, 14))
def test_iqm_is_that_of_rliable_for_every_number_of_seeds(seeds):
    from rliable import metrics

    x = scores(seeds, 3)
    expected = [metrics.aggregate_iqm(column) for column in x.T]
    np.testing.assert_allclose(bootstrap.iqm(x), expected, rtol=1e-12)


def test_a_curve_of_30_points_and_32_seeds_takes_about_a_second_at_most():
    bootstrap.curve_interval(scores(2, 1), 1)  # the import of rliable is not what is measured
    start = time.process_time()
    bootstrap.curve_interval(scores(32, 30))
    assert time.process_time() - start < 3.0  # 0.2 s of processor time as a rule


@pytest.mark.parametrize("shapes", [((6,), (9,)), ((5, 3), (4, 3))])
def test_probability_of_improvement_is_that_of_rliable(shapes):
    from rliable import metrics

    x, y = np.round(scores(*shapes[0])), np.round(scores(*shapes[1], seed=1))  # with ties
    samples = [x.reshape(len(x), -1), y.reshape(len(y), -1)]
    expected = by_hand(samples, metrics.probability_of_improvement, seed=3)
    estimate = bootstrap.probability_of_improvement(x, y, REPETITIONS, seed=3)
    np.testing.assert_allclose(estimate, expected, rtol=1e-12)


def test_probability_of_improvement_by_hand():
    x, y = np.array([1.0, 2.0]), np.array([0.0, 2.0, 3.0])
    # 1 > 0; 2 > 0; 2 = 2 counts half: 2.5 of 6 pairs
    assert bootstrap.probability_of_improvement(x, y, 10).point == pytest.approx(2.5 / 6)
    assert bootstrap.probability_of_improvement(x + 9, y, 10) == (1.0, 1.0, 1.0)
    assert bootstrap.probability_of_improvement(x - 9, y, 10) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_failed_runs_are_counted_and_refused(bad):
    x = scores(5, 3)
    x[1, 0] = x[1, 2] = x[4, 1] = bad
    message = "3 of 15 {} are NaN or infinite, in 2 of 5 seeds"
    with pytest.raises(ValueError, match=message.format("scores")):
        bootstrap.interval(x)
    with pytest.raises(ValueError, match=message.format("scores")):
        bootstrap.curve_interval(x)
    with pytest.raises(ValueError, match=message.format("y")):
        bootstrap.probability_of_improvement(scores(2, 3), x)


def test_one_seed_has_no_interval():
    for call in (
        lambda: bootstrap.interval(np.array([1.0])),
        lambda: bootstrap.interval(np.ones((1, 3))),
        lambda: bootstrap.curve_interval(np.ones((1, 3))),
        lambda: bootstrap.probability_of_improvement(np.ones(1), np.ones(3)),
    ):
        with pytest.raises(ValueError, match="at least 2 seeds"):
            call()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="unknown statistic 'IQM'; known: iqm, mean"):
        bootstrap.interval(scores(4), "IQM")
    with pytest.raises(ValueError, match="axes"):
        bootstrap.interval(scores(4, 3, 2))
    with pytest.raises(ValueError, match="axes"):
        bootstrap.interval(np.ones((4, 0)))
    with pytest.raises(ValueError, match="axes"):
        bootstrap.curve_interval(scores(4))
    with pytest.raises(ValueError, match="repetitions"):
        bootstrap.interval(scores(4), repetitions=0)
    with pytest.raises(ValueError, match="same tasks"):
        bootstrap.probability_of_improvement(scores(4, 2), scores(4, 3))


def test_a_missing_rliable_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "rliable", None)
    with pytest.raises(ImportError, match="pandas<3"):
        bootstrap.interval(scores(4))
