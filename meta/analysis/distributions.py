"""How gradients and updates are distributed, from what was counted of them."""

import itertools
from typing import NamedTuple

import numpy as np

from meta.analysis.gradient_counts import EDGES, NUM_BINS, PER_DECADE, QUANTITIES, above
from meta.analysis.update_measure import ratio
from meta.evaluation.store import Store

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
PHASES = ("first third", "second third", "last third")


class Sizes(NamedTuple):
    """How the sizes of a quantity's elements are distributed, at T points.

    Attributes:
      shares: ``[T, NUM_BINS]``, of all elements in each bin; with ``zeros`` they sum to 1.
      zeros: ``[T]``, of all elements that are exactly 0.
    """

    shares: np.ndarray
    zeros: np.ndarray

    def quantiles(self) -> np.ndarray:
        """log10 of the sizes at ``LEVELS`` among elements that are not 0: ``[T, levels]``.

        Exact to a part of a bin; NaN where all are 0.
        """
        return np.array([_quantiles(row) for row in self.shares])

    def part(self, rows: slice) -> "Sizes":
        """Some of the points as one; each counts alike, as they are evenly spaced."""
        return Sizes(self.shares[rows].mean(axis=0)[None], self.zeros[rows].mean(keepdims=True))


class Distributions(NamedTuple):
    """What was counted of one optimizer on one task: means over S seeds at T points.

    Attributes:
      env_steps: ``[T]``.
      sizes: of gradients and of updates.
      by_seed: the same of each seed.
      sign_changes: ``[T]``, share of the elements whose gradient changed its sign since the
        update before, of those where neither was 0.
      cosine: ``[T]``, mean cosine of a gradient and the one before.
      failed: seeds that are left out because their parameters became NaN or infinite.
    """

    env_steps: np.ndarray
    sizes: dict[str, Sizes]
    by_seed: dict[int, dict[str, Sizes]]
    sign_changes: np.ndarray
    cosine: np.ndarray
    failed: list[int]


def read_distributions(store: Store, task: str, optimizer: str) -> Distributions | None:
    """All finished seeds of a cell; None if there are none."""
    curves, series = store.curves(task, optimizer), store.series(task, optimizer)
    if not series:
        return None
    # A run whose parameters are not finite returns NaN, as does one before its first episode ends.
    failed = [
        seed
        for seed in series
        if not np.isfinite(curves[seed].episode_return[curves[seed].no_episode :]).all()
    ]
    counts = {
        seed: {name: np.array(values) for name, values in named.items()}
        for seed, named in series.items()
        if seed not in failed
    }
    total = {
        name: np.sum([named[name] for named in counts.values()], axis=0)
        for name in next(iter(counts.values()), {})
    }
    none = np.zeros(0)
    return Distributions(
        np.array(next(iter(curves.values())).env_steps),
        {quantity: sizes(total, quantity) for quantity in QUANTITIES} if total else {},
        {seed: {q: sizes(named, q) for q in QUANTITIES} for seed, named in counts.items()},
        ratio(total["sign_changes"], total["sign_pairs"]) if total else none,
        ratio(total["cosine"], total["cosine_count"]) if total else none,
        failed,
    )


def sizes(counts: dict[str, np.ndarray], quantity: str) -> Sizes:
    """The distribution of a quantity from its counts, each ``[T]``."""
    at_least = np.stack([counts[above(quantity, k)] for k in range(NUM_BINS)], axis=1)
    zeros = counts[f"{quantity}_zero"]
    everything = np.maximum(at_least[:, 0] + zeros, 1.0)  # no update at a point: all shares are 0
    in_bin = at_least - np.c_[at_least[:, 1:], np.zeros(len(zeros))]
    return Sizes(in_bin / everything[:, None], zeros / everything)


def _quantiles(shares: np.ndarray) -> np.ndarray:
    """log10 of the size at each level, straight within a bin."""
    if not shares.sum() > 0:
        return np.full(len(LEVELS), np.nan)
    cumulative = np.r_[0.0, np.cumsum(shares) / shares.sum()]
    edges = np.r_[EDGES, EDGES[-1] + 1 / PER_DECADE]
    places = np.searchsorted(cumulative, LEVELS, side="left").clip(1, NUM_BINS)
    low, high = cumulative[places - 1], cumulative[places]
    # The bin at a level is not empty, so high > low.
    return edges[places - 1] + (np.array(LEVELS) - low) / (high - low) / PER_DECADE


def distance(one: Sizes, other: Sizes) -> float:
    """How far apart two distributions of sizes at one point each are, in decades.

    The Wasserstein-1 distance between the distributions of log10 of the elements that are
    not 0; NaN where all are 0.
    """
    ends = [part.shares[0] / total if (total := part.shares[0].sum()) > 0 else None
            for part in (one, other)]  # fmt: skip
    if ends[0] is None or ends[1] is None:
        return float("nan")
    return float(np.abs(np.cumsum(ends[0]) - np.cumsum(ends[1])).sum() / PER_DECADE)


def phases(points: int) -> list[slice]:
    """The thirds of training as slices of its points; of fewer than three, some come twice."""
    ends = [round(points * part / len(PHASES)) for part in range(len(PHASES) + 1)]
    pairs = [(min(low, points - 1), high) for low, high in itertools.pairwise(ends)]
    return [slice(low, max(high, low + 1)) for low, high in pairs]
