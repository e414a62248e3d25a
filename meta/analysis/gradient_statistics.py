"""Distributions of gradients and updates over training, supervised learning beside RL.

What Lan et al. 2024 (arXiv 2302.01470, section 4) argue is hard for optimizers in reinforcement
learning: that agents' gradients are not independent and identically distributed, drift and
are noisy. Here for any optimizer and task, from counts that are taken in every update
(``gradient_counts``). The folder is an evaluation's, and besides ``results.csv`` leaves

    gradients.csv            one row per task, optimizer, seed, point, quantity and statistic
    summary.md               the same of the thirds of training, over seeds
    gradients_OPTIMIZER.png  a figure with a column for each task
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from agents import task_presets
from meta.analysis import gradient_plots
from meta.analysis.distributions import (
    LEVELS,
    PHASES,
    Distributions,
    Sizes,
    distance,
    phases,
    read_distributions,
)
from meta.analysis.gradient_counts import COUNTS, EDGES
from meta.engine import watching
from meta.evaluation import contestants, legends, runner
from meta.evaluation.runner import Request
from meta.evaluation.store import Store, slug
from meta.results import markdown
from meta.results.looks import Looks, plain
from meta.runs import stamped

KIND = "gradients"
COLUMNS = (
    "task", "agent", "optimizer", "seed", "env_steps", "quantity", "statistic", "value",
)  # fmt: skip
_VERSION = 2  # of what is drawn: a newer one draws old results anew


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
    make_engine = functools.partial(watching.make_engine, measure=COUNTS)
    runner.evaluate(request.evaluation(entries), store, make_engine)
    results = b"%d" % _VERSION + legends.fingerprint(store.manifest)
    results += store.folder.results.read_bytes()
    return stamped.summary(store.folder, results, lambda: _write(store, request.agent))


def _write(store: Store, agent: str) -> tuple[str, list[str]]:
    """Writes the table and plots; the summary, and the files' names."""
    folder = store.folder.path
    optimizers: dict[str, dict[str, Distributions]] = {}
    for task, optimizer in store.cells():
        counted = read_distributions(store, task, optimizer)
        if counted is not None:
            optimizers.setdefault(optimizer, {})[task] = counted
    looks = legends.looks(store.manifest, optimizers)
    files = ["gradients.csv"]
    store.folder.write_table(folder / files[0], COLUMNS, _rows(agent, optimizers))
    for optimizer, tasks in optimizers.items():
        sound = {task: counted for task, counted in tasks.items() if counted.by_seed}
        if sound:
            files.append(f"gradients_{slug(optimizer)}.png")
            label = looks.label(optimizer, list(sound))
            gradient_plots.plot(folder / files[-1], label, sound, agent)
    return _markdown(optimizers, looks, legends.notes(store.manifest)), files


def _rows(agent: str, found: dict[str, dict[str, Distributions]]) -> Iterator[tuple]:
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


def _markdown(
    found: dict[str, dict[str, Distributions]],
    looks: Looks | None = None,
    told: Sequence[str] = (),
) -> str:
    """A table of the thirds of training, and what changed between them."""
    looks = looks or plain(found)
    rows, noise = [], []
    for optimizer, tasks in found.items():
        for task, counted in tasks.items():
            name = looks.label(optimizer, [task])
            for quantity, part in counted.sizes.items():
                rows.append([name, task, quantity, *_thirds(counted, part, quantity)])
            failed = f", and {len(counted.failed)} that failed" * bool(counted.failed)
            flips, cosines = _mean(counted.sign_changes), _mean(counted.cosine)
            seeds = f"{len(counted.by_seed)}{failed}"
            noise.append([name, task, f"{flips:.3f}", f"{cosines:.3f}", seeds])
    header = ["optimizer", "task", "quantity", *PHASES]
    header += ["exact zeros, first and last third", "drift, decades"]
    noise_header = ["optimizer", "task", "sign changes", "cosine with the gradient before", "seeds"]
    legend = (
        "Of all elements of all gradients (as the optimizer sees them) and updates: the median of "
        "log10 of their size, with the quantiles 0.05 and 0.95, among those that are not 0. "
        "Drift: the Wasserstein-1 distance between the distributions of log10 of the first and "
        "of the last third, the least and the greatest over seeds. Sign changes: share of the "
        "elements whose gradient has another sign than in the update before. An environment "
        "step of a dataset is a training example.\n"
    )
    table = markdown.table(header, rows, "l" * len(header))
    parts = [table, markdown.table(noise_header, noise, "llrrr"), legend]
    if told:
        parts.append("# Notes\n\n" + "\n".join(f"- {note}" for note in told) + "\n")
    return "\n\n".join(parts)


def _thirds(counted: Distributions, part: Sizes, quantity: str) -> list[str]:
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
