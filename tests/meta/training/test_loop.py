"""Whole small meta-trainings: what they leave, and that a crash costs nothing."""

import csv
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

import learned_opt
from agents import environments
from configs import blocks
from meta import results
from meta.engine.population import Engine
from meta.evaluation import runner
from meta.evaluation.store import Store
from meta.runs import progress
from meta.runs.workdir import WorkdirError, read_metrics
from meta.training import experiment, final_comparison, loop
from meta.training.evolution import EvolutionTrainer
from tests.agents import probes


@pytest.fixture(scope="module", autouse=True)
def probe_suite():
    environments.register_suite(
        "probe", lambda name: probes.Probe(probes.prefer_one, length=3), lambda: ["two-actions"]
    )


def config(**outer):
    made = blocks.shrink(blocks.experiment({"two": blocks.task("probe/two-actions", 256)}, 3))
    made.tasks.two.baselines = {"adam": {}}
    made.optimizer.options.direction_multiplier = 0.1
    made.evaluation.learning_rates = (0.01, 0.1)
    made.logging.tensorboard = False
    made.outer.update(outer)
    return made.to_dict()


def theta_of(state):
    return jax.flatten_util.ravel_pytree(state.meta.search.mean)[0]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    return folder, loop.train(experiment.build(config()), str(folder))


def test_a_run_leaves_what_it_promises(uninterrupted):
    folder, _ = uninterrupted
    text = final_comparison.evaluate_and_report(experiment.build(config()), str(folder))
    assert "open (untrained)" in text
    left = {entry.name for entry in folder.iterdir()}
    assert left >= {
        "config.json", "metrics.csv", "checkpoints", "optimizer.npz", "results.csv",
        "summary.csv", "summary.md", "tuning", "meta_training.png", "intervals.png",
        "returns_two.png", "overview_two.png", "manifest.json", "chunks",
    }  # fmt: skip
    trained = learned_opt.load(folder / "optimizer.npz")
    assert trained.metadata["training"]["meta_steps"] == 3
    assert trained.metadata["training"]["env_steps"] == 3 * 4 * 512
    rows = (folder / "results.csv").read_text().splitlines()
    assert rows[0] == "task,agent,optimizer,seed,env_steps,episode_return"
    with open(folder / "tuning" / "two" / "adam" / "tuning.csv") as file:
        scores = {float(row["learning_rate"]): row for row in csv.DictReader(file)}
    best = max(scores.values(), key=lambda row: float(row["score"]))
    assert set(scores) == {0.01, 0.1} and best["chosen"] == "1"


def test_a_finished_run_computes_nothing_again(uninterrupted, monkeypatch):
    folder, _ = uninterrupted
    made = experiment.build(config())
    text = final_comparison.evaluate_and_report(made, str(folder))
    kept = lambda: {  # noqa: E731
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for name in ("*.csv", "*.npz", "*.json", "*.md")
        for path in folder.rglob(name)
        if path.parent.parent.name != "checkpoints" and path.name != "metrics.csv"
    }
    before = kept()
    monkeypatch.setattr(Engine, "run", None)  # would raise if called
    loop.train(made, str(folder))
    assert final_comparison.evaluate_and_report(made, str(folder)) == text
    changed = [str(path) for path, content in kept().items() if before[path] != content]
    assert all(path.endswith("optimizer.npz") for path in changed)
    assert {path: content for path, (_, content) in kept().items()} == {
        path: content for path, (_, content) in before.items()
    }


@pytest.mark.slow
def test_a_failed_run_counts_as_the_worst_of_its_own_task_in_a_run_of_two(tmp_path):
    values = config(num_generations=1, validate_every=0)
    values["tasks"]["low"] = json.loads(json.dumps(values["tasks"]["two"]))
    values["evaluation"]["learning_rates"] = ()
    loop.train(experiment.build(values), str(tmp_path))
    returns = {"two": [5.0, np.nan], "low": [-7.0, -9.0]}
    made = experiment.build(values)
    result = final_comparison.trained(made, "open", tmp_path)
    asked = final_comparison.evaluation(made, str(tmp_path), [result, *result.controls()])
    store = Store.of_run(tmp_path)
    with store.writing():
        for cell in runner.cells(asked):
            store.begin(cell, 1)
            curves = np.array(returns[cell.task])[:, None] * np.ones((1, 3))
            store.write_chunk(cell, [0, 1], np.array([128, 256, 512]), curves)
    text = final_comparison.evaluate_and_report(made, str(tmp_path))
    assert "9 on two (as 5)" in text  # 3 points of a seed of 3 optimizers
    with open(tmp_path / "summary.csv") as file:
        means = {(row["task"], row["optimizer"]): row["mean"] for row in csv.DictReader(file)}
    assert float(means["two", "open"]) == 5.0 and float(means["low", "open"]) == -8.0


def test_metrics_say_how_many_steps_and_how_much_time_have_passed(uninterrupted):
    rows = read_metrics(uninterrupted[0] / "metrics.csv")
    assert [row["env_steps"] for row in rows] == [2048, 4096, 6144]
    seconds = np.cumsum([row["seconds"] for row in rows])
    np.testing.assert_allclose([row["time_passed"] for row in rows], seconds)


def test_a_folder_whose_metrics_lack_columns_goes_on(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted[0], folder)
    shutil.rmtree(folder / "checkpoints" / "3")  # as if stopped after the second
    rows = read_metrics(folder / "metrics.csv")
    known = [name for name in rows[0] if name not in ("env_steps", "time_passed")]
    with open(folder / "metrics.csv", "w") as file:
        writer = csv.DictWriter(file, known, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[:2])
    state = loop.train(experiment.build(config()), str(folder))
    np.testing.assert_array_equal(theta_of(state), theta_of(uninterrupted[1]))
    *old, new = read_metrics(folder / "metrics.csv")
    assert len(old) == 2 and not any("env_steps" in row for row in old)
    assert new["env_steps"] == 6144
    spent = sum(row["seconds"] for row in [*old, new])
    assert new["time_passed"] == pytest.approx(spent)


@pytest.mark.slow
def test_a_crash_in_a_generation_costs_that_generation_alone(uninterrupted, tmp_path, monkeypatch):
    step = EvolutionTrainer.step

    def crash(self, state, on_progress=None):
        if int(state.generation) == 2:
            raise RuntimeError("power cut")
        return step(self, state, on_progress)

    folder = str(tmp_path / "run")
    monkeypatch.setattr(EvolutionTrainer, "step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        loop.train(experiment.build(config()), folder)
    monkeypatch.setattr(EvolutionTrainer, "step", step)
    state = loop.train(experiment.build(config()), folder)
    np.testing.assert_array_equal(theta_of(state), theta_of(uninterrupted[1]))
    first, second = (
        (path / "metrics.csv").read_text().splitlines()
        for path in (uninterrupted[0], tmp_path / "run")
    )
    drop_seconds = lambda line: line.split(",")[:6]  # noqa: E731
    assert list(map(drop_seconds, first)) == list(map(drop_seconds, second))


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(uninterrupted, tmp_path, monkeypatch):
    step = EvolutionTrainer.step

    def interrupted(self, state, on_progress=None):
        if int(state.generation) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, state, on_progress)

    folder = str(tmp_path / "run")
    monkeypatch.setattr(EvolutionTrainer, "step", interrupted)
    with pytest.raises(progress.Stopped, match="SIGTERM"):
        loop.train(experiment.build(config(checkpoint_every=3)), folder)
    assert learned_opt.load(f"{folder}/optimizer.npz").metadata["training"]["meta_steps"] == 1
    monkeypatch.setattr(EvolutionTrainer, "step", step)
    state = loop.train(experiment.build(config(checkpoint_every=3)), folder)
    np.testing.assert_array_equal(theta_of(state), theta_of(uninterrupted[1]))


def test_a_damaged_checkpoint_is_passed_over(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted[0], folder)
    for file in (folder / "checkpoints" / "3").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.warns(UserWarning, match="cannot be read"):
        state = loop.train(experiment.build(config()), str(folder))
    np.testing.assert_array_equal(theta_of(state), theta_of(uninterrupted[1]))


@pytest.mark.slow
def test_a_run_that_has_ended_goes_on_for_longer(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    loop.train(experiment.build(config(num_generations=2)), str(folder))
    made = experiment.build(config(num_generations=2))
    final_comparison.evaluate_and_report(made, str(folder))
    with pytest.raises(WorkdirError, match=r"outer\.num_generations may be larger"):
        loop.train(experiment.build(config(num_generations=1)), str(folder))
    with pytest.raises(WorkdirError, match="sigma"):
        loop.train(experiment.build(config(num_generations=3, sigma=0.5)), str(folder))
    state = loop.train(experiment.build(config()), str(folder))
    np.testing.assert_array_equal(theta_of(state), theta_of(uninterrupted[1]))
    # The returns that were there were of the shorter run's optimizer.
    rivals = ["open (untrained)", "adam"]
    assert results.read(folder / "results.csv").optimizers() == rivals
    final_comparison.evaluate_and_report(experiment.build(config()), str(folder))
    whole = results.read(folder / "results.csv")
    assert sorted(whole.optimizers()) == sorted(["open", *rivals])
    assert json.loads((folder / "config.json").read_text())["outer"]["num_generations"] == 3


def test_a_folder_of_another_config_is_refused_with_the_difference(uninterrupted):
    folder, _ = uninterrupted
    with pytest.raises(WorkdirError, match=r'(?s)"sigma": 0.03.*"sigma": 0.5'):
        loop.train(experiment.build(config(sigma=0.5)), str(folder))


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(WorkdirError, match=r"thesis\.tex"):
        loop.train(experiment.build(config()), str(tmp_path))


@pytest.mark.slow
def test_multi_task_fitness_is_the_mean_of_normalised_returns(tmp_path):
    values = config()
    values["tasks"]["other"] = json.loads(json.dumps(values["tasks"]["two"])) | {"normalizer": 0.5}
    values["tasks"]["two"]["normalizer"] = 2.0
    made = experiment.build(values)
    before = made.trainer.init(jax.random.key(0))
    after, metrics = made.trainer.step(before)
    # Of one type, so that the next generation runs the same compiled programs.
    assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, before)
    expected = (metrics["return/two"] / 2.0 + metrics["return/other"] / 0.5) / 2
    assert metrics["fitness_mean"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("tasks", "two", "env"), "brakeout", "breakout"),
        (("tasks", "two", "agent", "name"), "pop", "did you mean 'ppo'"),
        (("tasks", "two", "agent", "ppo", "num_minibatches"), 5, "nearest number that works is 4"),
        (("optimizer", "name"), "opne", "did you mean 'open'"),
        (("optimizer", "name"), "adam", "no meta-parameters"),
        (("outer", "strategy"), "OpenES", "Open_ES"),
        (("outer", "name"), "meta", "es"),
        (("outer", "population_size"), 5, "4 or 6"),
        (("outer", "keys_per"), "members", "member"),
        (("outer", "num_generations"), 0, "at least 1"),
        (("evaluation", "criterion"), "best", "final_return"),
        (("evaluation", "num_seeds"), 1, "at least 2"),
        (("tasks", "two", "baselines"), {"adm": {}}, "did you mean 'adam'"),
        (("initial_theta",), "nowhere.npz", "nowhere.npz"),
    ],
)
def test_bad_configs_are_explained_before_anything_runs(path, value, message):
    values = config()
    if path[-1] == "name" and value == "adam":
        values["optimizer"]["options"] = {}
    node = values
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        experiment.build(values)
