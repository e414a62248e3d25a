"""Analyses by name: known answers in whole runs, what is left, nothing is computed twice."""

import csv

import numpy as np
import pytest

from meta import results
from meta.analysis import update_measure, update_statistics
from meta.analysis.curves import bands_over_seeds, mean_over_time, read_curves
from meta.analysis.update_statistics import analyze
from meta.evaluation import contestants, runner
from meta.evaluation.runner import Request
from meta.evaluation.store import Cell, Store
from meta.results import bootstrap
from meta.runs.workdir import WorkdirError

TINY = {"num_envs": 4, "num_steps": 8, "widths": [4], "num_epochs": 1, "num_minibatches": 2}


def ask(folder, *optimizers, **changes):
    return {
        "optimizers": optimizers or ("sgd",),
        "workdir": str(folder),
        "tasks": ("catch",),
        "num_seeds": 2,
        "total_timesteps": 96,
        "points": 3,
        "seeds_per_device": 1,
        "agent_options": TINY,
        "untrained": False,
        **changes,
    }


def request(folder, *optimizers, **changes):
    return Request(**ask(folder, *optimizers, **changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("analysis") / "run"
    return folder, analyze(request(folder))


def rows(folder):
    with open(folder / "analysis.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_plain_gradient_descent_follows_the_gradient_all_through_training(finished):
    folder, text = finished
    found = [row for row in rows(folder) if row["statistic"] == "cos_gradient"]
    assert len(found) == 2 * 3 * 3  # seeds, points, networks
    np.testing.assert_allclose([float(row["value"]) for row in found], 1.0, atol=1e-5)
    assert {row["network"] for row in found} == {"all", "actor", "critic"}
    assert [int(row["env_steps"]) for row in found[:3]] == [32, 64, 96]
    assert "| cos_gradient | all | sgd, 0.01 default | 1 (1 to 1) |" in text


def test_everything_is_left_behind(finished):
    folder, text = finished
    assert (folder / "summary.md").read_text() == text
    for kind in ("dormancy", "cosine", "update_size", "norms"):
        assert (folder / f"catch_{kind}.png").stat().st_size > 10_000
    assert not (folder / "catch_stochasticity.png").exists()  # nothing draws here
    shares = [float(r["value"]) for r in rows(folder) if r["statistic"].startswith("dormant_")]
    assert shares and min(shares) >= 0 and max(shares) <= 1
    assert results.read(folder / "results.csv").optimizers() == ["sgd"]


@pytest.mark.slow
def test_watching_changes_no_result(finished, tmp_path):
    asked = request(tmp_path / "plain")
    store = Store(asked.workdir, asked.settings)
    runner.evaluate(asked.evaluation(contestants.resolve(asked.optimizers)), store)
    plain = results.read(tmp_path / "plain" / "results.csv")
    watched = results.read(finished[0] / "results.csv")
    np.testing.assert_allclose(plain.episode_return, watched.episode_return, atol=1e-6)


def test_the_same_call_again_does_nothing(finished, monkeypatch):
    monkeypatch.setattr(runner, "make_task", None)  # would raise if called
    monkeypatch.setattr(update_statistics.update_plots, "plot", None)
    assert analyze(request(finished[0])) == finished[1]


def test_seeds_that_fail_are_left_out_and_named(tmp_path):
    store = Store(tmp_path, {}, "analysis")
    cell = Cell("catch", "sgd", {}, "sgd")
    norms = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]])
    with store.writing():
        store.begin(cell, 1)
        store.write_chunk(cell, [0, 1, 2], [32, 64], norms, {"parameter_norm/all": norms})
    curves = read_curves(store, "catch", "sgd")
    assert curves.failed == [1]
    np.testing.assert_allclose(curves.bands["parameter_norm/all"].point, [3.0, 4.0])
    assert curves.overall["parameter_norm/all"].point == 3.5
    assert "NaN or infinite: seeds 1" in update_statistics._markdown({"catch": {"sgd": curves}})


def test_updates_of_0_have_no_direction():
    sums = {
        "updates": np.array([[2.0, 2.0]]),
        "defined/all": np.array([[1.0, 0.0]]),
        "cos_gradient/all": np.array([[0.5, 0.0]]),
        "update_norm/all": np.array([[3.0, 0.0]]),
    }
    means = update_measure._means(sums)
    np.testing.assert_array_equal(means["cos_gradient/all"], [[0.5, np.nan]])
    np.testing.assert_array_equal(means["update_norm/all"], [[1.5, 0.0]])
    curves = np.repeat(means["cos_gradient/all"], 2, axis=0)
    np.testing.assert_array_equal(bands_over_seeds({"a": curves})["a"].low, [0.5, np.nan])
    np.testing.assert_array_equal(mean_over_time(curves), [0.5, 0.5])


def test_bands_are_means_with_intervals_of_each_curve():
    good = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])
    bands = bands_over_seeds({"a": good, "b": 2 * good})
    np.testing.assert_allclose(bands["a"].point, [1.5, 2.5, 3.5])
    np.testing.assert_allclose(bands["b"].low, 2 * bands["a"].low)
    one = bands_over_seeds({"a": good[:1]})["a"]
    np.testing.assert_array_equal(one.low, good[0])
    mean = bootstrap.curve_interval(good, statistic="mean")
    np.testing.assert_allclose(mean.point, good.mean(axis=0))


@pytest.mark.parametrize(
    ("optimizers", "changes", "message"),
    [
        (("sdg",), {}, "did you mean 'sgd'"),
        (("sgd",), {"tasks": ("cach",)}, "catch"),
        (("sgd",), {"num_seeds": 0}, "no seeds"),
        (("sgd",), {"taus": [-1.0]}, "--tau must be numbers"),
        (("sgd",), {"taus": []}, "--tau must be numbers"),
    ],
)
def test_bad_input_is_explained_and_leaves_the_folder_alone(tmp_path, optimizers, changes, message):
    taus = changes.get("taus", [0.0])
    others = {name: value for name, value in changes.items() if name != "taus"}
    asked = ask(tmp_path / "run", *optimizers, **others)
    with pytest.raises(ValueError, match=message):
        analyze(Request(**asked), taus)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_the_folder_of_an_evaluation_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"kind": "evaluation", "format_version": 1}')
    with pytest.raises(WorkdirError, match="no analysis"):
        analyze(request(tmp_path))
