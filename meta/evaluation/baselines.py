"""Handcrafted optimizers without tuned values, tuned where they are to be compared."""

from pathlib import Path

import jax

from learned_opt import handcrafted
from learned_opt.files import presets
from meta.evaluation import runner, tuning
from meta.evaluation.contestants import Contestant
from meta.evaluation.store import slug

# The protocol, the same for every optimizer: all of these, each with and without annealing.
LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
NUM_SEEDS = 4
_POINTS = 20
_STREAM = 40_961  # keeps the keys apart from those of what is compared afterwards


def tuned(request: runner.Request, entries: list[Contestant]) -> list[Contestant]:
    """The contestants, those without tuned values with the best that a search found.

    The searches stay in ``tuning/TASK/OPTIMIZER`` of the folder, and are not run again. Those
    given with hyperparameters of their own, and those with tuned values, are as they were.

    Raises:
      ValueError, progress.Stopped: as ``tuning.run``.
    """
    return [_tuned(request, one) if one.preset is not None else one for one in entries]


def _tuned(request: runner.Request, one: Contestant) -> Contestant:
    assert one.preset is not None  # a handcrafted optimizer
    found = {
        task: _search(request, one.preset.optimizer, task)
        for task in request.tasks
        if one.origin(task) == "default"
    }
    preset = one.preset._replace(
        task_options={**one.preset.task_options, **found},
        provenance={**one.preset.provenance, "origins": dict.fromkeys(found, "tuned")},
    )
    return one._replace(preset=preset)


def _search(request: runner.Request, name: str, task: str) -> dict[str, object]:
    folder = Path(request.workdir) / "tuning" / slug(task) / slug(name)
    trials = tuning.Trials(
        str(folder),
        {**request.settings, "points": _POINTS},
        name,
        runner.tuning_setting(request, task),
        [
            handcrafted.hyperparameters(name, learning_rate=rate, anneal=anneal)
            for rate in LEARNING_RATES
            for anneal in (True, False)
        ],
        ["learning_rate", "anneal"],
        jax.random.fold_in(jax.random.key(request.seed), _STREAM),
        NUM_SEEDS,
        _POINTS,
        "final_return",
    )
    tuning.run(trials)
    return presets.read_preset(folder / "preset.json").options_for(task)
