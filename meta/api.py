"""The toolkit as functions: what the launchers run, and what a notebook calls.

``meta`` exports them. Each leaves everything in a folder, and the same call again goes on there
or adds what is missing. What is slow to import is imported by the function that needs it, so
that a part of ``meta`` can be had without the rest.

Wherever an optimizer is named, it is as ``launchers/evaluate.py`` takes it: ``adam`` (the paper's
values for each task), ``adam:breakout``, a preset file, an optimizer file or published weights;
``LABEL=`` before it names it in the results.

Whatever leaves plots and tables takes ``also_as``, too: ``also_as=("pdf", "latex")`` writes them in
these forms besides (``pdf``, ``svg``: plots; ``latex``: tables).
"""

import functools
import inspect
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from meta import config_files, plugins

if TYPE_CHECKING:
    import pandas as pd

    from learned_opt.files.presets import Preset
    from learned_opt.files.serialization import TrainedOptimizer
    from meta.evaluation.runner import Request

Texts = str | Sequence[str | os.PathLike[str]]  # one name or path, or several
_R = TypeVar("_R")
_F = TypeVar("_F", bound=Callable[..., Any])


def _in_more_forms(function: _F) -> _F:
    """Adds the argument ``also_as``, within which a function writes its plots and tables.

    ``pdf`` and ``svg``: plots beside their PNG files; ``latex``: a ``.tex`` file for each table of
    the summary. A folder's later calls keep what is there up to date.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, also_as: Sequence[str] = (), **settings: Any) -> Any:
        from meta.runs import outputs

        with outputs.also_as((also_as,) if isinstance(also_as, str) else also_as):
            return function(*args, **settings)

    named = inspect.signature(function)
    *given, last = named.parameters.values()
    also = inspect.Parameter("also_as", inspect.Parameter.KEYWORD_ONLY, default=())
    before = [*given, also, last] if last.kind is last.VAR_KEYWORD else [*given, last, also]
    wrapped.__signature__ = named.replace(parameters=before)  # type: ignore[attr-defined]
    return cast(_F, wrapped)


@_in_more_forms
def train(
    config: Any, workdir: str | None = None, *, comparison: bool = True, **fields: Any
) -> "TrainedOptimizer":
    """Meta-trains an optimizer, and compares it with its untrained self and with baselines.

    Args:
      config: the experiment: a config file or its name (``config_file``) with or without a mode
        (``demo:smoke``, ``configs/demo.py:smoke``), a ``ConfigDict``, or plain dicts with the
        same fields (``configs/blocks.py``).
      workdir: the run's folder; a run begun there goes on. None: a new temporary one.
      comparison: whether the comparison follows; a later call with it adds it.
      **fields: fields of the config with other values; of a block only what differs.

    Returns:
      The optimizer that ``optimizer.npz`` holds; its ``metadata`` says how it was trained, and
      under ``workdir`` where.

    Raises:
      ValueError, FileNotFoundError: bad input, before anything is compiled.
      meta.runs.progress.Stopped: stopped by a signal; the same call goes on.

    Example:
      >>> import meta
      >>> trained = meta.train(
      ...     "configs/demo.py:smoke",
      ...     comparison=False,
      ...     outer={"num_generations": 1, "validate_every": 0},
      ... )  # doctest: +ELLIPSIS
      training open in ...
      >>> trained.metadata["name"], trained.metadata["training"]["meta_steps"]
      ('open', 1)
    """
    import learned_opt
    from meta.training import experiment, final_comparison, loop

    built = experiment.build(config_files.plain(config, fields))
    folder = _folder(workdir)
    loop.train(built, folder)
    if comparison:
        final_comparison.evaluate_and_report(built, folder)
    trained = learned_opt.load(Path(folder, "optimizer.npz"))
    return trained._replace(metadata={**trained.metadata, "workdir": folder})


@_in_more_forms
def compare(config: Any, workdir: str | None = None, **fields: Any) -> "pd.DataFrame":
    """Trains the variants of a study at one budget, and evaluates them.

    Args:
      config, workdir, **fields: as for ``train``; the config is a study's
        (``configs/compare_es_meta_gradient.py``).

    Returns:
      ``results.csv``: one row per logged point of each run. Its ``attrs`` hold ``workdir`` and
      ``summary``: the study's page as Markdown.

    Raises:
      ValueError, meta.runs.progress.Stopped: as ``train``.
    """
    from meta.training import study, study_report

    built = study.build(config_files.plain(config, fields))
    folder = _folder(workdir)
    study.run(built, folder)
    return _table(folder, "results.csv", study_report.write(built, folder))


@_in_more_forms
def evaluate(
    optimizers: Texts,
    tasks: Texts,
    workdir: str | None = None,
    *,
    normalise_by: str = "",
    references: Sequence[str] = (),
    **settings: Any,
) -> "pd.DataFrame":
    """Trains agents with optimizers on tasks, and compares their returns.

    Args:
      optimizers: one or several names or paths.
      tasks: names of environments (``breakout``, ``brax/ant``) or datasets (``digits``).
      workdir: the folder that keeps everything. None: a new temporary one.
      normalise_by: the optimizer whose mean return is 1; empty: adam, if it is there;
        ``min_max``: by reference values (``agents.task_presets.RETURN_RANGES``).
      references: published values to draw beside: ``open``, ``optim4rl``.
      **settings: the other fields of ``meta.evaluation.runner.Request``: ``num_seeds``,
        ``total_timesteps``, ``agent``, ``agent_options``, ...

    Returns:
      ``results.csv``: one row per logged point of each run. Its ``attrs`` hold ``workdir`` and
      ``summary``: tables with 95 % intervals as Markdown.

    Raises:
      ValueError: bad input, before anything runs.
      meta.runs.progress.Stopped: stopped by a signal; finished runs are kept.

    Example:
      >>> import meta
      >>> small = {"num_envs": 4, "num_steps": 8, "widths": [8], "num_minibatches": 2}
      >>> table = meta.evaluate(
      ...     "adam", "catch", total_timesteps=128, num_seeds=2, points=2, agent_options=small
      ... )  # doctest: +ELLIPSIS
      adam on catch: 2 seeds of 128 environment steps, ...
      >>> table[["optimizer", "seed", "env_steps"]]
        optimizer  seed  env_steps
      0      adam     0         64
      1      adam     0        128
      2      adam     1         64
      3      adam     1        128
    """
    from meta.evaluation import reporting

    request = _request(optimizers, tasks, workdir, settings)
    text = reporting.evaluate(request, reporting.Wishes(normalise_by, tuple(references)))
    return _table(request.workdir, "results.csv", text)


@_in_more_forms
def tune(
    optimizer: str,
    task: str,
    workdir: str | None = None,
    *,
    space: Mapping[str, str | Sequence[Any]],
    search: str = "grid",
    num_samples: int = 32,
    criterion: str = "final_return",
    **settings: Any,
) -> "Preset":
    """Tunes a handcrafted optimizer on a task.

    Args:
      optimizer: its name; ``adam:breakout`` starts from the paper's values for Breakout.
      task: an environment or a dataset.
      workdir: the folder that keeps everything. None: a new temporary one.
      space: hyperparameter -> values to try, or in a random search a range as text
        (``"1e-4..1e-1"``).
      search: ``grid``: all combinations; ``random``: draws.
      num_samples: draws of a random search.
      criterion: ``final_return``, or ``area``: the mean return over training.
      **settings: as for ``evaluate``.

    Returns:
      The best candidate; ``preset.json`` in the folder is the same, for ``evaluate``.

    Raises:
      ValueError: bad input, before anything runs; or every candidate failed.
      meta.runs.progress.Stopped: stopped by a signal; finished runs are kept.

    Example:
      >>> import meta
      >>> small = {"num_envs": 4, "num_steps": 8, "widths": [8], "num_minibatches": 2}
      >>> best = meta.tune(
      ...     "sgd",
      ...     "catch",
      ...     space={"learning_rate": [0.1, 0.01]},
      ...     total_timesteps=128,
      ...     num_seeds=2,
      ...     agent_options=small,
      ... )  # doctest: +ELLIPSIS
      sgd on catch: 4 runs of 128 environment steps, ...
      >>> best.optimizer, sorted(best.options)
      ('sgd', ['anneal', 'learning_rate'])
    """
    from learned_opt.files import presets
    from meta.evaluation import tuning, tuning_space

    request = _request(optimizer, task, workdir, settings)
    allowed = {
        name: tuning_space.parse(
            name, values if isinstance(values, str) else ",".join(map(str, values))
        )
        for name, values in space.items()
    }
    tuning.tune(tuning.Search(request, allowed, search, num_samples, criterion))
    return presets.read_preset(Path(request.workdir, "preset.json"))


@_in_more_forms
def analyze(
    optimizers: Texts,
    tasks: Texts,
    workdir: str | None = None,
    *,
    what: str = "updates",
    taus: Sequence[float] = (0.0, 0.025, 0.1),
    **settings: Any,
) -> "pd.DataFrame":
    """Measures what optimizers do while they train agents.

    Args:
      optimizers, tasks, workdir, **settings: as for ``evaluate``.
      what: ``updates``: dormancy, direction, size and noise of updates; ``gradients``: how
        gradients and updates are distributed over training.
      taus: of ``updates``: scores in [0, 1) up to which a neuron counts as dormant.

    Returns:
      ``analysis.csv`` or ``gradients.csv``, one row per value. Its ``attrs`` hold ``workdir``
      and ``summary`` as Markdown.

    Raises:
      ValueError, meta.runs.progress.Stopped: as ``evaluate``.
    """
    from meta.analysis import gradient_statistics, update_statistics

    request = _request(optimizers, tasks, workdir, {"untrained": False, **settings})
    if what == "gradients":
        return _table(request.workdir, "gradients.csv", gradient_statistics.analyze(request))
    if what != "updates":
        raise ValueError(f"what must be updates or gradients, got {what!r}")
    return _table(request.workdir, "analysis.csv", update_statistics.analyze(request, taus))


@_in_more_forms
def write_report(folders: Texts, out: str = "report.html", **settings: Any) -> Path:
    """Writes one HTML page, which opens without a network, on one or several folders.

    Args:
      folders: workdirs of any kind.
      out: the file to write.
      **settings: the other fields of ``meta.report.writer.Request``: ``render``,
        ``normalise_by``, ``references``, ...

    Returns:
      The file's path.

    Warns:
      meta.report.writer.Incomplete: an agent that was to be shown is not; the page says so, too.

    Raises:
      ValueError: bad input, such as a folder that is no workdir; nothing is written then.
      meta.runs.progress.Stopped: stopped by a signal while agents were trained for the page.
    """
    from meta.report import writer

    settings = {**settings, "references": tuple(settings.get("references", ()))}
    named = {**settings, "folders": _texts(folders), "out": out}
    written = writer.write(_filled(writer.Request, named))
    for missing in written.missing:
        warnings.warn(missing, writer.Incomplete, stacklevel=2)
    return written.path


def export_experience(optimizer: str, task: str, out: str, **settings: Any) -> str:
    """Trains an agent and writes its experience as an RLDS dataset.

    Args:
      optimizer: that trains the agent.
      task: an environment.
      out: the dataset's folder; must not exist.
      **settings: the other fields of ``meta.export.dataset.Request``: ``num_steps``,
        ``total_timesteps``, ``when``, ...

    Returns:
      What was written, in words.

    Raises:
      ValueError: bad input, before anything runs.
      meta.runs.progress.Stopped: stopped by a signal; nothing is left behind.
    """
    from meta.export import dataset

    named = {"optimizer": optimizer, "task": task, "out": out}
    return dataset.export(_filled(dataset.Request, {**settings, **named}))


def _request(
    optimizers: Texts, tasks: Texts, workdir: str | None, settings: Mapping[str, Any]
) -> "Request":
    from meta.evaluation import runner

    named = {"optimizers": _texts(optimizers), "tasks": _texts(tasks), "workdir": _folder(workdir)}
    return _filled(runner.Request, {**settings, **named})


def _filled(kind: type[_R], settings: Mapping[str, Any]) -> _R:
    """A request with these fields; ``ValueError`` as ``settings.read``. Loads plugins first."""
    plugins.load()
    from learned_opt.settings import read

    return read(kind, settings, "the call")


def _texts(names: Texts) -> tuple[str, ...]:
    listed = (names,) if isinstance(names, str | os.PathLike) else names
    return tuple(os.fspath(name) for name in listed if name)


def _folder(workdir: str | os.PathLike[str] | None) -> str:
    return tempfile.mkdtemp(prefix="lopt-rl-") if workdir is None else os.fspath(workdir)


def _table(folder: str, name: str, summary: str) -> "pd.DataFrame":
    import pandas as pd

    table = pd.read_csv(Path(folder, name))
    table.attrs.update(workdir=folder, summary=summary)
    return table
