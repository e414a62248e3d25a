"""What a search leaves: the winner as a preset, all scores as a table, a plot, a page."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from learned_opt.files import presets
from meta.evaluation import tuning_space
from meta.evaluation.tuning_space import ANNEAL, NEAR_ONE, Values
from meta.results import bootstrap, markdown, plot_style
from meta.results.plot_style import FONT, ORANGE, WIDTH, Style
from meta.runs import stamped
from meta.runs.workdir import Workdir

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_VERSION = 1  # of what is written: a newer one writes anew
_MOST_LINES = 8  # of a plot; more combinations are shown as points


class About(NamedTuple):
    """What was searched.

    Attributes:
      optimizer, task, agent, criterion: names.
      searched: names of the hyperparameters that differ between candidates.
      env_steps: environment steps of each run.
    """

    optimizer: str
    task: str
    agent: str
    criterion: str
    searched: list[str]
    env_steps: int


class Candidate(NamedTuple):
    """A candidate and its scores.

    Attributes:
      values: all of its hyperparameters.
      scores: of each seed, ``[S]``.
      low, high: the 95 % interval of their mean; None where there is none.
      no_episode: whether one of the runs has ended no episode.
    """

    values: Values
    scores: np.ndarray
    low: float | None = None
    high: float | None = None
    no_episode: bool = False

    @property
    def mean(self) -> float:
        """NaN if one of the runs failed, or ended no episode."""
        return float(np.mean(self.scores))


def write(folder: Workdir, about: About, candidates: Sequence[Candidate]) -> str:
    """Writes everything, if it is not there already.

    Args:
      folder: of the search.
      about: what was searched.
      candidates: all of them, without intervals.

    Returns:
      The summary as Markdown.

    Raises:
      ValueError: every candidate failed; the table of scores is there all the same.
    """
    content = [_VERSION, about, [(c.values, c.scores.tolist()) for c in candidates]]
    return stamped.summary(
        folder, json.dumps(content).encode(), lambda: _write(folder, about, _ranked(candidates))
    )


def _write(folder: Workdir, about: About, ranked: Sequence[Candidate]) -> tuple[str, list[str]]:
    best = ranked[0]
    folder.write_table(folder.tuning, *_table(about, ranked))
    if not np.isfinite(best.mean):
        raise ValueError(
            f"{about.optimizer} failed on {about.task} with all hyperparameters tried, or ended no "
            f"episode: see {folder.tuning}, and try smaller learning rates, or more "
            "--total_timesteps"
        )
    provenance = {
        "tuned_on": [about.task],
        "agent": about.agent,
        "env_steps": about.env_steps,
        "seeds": len(best.scores),
        "candidates": len(ranked),
        "criterion": about.criterion,
        "score": best.mean,
    }
    presets.write_preset(
        folder.path / "preset.json", about.optimizer, best.values, provenance=provenance
    )
    plot_style.save(_figure(about, ranked), folder.path / "tuning.png")
    return _markdown(about, ranked), ["preset.json", "tuning.csv", "tuning.png"]


def _ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """With intervals; the best first, failed ones last; the first one given of equal ones."""
    sound = [row for row in candidates if np.isfinite(row.scores).all()]
    failed = [row for row in candidates if not np.isfinite(row.scores).all()]
    if sound and len(sound[0].scores) >= bootstrap.LEAST_SEEDS:
        table = np.stack([row.scores for row in sound], axis=1)
        _, low, high = bootstrap.curve_interval(table, statistic="mean")
        sound = [
            row._replace(low=float(a), high=float(b))
            for row, a, b in zip(sound, low, high, strict=True)
        ]
    return sorted(sound, key=lambda row: -row.mean) + failed


def _table(about: About, ranked: Sequence[Candidate]) -> tuple[list[str], list[list[Any]]]:
    """Header and rows: one per candidate, the best first."""
    names = list(ranked[0].values)
    seeds = [f"seed_{seed}" for seed in range(len(ranked[0].scores))]
    header = ["task", "agent", "optimizer", *names, "criterion", "seeds"]
    rows = []
    for place, row in enumerate(ranked):
        values = [tuning_space.written(row.values[name]) for name in names]
        chosen = int(place == 0 and np.isfinite(row.mean))
        what = [about.task, about.agent, about.optimizer, *values, about.criterion, len(seeds)]
        rows.append([*what, row.mean, row.low, row.high, chosen, *row.scores.tolist()])
    return [*header, "score", "score_low", "score_high", "chosen", *seeds], rows


def _markdown(about: About, ranked: Sequence[Candidate]) -> str:
    seeds = len(ranked[0].scores)
    lines = [
        f"# {about.optimizer} on {about.task}\n",
        f"{len(ranked)} candidates, {seeds} seed{'s' * (seeds > 1)} each, "
        f"{about.env_steps:,} environment steps, {about.agent}; criterion: {about.criterion}.\n",
        f"Best: {tuning_space.describe(ranked[0].values, list(ranked[0].values))}\n",
    ]
    rows = []
    for row in ranked:
        cells = [tuning_space.written(row.values[name]) for name in about.searched]
        without = "no episode" if row.no_episode else "failed"
        score = f"{row.mean:.4g}" if np.isfinite(row.mean) else without
        if row.low is not None:
            score += f" ({row.low:.4g} to {row.high:.4g})"
        rows.append([*cells, score])
    header = [*about.searched, "score (95 % interval)"]
    lines.append(markdown.table(header, rows, "r" * len(header)))
    notes = [
        f"- The best {name} is the {which} one tried: values beyond it may be better."
        for name in about.searched
        for which in _edge(ranked, name)
    ]
    if ranked[0].low is not None:
        even = sum(row.high is not None and row.high >= ranked[0].low for row in ranked[1:])
        notes.append(
            f"- The intervals of {even} other candidates overlap with the best one's. The best of "
            "many scores is flattered by chance: evaluate the preset on seeds of its own."
        )
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def _edge(ranked: Sequence[Candidate], name: str) -> list[str]:
    """``smallest`` or ``largest`` if the best value is at an end of several."""
    tried = sorted({row.values[name] for row in ranked})
    if name == ANNEAL or len(tried) < 2:
        return []
    best = ranked[0].values[name]
    return ["smallest"] * (best == tried[0]) + ["largest"] * (best == tried[-1])


def _figure(about: About, ranked: Sequence[Candidate]) -> "Figure":
    """Lines over one hyperparameter if a few say all, else points over each of them."""
    several = [n for n in about.searched if len({row.values[n] for row in ranked}) > 1]
    axes_of = (
        sorted(
            several, key=lambda name: -len({row.values[name] for row in ranked if name != ANNEAL})
        )
        or about.searched[:1]
    )
    first, others = axes_of[0], axes_of[1:]
    lines: dict[str, list[Candidate]] = {}
    for row in ranked:
        lines.setdefault(tuning_space.describe(row.values, others), []).append(row)
    as_lines = len(lines) <= _MOST_LINES and first != ANNEAL
    panels = [first] if as_lines else axes_of
    figure = plot_style.new_figure(3.6)
    for axis, name in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        if as_lines:
            _draw_lines(axis, name, lines)
        else:
            sound = [row for row in ranked if np.isfinite(row.mean)]
            axis.plot([float(r.values[name]) for r in sound], [r.mean for r in sound], "o", ms=4)
        best = ranked[0]
        axis.plot(
            float(best.values[name]), best.mean, "*", color=ORANGE, mec="black", mew=0.8, ms=12,
            label="chosen", zorder=5,
        )  # fmt: skip
        plot_style.dress(axis, "", name.replace("_", " "), "")
        _scale(axis, name, [float(row.values[name]) for row in ranked])
    seeds = len(ranked[0].scores)
    what = f"mean{' and 95 % interval' * as_lines}, {seeds} seeds" if seeds > 1 else "one seed"
    label = about.criterion.replace("_", " ").replace("area", "mean return over training")
    figure.supylabel(f"{label} ({what})", fontsize=FONT)
    title = f"{about.optimizer} on {about.task}, {about.env_steps:,} environment steps"
    title += "" if as_lines else "; the star is the one chosen"
    figure.suptitle(title, fontsize=FONT + 1)
    if as_lines:
        axis = figure.axes[0]
        figure.set_figheight(3.6 + plot_style.legend_below(axis, WIDTH))
    return figure


def _draw_lines(axis: "Axes", name: str, lines: dict[str, list[Candidate]]) -> None:
    looks = [
        Style(color, marker, False)
        for color, marker in zip(plot_style.COLORS, (*plot_style.MARKERS, "o"), strict=True)
    ]
    for (label, rows), look in zip(sorted(lines.items()), looks, strict=False):
        shown = sorted(
            (row for row in rows if np.isfinite(row.mean)), key=lambda row: row.values[name]
        )
        x: list[Any] = [row.values[name] for row in shown]
        axis.plot(x, [row.mean for row in shown], marker=look.marker, color=look.color, ms=4.5,
                  lw=1.6, label=label or None)  # fmt: skip
        ends = [(row.low, row.high) for row in shown if row.low is not None]
        if len(ends) == len(shown) and ends:
            axis.fill_between(x, *np.array(ends).T, color=look.color, alpha=0.18, lw=0)


def _scale(axis: "Axes", name: str, values: list[float]) -> None:
    if name == ANNEAL:
        axis.set_xticks([0, 1], ["false", "true"])
        axis.set_xlim(-0.5, 1.5)
    elif name in NEAR_ONE:
        if len(set(values)) <= 4:
            axis.set_xticks(sorted(set(values)))
    elif min(values) > 0 and max(values) > 5 * min(values):
        axis.set_xscale("log")
