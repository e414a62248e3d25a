"""Distributions of gradients and updates over training, supervised learning beside RL.

What Lan et al. 2024 (arXiv 2302.01470, section 4) argue is hard for optimizers in reinforcement
learning: that agents' gradients are not independent and identically distributed, drift and
are noisy. Here for any optimizer and task, from counts that are taken in every update
(``gradient_recording``). The folder is an evaluation's, and besides ``results.csv`` leaves

    gradients.csv            one row per task, optimizer, seed, point, quantity and statistic
    summary.md               the same of the thirds of training, over seeds
    gradients_OPTIMIZER.png  a figure with a column for each task
"""

import csv
import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from agents import task_presets
from meta.analysis import gradient_plots
from meta.analysis.gradient_recording import (
    EDGES,
    NUM_BINS,
    PER_DECADE,
    QUANTITIES,
    Recorder,
    above,
)
from meta.evaluation import contestants, runner
from meta.evaluation.runner import Request
from meta.evaluation.store import Store, slug, written
from meta.runs import atomic

KIND = "gradients"
COLUMNS = (
    "task", "agent", "optimizer", "seed", "env_steps", "quantity", "statistic", "value",
)  # fmt: skip
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
PHASES = ("first third", "second third", "last third")
_VERSION = 1  # of what is drawn: a newer one draws old results anew


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


class Found(NamedTuple):
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


def analyze(request: Request) -> str:
    """Computes what is missing and reports; the same again adds nothing.

    Returns:
      The summary as Markdown.

    Raises:
      ValueError: bad input, before anything runs.
      progress.Stopped: stopped by a signal; finished chunks are kept.
    """
    if request.points < len(PHASES):
        raise ValueError(f"--points must be at least {len(PHASES)}, got {request.points}")
    entries = contestants.resolve(request.optimizers)
    store = Store(request.workdir, request.settings, KIND)
    runner.evaluate(request.evaluation(entries), store, Recorder)
    return write(store, request.agent)


def write(store: Store, agent: str) -> str:
    """Writes the table, the summary and figures, if they are not of these results yet."""
    folder = store.folder.path
    stamp = hashlib.sha256(b"%d" % _VERSION + store.folder.results.read_bytes()).hexdigest()
    text = written(folder, stamp)
    if text is not None:
        return text
    found: dict[str, dict[str, Found]] = {}  # by optimizer and task
    for task, optimizer in store.cells():
        counted = _read(store, task, optimizer)
        if counted is not None:
            found.setdefault(optimizer, {})[task] = counted
    with atomic.replacing(folder / "gradients.csv") as temporary, temporary.open("w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_rows(agent, found))
    text = _markdown(found)
    store.folder.write(folder / "summary.md", text)
    files = ["summary.md", "gradients.csv"]
    for optimizer, tasks in found.items():
        shown = {task: counted for task, counted in tasks.items() if counted.by_seed}
        if shown:
            files.append(f"gradients_{slug(optimizer)}.png")
            gradient_plots.plot(folder / files[-1], optimizer, shown, agent)
    store.folder.write(folder / "report.json", json.dumps({"stamp": stamp, "files": files}) + "\n")
    return text


def _read(store: Store, task: str, optimizer: str) -> Found | None:
    """All finished seeds of a cell; None if there are none."""
    curves, series = store.curves(task, optimizer), store.series(task, optimizer)
    if not series:
        return None
    # A run whose parameters are not finite returns NaN.
    failed = [seed for seed in series if not np.isfinite(curves[seed].episode_return).all()]
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
    return Found(
        np.array(next(iter(curves.values())).env_steps),
        {quantity: sizes(total, quantity) for quantity in QUANTITIES} if total else {},
        {seed: {q: sizes(named, q) for q in QUANTITIES} for seed, named in counts.items()},
        _ratio(total["sign_changes"], total["sign_pairs"]) if total else none,
        _ratio(total["cosine"], total["cosine_count"]) if total else none,
        failed,
    )


def sizes(counts: dict[str, np.ndarray], quantity: str) -> Sizes:
    """The distribution of a quantity from its counts, each ``[T]``."""
    at_least = np.stack([counts[above(quantity, k)] for k in range(NUM_BINS)], axis=1)
    zeros = counts[f"{quantity}_zero"]
    everything = np.maximum(at_least[:, 0] + zeros, 1.0)  # no update at a point: all shares are 0
    in_bin = at_least - np.c_[at_least[:, 1:], np.zeros(len(zeros))]
    return Sizes(in_bin / everything[:, None], zeros / everything)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1.0), np.nan)


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


def _rows(agent: str, found: dict[str, dict[str, Found]]) -> Iterator[tuple]:
    names = [f"log10_quantile_{level:g}" for level in LEVELS]
    for optimizer, tasks in found.items():
        for task, counted in tasks.items():
            who = task_presets.agent_for(task, agent)
            for seed, quantities in counted.by_seed.items():
                for quantity, part in quantities.items():
                    values = np.c_[part.zeros, part.quantiles(), part.shares]
                    columns = ["zeros", *names, *(f"share_from_{edge:g}" for edge in EDGES)]
                    for steps, row in zip(counted.env_steps, values, strict=True):
                        for name, value in zip(columns, row, strict=True):
                            if value != 0 or name == "zeros":  # most bins are empty
                                at = (task, who, optimizer, seed, steps, quantity, name)
                                yield *at, f"{value:.6g}"


def _markdown(found: dict[str, dict[str, Found]]) -> str:
    """A table of the thirds of training, and what changed between them."""
    head = ["optimizer", "task", "quantity", *PHASES]
    head += ["exact zeros, first and last third", "drift, decades"]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    noise = ["| optimizer | task | sign changes | cosine with the gradient before | seeds |",
             "| --- | --- | ---: | ---: | ---: |"]  # fmt: skip
    for optimizer, tasks in found.items():
        name = optimizer.replace("|", "\\|")
        for task, counted in tasks.items():
            for quantity, part in counted.sizes.items():
                cells = [name, task, quantity, *_thirds(counted, part, quantity)]
                lines.append(f"| {' | '.join(cells)} |")
            failed = f", and {len(counted.failed)} that failed" * bool(counted.failed)
            seeds = f"{len(counted.by_seed)}{failed}"
            flips, cosines = _mean(counted.sign_changes), _mean(counted.cosine)
            noise.append(f"| {name} | {task} | {flips:.3f} | {cosines:.3f} | {seeds} |")
    legend = (
        "Of all elements of all gradients (as the optimizer sees them) and updates: the median of "
        "log10 of their size, with the quantiles 0.05 and 0.95, among those that are not 0. "
        "Drift: the Wasserstein-1 distance between the distributions of log10 of the first and "
        "of the last third, the least and the greatest over seeds. Sign changes: share of the "
        "elements whose gradient has another sign than in the update before. An environment "
        "step of a dataset is a training example.\n"
    )
    return "\n".join([*lines, "", *noise, "", legend])


def _thirds(counted: Found, part: Sizes, quantity: str) -> list[str]:
    thirds = phases(len(counted.env_steps))
    cells = []
    for rows in thirds:
        quantiles = part.part(rows).quantiles()[0]
        low, middle, high = quantiles[0], quantiles[2], quantiles[-1]
        cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
    zeros = [float(part.part(rows).zeros[0]) for rows in (thirds[0], thirds[-1])]
    drift = [
        distance(s[quantity].part(thirds[0]), s[quantity].part(thirds[-1]))
        for s in counted.by_seed.values()
    ]
    cells.append(f"{zeros[0]:.3f}, {zeros[1]:.3f}")
    return [*cells, f"{min(drift):.2f} to {max(drift):.2f}"]


def _mean(values: np.ndarray) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")
