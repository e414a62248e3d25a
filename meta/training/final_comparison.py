"""What follows meta-training: comparing the result with baselines, plots and tables."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import learned_opt
from learned_opt.base import MetaParams
from meta import results
from meta.engine.population import Engine
from meta.engine.tasks import Task
from meta.evaluation import agents_trained
from meta.evaluation.agents_trained import Contestant
from meta.results import plots, summary
from meta.runs import progress
from meta.runs.workdir import MetricsTable, Workdir
from meta.training import loop
from meta.training.experiment import Experiment
from meta.training.loop import TrainingState


class Trained(NamedTuple):
    """A result of meta-training: a name for the tables, where it comes from, and theta."""

    name: str
    made: Experiment
    theta: MetaParams


def evaluate_and_report(made: Experiment, workdir: str, state: TrainingState) -> str:
    """Trains agents with the result and its rivals on held-out seeds, and reports.

    The rivals are the untrained optimizer and the tasks' baselines, with the same budget of
    environment steps. Rows that are in ``results.csv`` already are not computed again.

    Args:
      made: the experiment.
      workdir: its folder.
      state: after the last meta-step.

    Returns:
      The summary as Markdown; it is also in ``summary.md``, beside ``summary.csv``,
      ``results.csv`` and the plots.
    """
    folder = Workdir(workdir)
    theta, _ = loop.chosen_theta(made, state)
    evaluate(made, folder, [Trained(made.optimizer_name, made, theta)])
    return _report(made, folder)


def evaluate(made: Experiment, folder: Workdir, trained: Sequence[Trained]) -> None:
    """Fills ``results.csv`` with what is not in it yet.

    Args:
      made: whose tasks, held-out seeds, untrained optimizer and baselines count.
      folder: of the results.
      trained: what to evaluate beside those.
    """
    stop = progress.StopRequest()
    with stop.listening():
        if made.evaluation.learning_rates:
            baselines = _tuned_baselines(made, folder, stop)
        else:
            baselines = {
                (task.name, name): dict(options)
                for task in made.tasks
                for name, options in made.baselines[task.name].items()
            }
        jobs = [job for task in made.tasks for job in _contestants(made, trained, task, baselines)]
        _evaluate(made, folder, jobs, stop)


def _tuned_baselines(
    made: Experiment, folder: Workdir, stop: progress.StopRequest
) -> dict[tuple[str, str], dict[str, Any]]:
    """The baselines' options with the best learning rate of the grid."""
    settings = made.evaluation
    chosen, rows = {}, []
    jobs = [
        (task, name, options)
        for task in made.tasks
        for name, options in made.baselines[task.name].items()
    ]
    with progress.Progress("tuning baselines", len(jobs), stop) as bar:
        for task, name, options in jobs:
            tuning = agents_trained.tune_learning_rate(
                name,
                dict(options),
                settings.learning_rates,
                task,
                made.keys.tuning,
                num_seeds=settings.tuning_seeds,
                points=settings.points,
                criterion=settings.criterion,
                on_progress=bar.share,
            )
            chosen[task.name, name] = {**options, "learning_rate": tuning.best}
            rows.append((task.name, name, tuning))
            bar.step(learning_rate=tuning.best)
    agents_trained.write_tuning(folder.tuning, rows)
    return chosen


def _evaluate(
    made: Experiment,
    folder: Workdir,
    jobs: Sequence[tuple[Task, Contestant, Engine | None]],
    stop: progress.StopRequest,
) -> None:
    settings = made.evaluation
    with progress.Progress("evaluation", len(jobs), stop) as bar:
        for task, contestant, engine in jobs:
            if not _is_done(folder, task, contestant.name):
                rows = agents_trained.train_agents(
                    contestant,
                    task,
                    made.keys.evaluation,
                    settings.num_seeds,
                    settings.points,
                    engine=engine,
                    on_progress=bar.share,
                )
                results.append(folder.results, rows)
            bar.step()


def _contestants(
    made: Experiment,
    trained: Sequence[Trained],
    task: Task,
    baselines: dict[tuple[str, str], dict[str, Any]],
) -> list[tuple[Task, Contestant, Engine | None]]:
    """The trained optimizers, the untrained control, and the task's baselines."""
    number = made.tasks.index(task)
    own, compared = _engine(made, number), task.final
    jobs: list[tuple[Task, Contestant, Engine | None]] = []
    for name, source, theta in trained:
        # Families with equal options are the same program: compiled once.
        same = (source.optimizer_name, source.options) == (made.optimizer_name, made.options)
        engine = own if same else _engine(source, number)
        jobs.append((compared, Contestant(name, source.optimizer, theta), engine))
    control = Contestant(
        results.untrained(made.optimizer_name), made.optimizer, untrained_theta(made)
    )
    jobs.append((compared, control, own))
    for (where, baseline), options in baselines.items():
        if where == task.name:
            made_baseline = learned_opt.make(baseline, **options)
            jobs.append((compared, Contestant(baseline, made_baseline, {}), None))
    return jobs


def _engine(made: Experiment, number: int) -> Engine:
    """Of an experiment's optimizer on a task's final comparison: training's own, if it fits."""
    final = made.tasks[number].final_agent
    if final is None:
        return made.engines[number]
    return Engine(made.optimizer, final, members_per_device=made.members_per_device)


def untrained_theta(made: Experiment) -> MetaParams:
    """Where training began."""
    return made.trainer.initial_theta(made.keys.training)


def _is_done(folder: Workdir, task: Task, optimizer: str) -> bool:
    if not folder.results.exists():
        return False
    return len(results.select(results.read(folder.results), task.name, None, optimizer)) > 0


def _report(made: Experiment, folder: Workdir) -> str:
    """Writes summary and plots from the tables in the folder."""
    table, rows, text = write_summary(folder)
    plots.interval_plot(rows, folder.path / "intervals.png")
    for task in made.tasks:
        plots.return_curves_plot(table, task.name, folder.path / f"returns_{task.name}.png")
    _plot_meta_training(made, folder, table)
    return text


def write_summary(folder: Workdir) -> tuple[results.Table, summary.Summary, str]:
    """Writes ``summary.md`` and ``summary.csv``; returns table, summary, and it as Markdown."""
    table = results.read(folder.results)
    finite = np.isfinite(table.episode_return)
    note = ""
    if not finite.all():
        # A failed run counts as the worst return seen, so that it cannot flatter a mean.
        worst = float(table.episode_return[finite].min()) if finite.any() else 0.0
        table = results.fill_failed(table, worst)
        note = f"\n\n{int((~finite).sum())} points are of failed runs; they count as {worst:g}.\n"
    rows = summary.summary(table)
    text = summary.to_markdown(rows) + note
    folder.write(folder.path / "summary.md", text)
    summary.write_csv(rows, folder.path / "summary.csv")
    return table, rows, text


def _plot_meta_training(made: Experiment, folder: Workdir, table: results.Table) -> None:
    metrics = MetricsTable(folder.metrics)
    metrics.load(before=10**12)
    names = [task.name for task in made.tasks]
    made.outer_loop.plot(metrics.rows, names, folder.path / "meta_training.png", table)
