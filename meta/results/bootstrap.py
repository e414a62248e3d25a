"""Aggregate scores over seeds with 95 % bootstrap intervals.

The statistics and the stratified bootstrap are those of Agarwal et al. 2021, "Deep
Reinforcement Learning at the Edge of the Statistical Precipice" (arXiv 2108.13264), through
their package ``rliable``: seeds are drawn anew within each task, 2,000 times, and the
interval is between the 2.5th and the 97.5th percentile of the statistic.

A NaN or infinite score is a failed run. It is refused, never left out: an optimizer that
diverges on half of its seeds must not be judged by the other half.
``normalised.failures_as_worst`` says what such a run is worth.

Everywhere ``repetitions`` is the number of bootstrap samples, >= 1, and ``seed``, in [0, 2**32),
is of the bootstrap: the same one gives the same interval.

Axes: S seeds, T logged points of a run.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

STATISTICS = ("iqm", "mean", "median", "optimality_gap")
LEAST_SEEDS = 2  # one seed says nothing about how much seeds differ

Value = TypeVar("Value", float, np.ndarray)
# Middle, lower and upper end of a curve, each [T]; no ends where there is one seed.
Band = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]


class Estimate(NamedTuple, Generic[Value]):
    """A statistic of a sample and its 95 % interval, in the units of the scores.

    Attributes:
      point: the statistic.
      low, high: ends of the interval; usually, but not always, on both sides of ``point``.
    """

    point: Value
    low: Value
    high: Value


def interval(
    scores: np.ndarray,
    statistic: str = "iqm",
    repetitions: int = 2000,
    seed: int = 0,
    gamma: float = 1.0,
) -> Estimate[float]:
    """A statistic of scores over seeds (and tasks) with its interval.

    Args:
      scores: [S] or [S, tasks], S >= 2. Scores of several tasks should be normalised, for
        they are pooled.
      statistic: one of ``STATISTICS``, as in the paper: ``iqm`` is the mean of the middle
        half of all scores; ``mean`` is their mean; ``median`` is the median over tasks of
        the mean over seeds, so with one task it *is* the mean; ``optimality_gap`` is how far
        scores, cut off at ``gamma``, fall short of ``gamma`` on average.
      gamma: the score that counts as solved; read by ``optimality_gap`` alone.

    Raises:
      ValueError: for an unknown statistic, fewer than two seeds, other shapes, or scores
        that are NaN or infinite.
    """
    if statistic not in STATISTICS:
        raise ValueError(f"unknown statistic {statistic!r}; known: {', '.join(STATISTICS)}")
    _, metrics = _rliable()
    aggregates: dict[str, Callable[[np.ndarray], Any]] = {
        "iqm": lambda sample: iqm(sample.reshape(-1, 1)),
        "mean": metrics.aggregate_mean,
        "median": metrics.aggregate_median,
        "optimality_gap": functools.partial(metrics.aggregate_optimality_gap, gamma=gamma),
    }
    aggregate = lambda sample: np.reshape(aggregates[statistic](sample), 1)  # noqa: E731
    return _scalars(_bootstrap(_checked(scores), aggregate, repetitions, seed))


def of_seeds(
    scores: np.ndarray, statistic: str = "iqm"
) -> tuple[float, float | None, float | None]:
    """What ``interval`` says of scores; of one seed the statistic alone, with None as both ends."""
    if len(scores) >= LEAST_SEEDS:
        return interval(scores, statistic)
    points = {
        "iqm": iqm(np.reshape(scores, (-1, 1))).item(),
        "mean": np.mean(scores),
        "median": np.median(scores),  # of one seed: over tasks
        "optimality_gap": np.mean(np.maximum(1.0 - scores, 0.0)),
    }
    return float(points[statistic]), None, None


def curve_interval(
    returns: np.ndarray, repetitions: int = 2000, seed: int = 0, statistic: str = "iqm"
) -> Estimate[np.ndarray]:
    """The IQM or mean over seeds (and tasks) at every point of a curve, with its intervals.

    Each interval holds for its own point: the band as a whole covers a whole curve less
    often than 95 %.

    Args:
      returns: [S, T] or [S, tasks, T], S >= 2. Those of several tasks should be normalised,
        for they are pooled.
      statistic: ``iqm`` or ``mean``.

    Returns:
      Arrays [T].

    Raises:
      ValueError: for fewer than two seeds, other shapes, or returns that are NaN or infinite.
    """
    if statistic not in ("iqm", "mean"):
        raise ValueError(f"unknown statistic {statistic!r}; known for curves: iqm, mean")
    shape = np.shape(returns)
    aggregate = iqm if statistic == "iqm" else functools.partial(np.mean, axis=0)
    if len(shape) not in (2, 3):
        raise ValueError(
            f"returns must have the axes [seeds, points] or [seeds, tasks, points], got {shape}"
        )
    values = np.asarray(returns, dtype=np.float64)
    _checked(values.reshape(shape[0], -1))
    pooled = lambda sample: np.asarray(aggregate(sample.reshape(-1, shape[-1])))  # noqa: E731
    return _bootstrap(values, pooled, repetitions, seed)


def curve_of_seeds(returns: np.ndarray) -> Band:
    """The IQM of ``curve_interval``; of one seed the IQM alone, with None as both ends."""
    if len(returns) >= LEAST_SEEDS:
        return curve_interval(returns)
    return iqm(np.reshape(returns, (-1, np.shape(returns)[-1]))), None, None


def performance_profile(
    scores: np.ndarray, thresholds: np.ndarray, repetitions: int = 2000, seed: int = 0
) -> Estimate[np.ndarray]:
    """The share of runs that score more than each threshold, with pointwise intervals.

    Args:
      scores: [S] or [S, tasks], S >= 2; normalised where there are several tasks.
      thresholds: [K], rising.

    Returns:
      Arrays [K] with values in [0, 1].

    Raises:
      ValueError: for fewer than two seeds, other shapes, or scores that are NaN or infinite.
    """
    taus = np.asarray(thresholds, dtype=np.float64)

    def profile(sample: np.ndarray) -> np.ndarray:
        # rliable's score_distributions for all thresholds at once.
        above = np.searchsorted(np.sort(sample, axis=None), taus, side="right")
        return np.asarray(1.0 - above / sample.size)

    return _bootstrap(_checked(scores), profile, repetitions, seed)


def probability_of_improvement(
    x: np.ndarray, y: np.ndarray, repetitions: int = 2000, seed: int = 0
) -> Estimate[float]:
    """How likely a run of X is to score more than a run of Y on the same task, in [0, 1].

    A tie counts half (the Mann-Whitney U statistic divided by the number of pairs), and
    tasks count alike. One half means no difference; the paper calls X better than Y if the
    interval is above one half.

    Args:
      x, y: [S] or [S, tasks] with the same tasks; their seeds are not paired and need not
        be equally many. At least two each.

    Raises:
      ValueError: for fewer than two seeds, shapes that do not fit, or scores that are NaN or
        infinite.
    """
    samples = [_checked(x, "x"), _checked(y, "y")]
    if samples[0].shape[1] != samples[1].shape[1]:
        raise ValueError(
            f"x and y must be of the same tasks, got the shapes {np.shape(x)} and {np.shape(y)}"
        )
    return _scalars(_bootstrap(samples, _share_of_pairs, repetitions, seed))


def iqm(scores: np.ndarray) -> np.ndarray:
    """The interquartile mean over seeds: [S, T] -> [T].

    The quarter of the seeds with the least scores and the quarter with the greatest (both
    rounded down) are left out. The same as ``rliable``'s ``aggregate_iqm`` of each column,
    but ten times as fast for a curve, since it takes all columns at once.
    """
    cut = scores.shape[0] // 4
    kept = np.sort(scores, axis=0)[cut : scores.shape[0] - cut]
    return np.asarray(kept.mean(axis=0))


def refuse_failures(values: np.ndarray, name: str) -> None:
    """Raises a ``ValueError`` that counts the failed runs among scores [S] or [S, tasks].

    Args:
      values: float array, seeds first.
      name: what the scores are, for the message.
    """
    failed = ~np.isfinite(values)
    runs = int(failed.reshape(len(values), -1).any(axis=1).sum())
    if runs:
        raise ValueError(
            f"{int(failed.sum())} of {values.size} {name} are NaN or infinite, in "
            f"{runs} of {len(values)} seeds: these runs failed; count them, e.g. with "
            "normalised.failures_as_worst(table)"
        )


def _checked(scores: np.ndarray, name: str = "scores") -> np.ndarray:
    """Scores as float64 [S, tasks]."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"{name} must have the axes [seeds] or [seeds, tasks], got {values.shape}")
    if values.shape[0] < LEAST_SEEDS:
        raise ValueError(
            f"{name} of {values.shape[0]} seed(s) have no interval: run at least "
            f"{LEAST_SEEDS} seeds"
        )
    refuse_failures(values, name)
    return values


def _share_of_pairs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # What rliable's probability_of_improvement computes from a rank test for each task, here
    # by comparing all pairs at once: ten times as fast.
    difference = x[:, None, :] - y[None, :, :]
    return np.reshape(np.mean((np.sign(difference) + 1) / 2), 1)


def _bootstrap(
    samples: np.ndarray | Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    repetitions: int,
    seed: int,
) -> Estimate[np.ndarray]:
    library, _ = _rliable()
    if repetitions < 1:
        raise ValueError(f"repetitions must be >= 1, got {repetitions}")
    with _seeded(seed):
        points, bounds = library.get_interval_estimates(
            {"scores": samples}, statistic, reps=repetitions
        )
    low, high = bounds["scores"]
    return Estimate(points["scores"], low, high)


def _scalars(estimate: Estimate[np.ndarray]) -> Estimate[float]:
    return Estimate(*(value.item() for value in estimate))


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Fixes NumPy's global generator within the block and puts it back afterwards.

    rliable 1.2.0 takes a ``random_state`` but draws from the global generator, so this is
    what makes an interval a function of its seed. Not for several threads at once.
    """
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _rliable() -> tuple[ModuleType, ModuleType]:
    """``rliable.library`` and ``rliable.metrics``, imported on first use: it takes seconds."""
    try:
        from rliable import library, metrics
    except (ImportError, TypeError) as error:
        # TypeError: rliable needs arch, which stops while it is imported beside pandas 3.
        raise ImportError(
            "intervals need rliable and its dependency arch, which needs pandas below 3: "
            "pip install rliable 'pandas<3'"
        ) from error
    return library, metrics
