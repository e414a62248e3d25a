"""A third outer loop is one file with one row: the example of random search."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict

import learned_opt
from agents import environments
from configs import blocks
from meta.report import writer
from meta.training import experiment, loop, outer_loop, study
from tests.agents import probes

EXAMPLE = Path(__file__).parents[3] / "examples" / "extending" / "my_outer_loop.py"


@pytest.fixture(scope="module", autouse=True)
def example():
    """The module of the example, whose import registers it."""
    environments.register_suite(
        "random-search-probe",
        lambda name: probes.Probe(probes.prefer_one, length=3),
        lambda: ["two-actions"],
    )
    spec = importlib.util.spec_from_file_location("my_outer_loop", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del outer_loop._OUTER_LOOPS["random_search"]


def config(**outer):
    task = blocks.task("random-search-probe/two-actions", 256)
    task.baselines = ConfigDict()
    block = ConfigDict(outer_loop.block("random_search", 9))
    made = blocks.shrink(
        blocks.experiment({"two": task}, optimizer="linear", outer=ConfigDict(block))
    )
    made.logging.tensorboard = False
    made.outer.update(outer)
    return made.to_dict()


def flat(state):
    return np.asarray(ravel_pytree(state.meta.theta)[0])


def test_it_trains_is_resumed_bit_for_bit_and_leaves_an_optimizer(
    example, tmp_path, monkeypatch, capsys
):
    random_search = experiment.build(config())  # one for all runs: it compiles once
    whole = loop.train(random_search, str(tmp_path / "whole"))
    assert "2 inner runs per trial and task\n3 trials: " in capsys.readouterr().out
    step = example.RandomSearch.step

    def crash(self, state, on_progress=None):
        if int(state.trials) == 2:
            raise RuntimeError("power cut")
        return step(self, state, on_progress)

    monkeypatch.setattr(example.RandomSearch, "step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        loop.train(random_search, str(tmp_path / "cut"))
    monkeypatch.setattr(example.RandomSearch, "step", step)
    resumed = loop.train(random_search, str(tmp_path / "cut"))
    assert "going on after trial 2" in capsys.readouterr().out
    np.testing.assert_array_equal(flat(resumed), flat(whole))
    start = random_search.trainer.init(random_search.keys.training)
    assert np.any(flat(whole) != np.asarray(ravel_pytree(start.theta)[0]))
    trained = learned_opt.load(tmp_path / "cut" / "optimizer.npz")
    np.testing.assert_array_equal(ravel_pytree(trained.theta)[0], flat(whole))
    assert trained.metadata["training"]["outer_loop"] == "random_search"
    assert trained.metadata["training"]["meta_steps"] == 3
    # A report has the folder alone.
    asked = writer.Request((str(tmp_path / "cut"),), str(tmp_path / "page.html"), render=False)
    page = writer.write(asked).path.read_text()
    for shown in ("meta-training by random search", "3 of 3", "returns of what was tried"):
        assert shown in page, shown
    assert "Not drawn" not in page


def test_a_study_gives_it_as_many_meta_steps_as_the_budget_pays_for():
    base = config()
    per_step = experiment.build(base).trainer.env_steps_per_step
    content = {"base": base, "budget": 5 * per_step + 1, "validations": 2, "grid": ()}
    (variant,) = study.build(content | {"variants": {"wide": {"outer.sigma": 2.0}}}).variants
    assert variant.experiment.schedule.num_steps == 5
    assert variant.experiment.schedule.validate_every == 3
    assert variant.differences == {
        "outer.sigma": 2.0, "outer.num_trials": 5, "outer.validate_every": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outer", "message"),
    [
        ({"name": "random_serch"}, "did you mean 'random_search'.*known: es, meta_gradient"),
        ({"name": "es"}, "outer.num_generations is missing"),
        ({"num_trials": 0}, "outer.num_trials must be at least 1"),
        ({"sgma": 1.0}, "did you mean 'sigma'"),
        ({"validate_every": -1}, "at least 0"),
    ],
)
def test_what_its_block_cannot_mean_is_explained(outer, message):
    with pytest.raises(ValueError, match=message):
        experiment.build(config(**outer))


def test_names_are_given_once():
    with pytest.raises(ValueError, match="exists already"):
        outer_loop.register(outer_loop.get("random_search"))
