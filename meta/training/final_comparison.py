"""What follows meta-training: comparing the result with its control and tuned baselines.

The comparison is an evaluation like any other, in the run's own folder: chunk by chunk,
resumable, and with the same rules and tables (``meta.evaluation``).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from learned_opt import handcrafted
from learned_opt.files import presets
from meta import results
from meta.engine import memory
from meta.engine.tasks import Task
from meta.evaluation import contestants, reporting, runner, tuning
from meta.evaluation.contestants import Contestant
from meta.evaluation.store import Store, slug
from meta.results import normalised
from meta.results.looks import Shown
from meta.runs.workdir import Workdir, read_metrics
from meta.training.experiment import Experiment


def evaluate_and_report(experiment: Experiment, workdir: str) -> str:
    """Trains agents with the result and its rivals on held-out seeds, and reports.

    The rivals are the untrained optimizer and the tasks' baselines, with the same budget of
    environment steps. What is in the folder already is not computed again.

    Args:
      experiment: what was trained.
      workdir: its folder.

    Returns:
      The summary as Markdown; it is also in ``summary.md``, beside ``summary.csv``,
      ``results.csv`` and the plots.
    """
    result = trained(experiment, experiment.optimizer_name, workdir)
    text = evaluate(experiment, workdir, [result, *result.controls()])
    folder = Workdir(workdir)
    table, _ = normalised.failures_as_worst(results.read(folder.results))
    rows = read_metrics(folder.metrics)
    names = [task.name for task in experiment.tasks]
    shown = Shown(table, reporting.folder_looks(Store.of_run(workdir), table))
    experiment.outer_loop.plot(rows, names, folder.path / "meta_training.png", shown)
    return text


def trained(experiment: Experiment, name: str, workdir: str | Path) -> Contestant:
    """The optimizer that a meta-training left in its folder, under a name for the tables."""
    path = str(Workdir(workdir).optimizer)
    return contestants.trained_here(name, path, experiment.initial_theta)


def evaluate(experiment: Experiment, workdir: str, rivals: Sequence[Contestant]) -> str:
    """Computes what is missing of a comparison, and writes summary and plots.

    Args:
      experiment: whose tasks, held-out seeds and baselines count.
      workdir: of the results; its config has all that they depend on.
      rivals: what is compared beside the baselines.

    Returns:
      The summary as Markdown.

    Raises:
      progress.Stopped: stopped by a signal; finished chunks are kept.
    """
    asked = evaluation(experiment, workdir, rivals)
    store = Store.of_run(workdir)
    # Results of a theta, or of baselines, that a run which went on for longer has left behind.
    store.drop(store.outdated(runner.cells(asked)))
    runner.evaluate(asked, store)
    return reporting.write(store, reporting.Wishes())


def evaluation(
    experiment: Experiment, workdir: str, rivals: Sequence[Contestant]
) -> runner.Evaluation:
    """What ``evaluate`` computes; the baselines are tuned for it."""
    settings = experiment.evaluation
    return runner.Evaluation(
        [*rivals, *_baselines(experiment, workdir)],
        [_setting(task.final) for task in experiment.tasks],
        experiment.keys.evaluation,
        settings.num_seeds,
        settings.points,
        memory.share_of(settings.num_seeds, jax.devices()),
        experiment.members_per_device,
    )


def _setting(task: Task) -> runner.Setting:
    """A task that is built already; its environment is in the folder's config."""
    identity = {"agent": dataclasses.asdict(task.agent.config)}
    return runner.Setting(task.name, identity, lambda: task)


def _baselines(experiment: Experiment, workdir: str) -> list[Contestant]:
    """The tasks' baselines, with the best learning rates of the grid if there is one."""
    options: dict[str, dict[str, dict[str, Any]]] = {}
    for task in experiment.tasks:
        for name, given in experiment.baselines[task.name].items():
            best = _tuned(experiment, workdir, task, name, given)
            options.setdefault(name, {})[task.name] = best
    tuned = bool(experiment.evaluation.learning_rates)
    return [contestants.baseline(name, by_task, tuned=tuned) for name, by_task in options.items()]


def _tuned(
    experiment: Experiment, workdir: str, task: Task, name: str, options: dict[str, Any]
) -> dict[str, Any]:
    """A baseline's options with the best learning rate, of a search with a folder of its own."""
    settings = experiment.evaluation
    rates = settings.learning_rates
    if not rates:
        return options
    folder = Path(workdir) / "tuning" / slug(task.name) / slug(name)
    trials = tuning.Trials(
        str(folder),
        {"points": settings.points, "seed": experiment.seed},
        name,
        _setting(task),
        [handcrafted.hyperparameters(name, **{**options, "learning_rate": r}) for r in rates],
        ["learning_rate"],
        experiment.keys.tuning,
        settings.tuning_seeds,
        settings.points,
        settings.criterion,
    )
    tuning.run(trials)
    return presets.read_preset(folder / "preset.json").options_for(task.name)
