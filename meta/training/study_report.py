"""What a study leaves for readers: tables, plots, and a page on what was equal."""

import json
import math
from typing import NamedTuple

import numpy as np

from meta import results
from meta.results import markdown, normalised, plot_style, plots
from meta.runs import progress
from meta.runs.workdir import Workdir, read_metrics
from meta.training.study import Study, Variant


class Spent(NamedTuple):
    """What a variant's meta-training has taken.

    Attributes:
      env_steps: environment steps of the meta-training itself.
      seconds: wall time of its meta-steps, with their validations.
      validations: ``[V, 3]``: environment steps, seconds, held-out return of theta then.
      relative_change: of theta since the start; NaN where it was not measured.
    """

    env_steps: int
    seconds: float
    validations: np.ndarray
    relative_change: float


def write(study: Study, workdir: str) -> str:
    """Writes all of a finished study's report; returns the page as Markdown."""
    folder = Workdir(workdir)
    text = (folder.path / "summary.md").read_text(encoding="utf-8")
    first = study.variants[0].experiment
    spent = {variant.name: measure(variant, folder) for variant in study.variants}
    if len(study.grid) == 2:
        table, _ = normalised.failures_as_worst(results.read(folder.results))
        for task in first.tasks:
            heat_map(study, table, task.name, folder)
    else:
        progress_plot(study, spent, folder)
    page = _page(study, text, spent)
    folder.write(folder.path / "report.md", page)
    return page


def measure(variant: Variant, folder: Workdir) -> Spent:
    """Reads what a variant took from its metrics table."""
    rows = read_metrics(folder.path / variant.name / "metrics.csv")
    per_step = variant.experiment.trainer.env_steps_per_step
    clock = np.cumsum([row["seconds"] for row in rows])
    validations = [
        (row["meta_step"] * per_step, seconds, row["validation"])
        for row, seconds in zip(rows, clock, strict=True)
        if math.isfinite(row.get("validation", math.nan))
    ]
    return Spent(
        len(rows) * per_step,
        float(clock[-1]),
        np.array(validations, float).reshape(-1, 3),
        rows[-1].get("theta_relative_change", math.nan),
    )


def progress_plot(study: Study, spent: dict[str, Spent], folder: Workdir) -> None:
    """Held-out return against environment steps spent in meta-training, and wall time."""
    figure = plot_style.new_figure(plots.AXES)
    for axis, column, label in zip(
        figure.subplots(1, 2, sharey=True),
        (0, 1),
        ("environment steps of meta-training", "seconds of meta-training"),
        strict=True,
    ):
        for index, (name, taken) in enumerate(spent.items()):
            x, y = taken.validations[:, column], taken.validations[:, 2]
            color, marker = plot_style.COLORS[index % 8], plot_style.MARKERS[index % 7]
            axis.plot(x, y, color=color, marker=marker, ms=4, lw=1.3, label=name)
        plot_style.dress(axis, "", label, "held-out return" if column == 0 else "")
        if column == 0:
            axis.xaxis.set_major_formatter(plot_style.engineering())
            axis.legend(fontsize=plot_style.FONT, frameon=False)
    seeds = study.variants[0].experiment.schedule.validation_seeds
    figure.suptitle(
        f"Normalised return of theta under way, mean of {seeds} seeds", fontsize=plot_style.FONT + 1
    )
    plot_style.save(figure, folder.path / "meta_training.png")


def heat_map(study: Study, table: results.Table, task: str, folder: Workdir) -> None:
    """The mean final return on a task over the grid's two fields."""
    (vertical, down), (horizontal, across) = study.grid.items()
    values = np.full((len(down), len(across)), np.nan)
    for variant in study.variants:
        _, known = results.known_curves(table, task, variant.label)
        position = down.index(variant.point[0]), across.index(variant.point[1])
        if known.size:  # a gap where no episode has ended
            values[position] = known[:, -1].mean()
    figure = plot_style.new_figure(plots.AXES)
    axis = figure.add_subplot()
    image = axis.imshow(values, cmap="viridis", aspect="auto", origin="lower")
    axis.set_xticks(range(len(across)), [f"{value:g}" for value in across])
    axis.set_yticks(range(len(down)), [f"{value:g}" for value in down])
    known = values[np.isfinite(values)]
    middle = (known.min() + known.max()) / 2 if known.size else 0.0
    for (row, column), value in np.ndenumerate(values):
        if not np.isfinite(value):
            axis.text(column, row, "no episode", ha="center", va="center")
            continue
        color = "black" if value > middle else "white"
        axis.text(column, row, f"{value:.3g}", ha="center", va="center", color=color)
    plot_style.dress(axis, f"{task}: mean final return", horizontal, vertical)
    axis.grid(visible=False)
    figure.colorbar(image, label="episode return")
    plot_style.save(figure, folder.path / f"heat_map_{task}.png")


def _page(study: Study, text: str, spent: dict[str, Spent]) -> str:
    first = study.variants[0].experiment
    header = ["variant", "meta-steps", "environment steps", "wall time", "change of theta"]
    lines = [
        "# Meta-training compared",
        "",
        text,
        "## What each variant took",
        "",
        markdown.table(
            header, [_row(variant, spent[variant.name]) for variant in study.variants], "lrrrr"
        ),
        "",
        "## What was equal",
        "",
        f"- The budget: at most {study.budget:,} environment steps of meta-training each "
        "(validations not counted); the table says what was used.",
        f"- The optimizer ({first.optimizer_name}), where it starts, the tasks "
        f"({', '.join(task.name for task in first.tasks)}) and the seed ({first.seed}).",
        f"- The evaluation: {first.evaluation.num_seeds} seeds that no training saw, the same for "
        "all, the untrained optimizer and the baselines.",
        "",
        "## What was not",
        "",
    ]
    for variant in study.variants:
        lines.append(f"- {variant.name}: `{json.dumps(variant.differences, default=str)}`")
    lines.append("- Wall time: see the table; it depends on the machine.")
    return "\n".join(lines) + "\n"


def _row(variant: Variant, taken: Spent) -> list[str]:
    change = f"{taken.relative_change:.1%}" if math.isfinite(taken.relative_change) else "-"
    steps = f"{variant.experiment.schedule.num_steps} {variant.experiment.trainer.unit}s"
    duration = progress.duration(taken.seconds)
    return [variant.name, steps, f"{taken.env_steps:,}", duration, change]
