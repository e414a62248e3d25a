"""What optimizers do during training: dormancy, direction, size and noise of their updates.

The analyses of section 7 and appendix F of the OPEN paper for any optimizer and task. Runs
are those of an evaluation, chunk by chunk, with the optimizer watched (``update_measure``).
The folder is an evaluation's, and besides ``results.csv`` leaves

    analysis.csv    one row per task, optimizer, seed, point, statistic and network
    summary.md      means over training and at its ends, with intervals over seeds
    *.png           curves
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from agents import task_presets
from meta.analysis import update_measure, update_plots
from meta.analysis.curves import Curves, read_curves
from meta.engine import watching
from meta.evaluation import contestants, legends, runner
from meta.evaluation.runner import Request
from meta.evaluation.store import Store, slug
from meta.results import bootstrap, markdown
from meta.results.looks import Looks, plain
from meta.runs import stamped

KIND = "analysis"
COLUMNS = (
    "task", "agent", "optimizer", "seed", "env_steps", "statistic", "network", "value",
)  # fmt: skip
_VERSION = 2  # of what is drawn: a newer one draws old results anew


def analyze(request: Request, taus: Sequence[float] = update_measure.TAUS) -> str:
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
    make_engine = functools.partial(watching.make_engine, measure=update_measure.make_measure(kept))
    runner.evaluate(request.evaluation(entries), store, make_engine)
    results = b"%d" % _VERSION + legends.fingerprint(store.manifest)
    results += store.folder.results.read_bytes()
    return stamped.summary(store.folder, results, lambda: _write(store, request.agent))


def _write(store: Store, agent: str) -> tuple[str, list[str]]:
    """Writes the table and plots; the summary, and the files' names."""
    folder = store.folder.path
    tasks: dict[str, dict[str, Curves]] = {}
    for task, optimizer in store.cells():
        measured = read_curves(store, task, optimizer)
        if measured is not None:
            tasks.setdefault(task, {})[optimizer] = measured
    looks = legends.looks(store.manifest, [optimizer for _, optimizer in store.cells()])
    files = ["analysis.csv"]
    store.folder.write_table(folder / files[0], COLUMNS, _rows(agent, store))
    for task, by_optimizer in tasks.items():
        files += update_plots.plot(folder, task, slug(task), by_optimizer, looks)
    return _markdown(tasks, looks, legends.notes(store.manifest)), files


def _rows(agent: str, store: Store) -> Iterator[tuple]:
    for task, optimizer in store.cells():
        steps = store.curves(task, optimizer)
        who = task_presets.agent_for(task, agent)
        for seed, series in store.series(task, optimizer).items():
            for name, curve in series.items():
                statistic, _, network = name.partition("/")
                for env_steps, value in zip(steps[seed].env_steps, curve, strict=True):
                    at = (task, who, optimizer, seed, env_steps, statistic, network)
                    yield *at, f"{value:.7g}"


def _markdown(
    tasks: dict[str, dict[str, Curves]], looks: Looks | None = None, told: Sequence[str] = ()
) -> str:
    """A table for each task: the beginning, the end, and the mean over training."""
    looks = looks or plain(name for found in tasks.values() for name in found)
    parts = []
    for task, found in tasks.items():
        names = dict.fromkeys(name for curves in found.values() for name in curves.values)
        rows = [
            [*name.split("/", 1), looks.label(optimizer, [task]), *_numbers(curves, name)]
            for name in sorted(names, key=update_plots.position)
            for optimizer, curves in found.items()
            if name in curves.values
        ]
        header = ("statistic", "network", "optimizer", "first point", "last point")
        table = markdown.table((*header, "mean over training"), rows, "lllrrr")
        parts.append(f"# {task}\n\n{table}\n")
        notes = [_note(optimizer, curves) for optimizer, curves in found.items()]
        parts.append("\n".join(notes) + "\n")
    if told:
        parts.append("# Notes\n\n" + "\n".join(f"- {note}" for note in told) + "\n")
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
