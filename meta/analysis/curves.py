"""Curves of statistics over training: read from a folder, and averaged over seeds."""

from typing import NamedTuple

import numpy as np

from meta.analysis import update_measure
from meta.evaluation.store import Store
from meta.results import bootstrap


class Curves(NamedTuple):
    """An optimizer's statistics on a task.

    Attributes:
      env_steps: [T].
      values: ``STATISTIC/NETWORK`` -> [S, T]; a value is a mean over the updates since the
        point before.
      bands: the same name -> mean over seeds and its 95 % interval, each [T]; without an
        interval (equal to the mean) where there is one seed.
      overall: the same of the mean over training, each a number.
      failed: seeds that are left out because their parameters became NaN or infinite.
    """

    env_steps: np.ndarray
    values: dict[str, np.ndarray]
    bands: dict[str, bootstrap.Estimate[np.ndarray]]
    overall: dict[str, bootstrap.Estimate[float]]
    failed: list[int]


def read_curves(store: Store, task: str, optimizer: str) -> Curves | None:
    """All finished seeds of a cell; None if there are none."""
    series = store.series(task, optimizer)
    if not series:
        return None
    env_steps = np.array(next(iter(store.curves(task, optimizer).values())).env_steps)
    whole = {
        seed: {name: np.array(curve) for name, curve in curves.items()}
        for seed, curves in series.items()
    }
    failed = [
        seed
        for seed, curves in whole.items()
        if not np.isfinite(curves[f"parameter_norm/{update_measure.ALL}"]).all()
    ]
    sound = [curves for seed, curves in whole.items() if seed not in failed]
    names = list(sound[0]) if sound else []
    values = {name: np.array([curves[name] for curves in sound]) for name in names}
    # What could not be measured is NaN in every seed, and no curve.
    values = {name: curve for name, curve in values.items() if np.isfinite(curve).any()}
    # The mean over training goes through the bootstrap as one more point of each curve.
    bands = bands_over_seeds(
        {name: np.c_[curve, mean_over_time(curve)] for name, curve in values.items()}
    )
    return Curves(
        env_steps,
        values,
        {n: bootstrap.Estimate(*(end[:-1] for end in band)) for n, band in bands.items()},
        {n: bootstrap.Estimate(*(end[-1].item() for end in band)) for n, band in bands.items()},
        failed,
    )


def mean_over_time(curves: np.ndarray) -> np.ndarray:
    """The mean over the points that there are, [S]; NaN for a seed without any."""
    there = np.isfinite(curves)
    total = np.where(there, curves, 0.0).sum(axis=1)
    return update_measure.ratio(total, there.sum(axis=1))


def bands_over_seeds(values: dict[str, np.ndarray]) -> dict[str, bootstrap.Estimate[np.ndarray]]:
    """The mean over seeds of every curve with pointwise intervals, all in one bootstrap.

    Points that a seed does not have (an update of 0 has no direction) are NaN.
    """
    if not values:
        return {}
    stacked = np.concatenate(list(values.values()), axis=1)
    there = np.isfinite(stacked).all(axis=0)
    stacked = np.where(there, stacked, 0.0)  # the bootstrap refuses NaN
    if len(stacked) >= bootstrap.LEAST_SEEDS:
        ends = bootstrap.curve_interval(stacked, statistic="mean")
    else:
        ends = bootstrap.Estimate(stacked[0], stacked[0], stacked[0])
    parts = [np.split(np.where(there, end, np.nan), len(values)) for end in ends]
    return {name: bootstrap.Estimate(*(part[i] for part in parts)) for i, name in enumerate(values)}
