"""What follows meta-training: comparing the result with its control and tuned baselines.

The comparison is an evaluation like any other, in the run's own folder: chunk by chunk,
resumable, and with the same rules and tables (``meta.evaluation``).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from learned_opt import handcrafted, presets
from meta import results
from meta.engine import memory
from meta.engine.population import default_devices
from meta.engine.tasks import Task
from meta.evaluation import contestants, reporting, runner, tuning
from meta.evaluation.contestants import Contestant
from meta.evaluation.store import Store, slug
from meta.results import meta_gradient_plots, normalised, plots
from meta.runs.workdir import MetricsTable, Workdir
from meta.training.experiment import Experiment


def evaluate_and_report(made: Experiment, workdir: str) -> str:
    """Trains agents with the result and its rivals on held-out seeds, and reports.

    The rivals are the untrained optimizer and the tasks' baselines, with the same budget of
    environment steps. What is in the folder already is not computed again.

    Args:
      made: the experiment.
      workdir: its folder, trained.

    Returns:
      The summary as Markdown; it is also in ``summary.md``, beside ``summary.csv``,
      ``results.csv`` and the plots.
    """
    result = trained(made, made.optimizer_name, workdir)
    text = evaluate(made, workdir, [result, *result.controls()])
    _plot_meta_training(made, Workdir(workdir))
    return text


def trained(made: Experiment, name: str, workdir: str | Path) -> Contestant:
    """The optimizer that a meta-training left in its folder, under a name for the tables."""
    return contestants.trained_here(name, str(Workdir(workdir).optimizer), made.initial_theta)


def evaluate(made: Experiment, workdir: str, rivals: Sequence[Contestant]) -> str:
    """Computes what is missing of a comparison, and writes summary and plots.

    Args:
      made: whose tasks, held-out seeds and baselines count.
      workdir: of the results; its config has all that they depend on.
      rivals: what is compared beside the baselines.

    Returns:
      The summary as Markdown.

    Raises:
      progress.Stopped: stopped by a signal; finished chunks are kept.
    """
    asked = evaluation(made, workdir, rivals)
    store = Store.of_run(workdir)
    # Results of a theta, or of baselines, that a run which went on for longer has left behind.
    store.drop(store.outdated(runner.cells(asked)))
    runner.evaluate(asked, store)
    return reporting.write(store, reporting.Wishes(), asked.contestants)


def evaluation(made: Experiment, workdir: str, rivals: Sequence[Contestant]) -> runner.Evaluation:
    """What ``evaluate`` computes; the baselines are tuned for it."""
    block = made.config["evaluation"]
    return runner.Evaluation(
        [*rivals, *_baselines(made, workdir)],
        [_setting(made, task.final) for task in made.tasks],
        made.keys.evaluation,
        block["num_seeds"],
        block["points"],
        _share(block["num_seeds"]),
        made.config["members_per_device"],
    )


def _setting(made: Experiment, task: Task) -> runner.Setting:
    """A task of the experiment, which is built already."""
    identity = runner.setting(task.name, made.config["tasks"][task.name]).identity
    return runner.Setting(task.name, identity, lambda: task)


def _share(population: int) -> int:
    return memory.share_of(population, Mesh(np.array(default_devices()), ("seeds",)))


def _baselines(made: Experiment, workdir: str) -> list[Contestant]:
    """The tasks' baselines, with the best learning rates of the grid if there is one."""
    options: dict[str, dict[str, dict[str, Any]]] = {}
    for task in made.tasks:
        for name, given in made.config["tasks"][task.name]["baselines"].items():
            best = _tuned(made, workdir, task, name, dict(given))
            options.setdefault(name, {})[task.name] = best
    return [contestants.baseline(name, by_task) for name, by_task in options.items()]


def _tuned(
    made: Experiment, workdir: str, task: Task, name: str, options: dict[str, Any]
) -> dict[str, Any]:
    """A baseline's options with the best learning rate, of a search with a folder of its own."""
    block = made.config["evaluation"]
    rates = block["learning_rates"]
    if not rates:
        return options
    folder = Path(workdir) / "tuning" / slug(task.name) / slug(name)
    trials = tuning.Trials(
        str(folder),
        {"points": block["points"], "seed": made.config["seed"]},
        name,
        _setting(made, task),
        [handcrafted.hyperparameters(name, **{**options, "learning_rate": r}) for r in rates],
        ["learning_rate"],
        made.keys.tuning,
        block["tuning_seeds"],
        block["points"],
        block["criterion"],
    )
    tuning.run(trials)
    return presets.read_preset(folder / "preset.json").options_for(task.name)


def _plot_meta_training(made: Experiment, folder: Workdir) -> None:
    table, _ = normalised.failures_as_worst(results.read(folder.results))
    metrics = MetricsTable(folder.metrics)
    metrics.load(before=10**12)
    if made.outer["name"] == "meta_gradient":
        path = folder.path / "meta_training.png"
        names = [task.name for task in made.tasks]
        meta_gradient_plots.meta_training_plot(metrics.rows, names, path)
        return
    history = _history(metrics)
    plots.meta_training_plot(history, folder.path / "meta_training.png")
    for task in made.tasks:
        overview = folder.path / f"overview_{task.name}.png"
        plots.overview_plot(history, table, task.name, overview)


def _history(metrics: MetricsTable) -> dict[str, list]:
    """What the plot of evolution shows, from the metrics table."""
    columns = ("fitness_mean", "fitness_min", "fitness_max")
    history: dict[str, list] = {name: [row[name] for row in metrics.rows] for name in columns}
    history["generation"] = [row["meta_step"] for row in metrics.rows]
    history["validation"] = [
        (row["meta_step"], row["validation"])
        for row in metrics.rows
        if math.isfinite(row.get("validation", math.nan))
    ]
    return history
