"""A third outer loop is one class and one row: random search, defined here alone."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict

import learned_opt
from agents import environments
from configs import blocks
from meta.report import writer
from meta.results import plot_style
from meta.training import evolution, experiment, loop, outer_loop, study
from tests.agents import probes


@dataclasses.dataclass(frozen=True)
class RandomSearchConfig:
    """Tries one theta per meta-step, drawn around the best so far."""

    sigma: float = 0.5
    num_seeds: int = 2


class State(NamedTuple):
    theta: dict
    score: jax.Array
    key: jax.Array
    trials: jax.Array


class RandomSearch:
    unit = "trial"

    def __init__(self, config, optimizer, tasks, engines, initial_theta):
        self.config, self.optimizer, self.tasks, self.engines = config, optimizer, tasks, engines
        self.start = initial_theta

    @property
    def env_steps_per_step(self):
        return self.config.num_seeds * sum(task.env_steps for task in self.tasks)

    def describe_cost(self):
        return [f"{self.config.num_seeds} inner runs per trial"]

    def initial_theta(self, key):
        return self.optimizer.init(key) if self.start is None else self.start

    def init(self, key):
        return State(self.initial_theta(key), jnp.float32(-jnp.inf), key, jnp.int32(0))

    def step(self, state, on_progress=None):
        key, seeds_key = jax.random.split(jax.random.fold_in(state.key, state.trials))
        flat, unravel = ravel_pytree(state.theta)
        tried = unravel(flat + self.config.sigma * jax.random.normal(key, flat.shape))
        keys = jax.random.split(seeds_key, self.config.num_seeds)
        score, _ = evolution.validate(tried, self.tasks, self.engines, keys, on_progress)
        better = score > float(state.score)
        theta, best = (tried, jnp.float32(score)) if better else (state.theta, state.score)
        return State(theta, best, state.key, state.trials + 1), {
            "tried": score,
            "kept": int(better),
        }

    def theta(self, state):
        return state.theta

    def steps_done(self, state):
        return int(state.trials)

    def headline(self, metrics):
        return {"tried": metrics["tried"]}


def plot(rows, tasks, path, table):
    figure = plot_style.new_figure(2.0)
    axis = figure.add_subplot()
    axis.plot([row["meta_step"] for row in rows], [row["tried"] for row in rows])
    plot_style.save(figure, path)


ROW = outer_loop.OuterLoop(
    name="random_search",
    title="random search",
    length="num_trials",
    settings=RandomSearchConfig,
    make=RandomSearch,
    plot=plot,
    caption="returns of what was tried, by trial.",
    smoke={"num_trials": 3},
)


@pytest.fixture(scope="module", autouse=True)
def registered():
    environments.register_suite(
        "random-search-probe",
        lambda name: probes.Probe(probes.prefer_one, length=3),
        lambda: ["two-actions"],
    )
    outer_loop.register(ROW)
    yield
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


def test_it_trains_is_resumed_bit_for_bit_and_leaves_an_optimizer(tmp_path, monkeypatch, capsys):
    random_search = experiment.build(config())  # one for all runs: it compiles once
    whole = loop.train(random_search, str(tmp_path / "whole"))
    assert "2 inner runs per trial\n3 trials: " in capsys.readouterr().out
    step = RandomSearch.step

    def crash(self, state, on_progress=None):
        if int(state.trials) == 2:
            raise RuntimeError("power cut")
        return step(self, state, on_progress)

    monkeypatch.setattr(RandomSearch, "step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        loop.train(random_search, str(tmp_path / "cut"))
    monkeypatch.setattr(RandomSearch, "step", step)
    resumed = loop.train(random_search, str(tmp_path / "cut"))
    assert "going on after trial 2" in capsys.readouterr().out
    np.testing.assert_array_equal(flat(resumed), flat(whole))
    start = random_search.trainer.initial_theta(random_search.keys.training)
    assert np.any(flat(whole) != np.asarray(ravel_pytree(start)[0]))
    trained = learned_opt.load(tmp_path / "cut" / "optimizer.npz")
    np.testing.assert_array_equal(ravel_pytree(trained.theta)[0], flat(whole))
    assert trained.metadata["training"]["outer_loop"] == "random_search"
    assert trained.metadata["training"]["meta_steps"] == 3
    # A report has the folder alone.
    asked = writer.Request((str(tmp_path / "cut"),), str(tmp_path / "page.html"), render=False)
    page = writer.write(asked).read_text()
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
        outer_loop.register(ROW)
