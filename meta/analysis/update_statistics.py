"""What optimizers do during training: dormancy, direction, size and noise of their updates.

The analyses of section 7 and appendix F of the OPEN paper for any optimizer and task. Runs
are those of an evaluation, chunk by chunk, with the optimizer observed (``observation``).
The folder is an evaluation's, and besides ``results.csv`` leaves

    analysis.csv    one row per task, optimizer, seed, point, statistic and network
    summary.md      means over training and at its ends, with intervals over seeds
    *.png           curves
"""

import csv
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents import task_presets
from meta.analysis import observation, update_plots
from meta.evaluation import contestants, runner
from meta.evaluation.runner import Request
from meta.evaluation.store import Store, slug, written
from meta.results import bootstrap
from meta.runs import atomic

KIND = "analysis"
COLUMNS = (
    "task", "agent", "optimizer", "seed", "env_steps", "statistic", "network", "value",
)  # fmt: skip
_VERSION = 1  # of what is drawn: a newer one draws old results anew


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


def analyze(request: Request, taus: Sequence[float] = observation.TAUS) -> str:
    """Computes what is missing of an analysis and reports; the same again adds nothing.

    Args:
      request: which optimizers and tasks, how long, on how many seeds, and where.
      taus: thresholds of dormancy, each in [0, 1).

    Returns:
      The summary as Markdown.

    Raises:
      ValueError: bad input, before anything runs.
      progress.Stopped: stopped by a signal; finished chunks are kept.
    """
    if not taus or not all(0 <= tau < 1 for tau in taus):
        raise ValueError(f"--tau must be numbers in [0, 1), got {list(taus) or 'none'}")
    entries = contestants.resolve(request.optimizers)
    kept = tuple(sorted(set(taus)))
    store = Store(request.workdir, {**request.settings, "taus": list(kept)}, KIND)
    observer = functools.partial(observation.Observer, taus=kept)
    runner.evaluate(request.evaluation(entries), store, observer)
    return write(store, request.agent)


def write(store: Store, agent: str) -> str:
    """Writes the table, the summary and plots, if they are not of these results yet."""
    folder = store.folder.path
    stamp = hashlib.sha256(b"%d" % _VERSION + store.folder.results.read_bytes()).hexdigest()
    text = written(folder, stamp)
    if text is not None:
        return text
    tasks: dict[str, dict[str, Curves]] = {}
    for task, optimizer in store.cells():
        curves = _curves(store, task, optimizer)
        if curves is not None:
            tasks.setdefault(task, {})[optimizer] = curves
    _write_table(folder / "analysis.csv", agent, store)
    text = _markdown(tasks)
    store.folder.write(folder / "summary.md", text)
    files = ["summary.md", "analysis.csv"]
    for task, found in tasks.items():
        files += update_plots.plot(folder, task, slug(task), found)
    store.folder.write(folder / "report.json", json.dumps({"stamp": stamp, "files": files}) + "\n")
    return text


def _curves(store: Store, task: str, optimizer: str) -> Curves | None:
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
        if not np.isfinite(curves[f"parameter_norm/{observation.ALL}"]).all()
    ]
    sound = [curves for seed, curves in whole.items() if seed not in failed]
    names = list(next(iter(whole.values())))
    values = {name: np.array([curves[name] for curves in sound]) for name in names}
    # What could not be measured is NaN in every seed, and no curve.
    values = {name: curve for name, curve in values.items() if np.isfinite(curve).any()}
    values = values if sound else {}
    # The mean over training goes through the bootstrap as one more point of each curve.
    bands = _bands({name: np.c_[curve, _over_time(curve)] for name, curve in values.items()})
    return Curves(
        env_steps,
        values,
        {n: bootstrap.Estimate(*(end[:-1] for end in band)) for n, band in bands.items()},
        {n: bootstrap.Estimate(*(end[-1].item() for end in band)) for n, band in bands.items()},
        failed,
    )


def _over_time(curves: np.ndarray) -> np.ndarray:
    """The mean over the points that there are, [S]; NaN for a seed without any."""
    there = np.isfinite(curves)
    count = there.sum(axis=1)
    total = np.where(there, curves, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _bands(values: dict[str, np.ndarray]) -> dict[str, bootstrap.Estimate[np.ndarray]]:
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


def _write_table(path: Path, agent: str, store: Store) -> None:
    with atomic.replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_rows(agent, store))


def _rows(agent: str, store: Store) -> Iterator[tuple]:
    for task, optimizer in store.cells():
        steps = store.curves(task, optimizer)
        who = task_presets.agent_for(task, agent)
        for seed, series in store.series(task, optimizer).items():
            for name, curve in series.items():
                statistic, _, network = name.partition("/")
                for env_steps, value in zip(steps[seed].env_steps, curve, strict=True):
                    yield (
                        task,
                        who,
                        optimizer,
                        seed,
                        env_steps,
                        statistic,
                        network,
                        f"{value:.7g}",
                    )


def _markdown(tasks: dict[str, dict[str, Curves]]) -> str:
    """A table for each task: the beginning, the end, and the mean over training."""
    parts = []
    for task, found in tasks.items():
        lines = [
            f"# {task}\n",
            "| statistic | network | optimizer | first point | last point | mean over training |",
            "| --- | --- | --- | ---: | ---: | ---: |",
        ]
        names = dict.fromkeys(name for curves in found.values() for name in curves.values)
        for name in sorted(names, key=_place):
            statistic, _, network = name.partition("/")
            for optimizer, curves in found.items():
                if name in curves.values:
                    cells = [statistic, network, optimizer.replace("|", "\\|")]
                    lines.append(f"| {' | '.join([*cells, *_numbers(curves, name)])} |")
        parts.append("\n".join(lines) + "\n")
        notes = [_note(optimizer, curves) for optimizer, curves in found.items()]
        parts.append("\n".join(notes) + "\n")
    parts.append(
        "A value is the mean over seeds of a mean over the updates since the point before, with "
        "its 95 % bootstrap interval. Cosines are of the step that is subtracted from the "
        "parameters, so plain gradient descent has 1 with the gradient; an update of 0, such as "
        "those of a learning rate annealed to 0, has none. `relative_update` and "
        "`relative_noise` are ratios of norms; `update_over_parameter` and "
        "`noise_over_parameter` are means over parameters of what the OPEN paper plots in its "
        "figures 12 and 13. A neuron counts as dormant at 0 if it is never active in a "
        "minibatch.\n"
    )
    return "\n".join(parts)


def _place(name: str) -> tuple[int, str, str]:
    """Sorts statistics as ``analysis_plots`` shows them."""
    statistic, _, network = name.partition("/")
    return update_plots.position(statistic), statistic, network


def _numbers(curves: Curves, name: str) -> list[str]:
    several = len(curves.values[name]) >= bootstrap.LEAST_SEEDS
    ends = [[end[i] for end in curves.bands[name]] for i in (0, -1)]
    return [
        (f"{middle:.4g}" + (f" ({low:.4g} to {high:.4g})" if several else ""))
        if np.isfinite(middle)
        else "none"
        for middle, low, high in [*ends, curves.overall[name]]
    ]


def _note(optimizer: str, curves: Curves) -> str:
    count = len(next(iter(curves.values.values()), []))
    text = f"- {optimizer}: {count} seed{'s' * (count != 1)}"
    text += f", {curves.env_steps[-1]:,} environment steps"
    if curves.failed:
        failed = ", ".join(map(str, curves.failed))
        text += f"; left out because parameters became NaN or infinite: seeds {failed}"
    return text
