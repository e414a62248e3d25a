"""Searches: candidates, one program for all, nothing computed twice, a preset for evaluate."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest

from learned_opt.files import presets
from meta.engine.population import Engine
from meta.evaluation import contestants, runner, tuning, tuning_report, tuning_space
from meta.evaluation.runner import Request
from meta.evaluation.store import Store
from meta.evaluation.tuning import Search
from meta.evaluation.tuning_report import About, Candidate
from meta.evaluation.tuning_space import Choices, Range
from meta.runs.workdir import Workdir, WorkdirError

TINY = {"num_envs": 4, "num_steps": 8, "widths": [4], "num_epochs": 1, "num_minibatches": 2}
SPACE = {"learning_rate": Choices((0.001, 0.1)), "anneal": Choices((False, True))}


def search(folder, space=SPACE, optimizer="adam", task="catch", **changes):
    run = {"num_seeds": 2, "total_timesteps": 96, "points": 3, "seeds_per_device": 3}
    run |= {k: changes.pop(k) for k in list(changes) if k in Request.__dataclass_fields__}
    request = Request((optimizer,), (task,), str(folder), agent_options=TINY, **run)
    return Search(request, space, **changes)


@pytest.fixture(scope="module", autouse=True)
def shared_programs():
    """Engines are made once for all tests, which compiles once."""
    engines = {}

    def engine_once(optimizer, agent, *, members_per_device):
        key = (tuple(optimizer.init(jax.random.key(0))), agent.config, members_per_device)
        if key not in engines:
            engines[key] = Engine(optimizer, agent, members_per_device=members_per_device)
        return engines[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "Engine", engine_once)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuning") / "run"
    return folder, tuning.tune(search(folder))


def table(folder):
    with open(folder / "tuning.csv") as file:
        return list(csv.DictReader(file))


def scores(folder):
    names = ("learning_rate", "anneal", "seed_0", "seed_1")
    return sorted(tuple(row[name] for name in names) for row in table(folder))


def test_a_search_leaves_a_preset_that_evaluate_takes(finished):
    folder, text = finished
    rows = table(folder)
    assert len(rows) == 4 and [row["chosen"] for row in rows] == ["1", "0", "0", "0"]
    assert float(rows[0]["score"]) == max(float(row["score"]) for row in rows)
    for row in rows:
        assert float(row["score"]) == np.mean([float(row["seed_0"]), float(row["seed_1"])])
    (entry,) = contestants.resolve([f"tuned={folder / 'preset.json'}"])
    values = entry.hyperparameters("catch")
    assert values["learning_rate"] == float(rows[0]["learning_rate"])
    assert values["anneal"] == (rows[0]["anneal"] == "true")
    assert presets.read_preset(folder / "preset.json").provenance["tuned_on"] == ["catch"]
    assert (folder / "tuning.png").stat().st_size > 10_000 and "4 candidates" in text


def test_the_same_search_again_does_nothing(finished, monkeypatch):
    folder, text = finished
    monkeypatch.setattr(runner, "make_task", None)  # would raise if called
    monkeypatch.setattr(tuning_report, "_figure", None)
    assert tuning.tune(search(folder)) == text


def test_a_crash_costs_the_chunk_under_way_and_more_values_add_to_it(
    finished, tmp_path, monkeypatch
):
    write, calls = Store.write_chunk, []

    def crash(self, cell, seeds, *args):
        calls.append(len(seeds))
        if len(calls) == 2:
            raise RuntimeError("power cut")
        write(self, cell, seeds, *args)

    folder = tmp_path / "run"
    monkeypatch.setattr(Store, "write_chunk", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        tuning.tune(search(folder, {**SPACE, "anneal": Choices((False,))}))
    tuning.tune(search(folder))
    assert sum(calls) - calls[1] == 8  # each run was written once
    assert scores(folder) == scores(finished[0])


def test_criteria_choose_anew_without_new_runs(finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    monkeypatch.setattr(runner, "make_task", None)
    assert "criterion: area" in tuning.tune(search(folder, criterion="area"))
    cell = json.loads((folder / "manifest.json").read_text())["cells"][0]
    curves = Store(folder, *_settings(folder)).curves("catch", cell["optimizer"])
    expected = tuning.CRITERIA["area"](np.array([curves[0].episode_return]))
    assert float(next(r for r in table(folder) if _is(r, cell))["seed_0"]) == expected.item()


def _settings(folder):
    settings = json.loads((folder / "config.json").read_text())
    return {k: v for k, v in settings.items() if k not in ("kind", "format_version")}, "tuning"


def _is(row, cell):
    values = cell["identity"]["optimizer"]
    return (float(row["learning_rate"]), row["anneal"] == "true") == (
        values["learning_rate"],
        values["anneal"],
    )


def test_the_area_is_of_the_points_where_an_episode_has_ended():
    curves = np.array([[np.nan, -3.0, -1.0], [1.0, 2.0, 3.0], [4.0, np.nan, np.nan]])
    np.testing.assert_array_equal(tuning.CRITERIA["area"](curves), [-2.0, 2.0, np.nan])


@pytest.mark.slow
def test_a_search_in_which_no_episode_ends_is_refused_with_the_fix(tmp_path):
    space = {"learning_rate": Choices((0.001,))}
    asked = search(tmp_path, space, num_seeds=1, total_timesteps=32, points=1)
    with pytest.raises(ValueError, match=r"no episode of catch has ended in 32 steps.*total_time"):
        tuning.tune(asked)


def test_failed_candidates_are_never_chosen(tmp_path):
    about = About("adam", "catch", "ppo", "final_return", ["learning_rate"], 100)
    values = [{"learning_rate": rate, "anneal": False} for rate in (1.0, 0.1, 0.01)]
    found = [[9.0, np.nan], [1.0, 2.0], [2.0, 3.0]]
    rows = [Candidate(v, np.array(s)) for v, s in zip(values, found, strict=True)]
    text = tuning_report.write(Workdir(tmp_path), about, rows)
    assert presets.read_preset(tmp_path / "preset.json").options["learning_rate"] == 0.01
    assert "| 1 | failed |" in text and "smallest one tried" in text
    with pytest.raises(ValueError, match="failed on catch with all hyperparameters"):
        tuning_report.write(Workdir(tmp_path), about, rows[:1])


def test_random_candidates_lie_in_their_ranges_and_more_extend_fewer():
    space = {
        "learning_rate": Range(1e-4, 1e-1),
        "b1": Range(0.9, 0.999),
        "anneal": Choices((True, False)),
    }
    few = tuning_space.candidates("adam", space, "random", 5, 0, {"b2": 0.5})
    many = tuning_space.candidates("adam", space, "random", 200, 0, {"b2": 0.5})
    assert many[:5] == few
    rates = np.array([row["learning_rate"] for row in many])
    assert rates.min() >= 1e-4 and rates.max() <= 1e-1
    assert 0.3 < np.mean(rates < np.sqrt(1e-5)) < 0.7  # half below the geometric middle
    betas = np.array([row["b1"] for row in many])
    assert betas.min() >= 0.9 and betas.max() <= 0.999 and np.median(betas) > 0.97
    assert {row["anneal"] for row in many} == {True, False}
    assert {row["b2"] for row in many} == {0.5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "addam"}, "did you mean 'adam'"),
        ({"optimizer": "open"}, "no handcrafted optimizer 'open'"),
        ({"optimizer": "adam:brakeout"}, "no preset of 'adam'"),
        ({"task": "cach"}, "catch"),
        ({"num_seeds": 0}, "no seeds"),
        ({"space": {}}, "nothing to tune"),
        ({"space": {"decay": Choices((0.9,))}}, "no hyperparameter 'decay'"),
        ({"space": {"b1": Range(0.5, 0.9)}}, "--b1 is a range"),
        ({"search": "gird"}, "did you mean 'grid'"),
        ({"search": "random", "num_samples": 0}, "--num_samples"),
        ({"criterion": "final_retrun"}, "did you mean 'final_return'"),
    ],
)
def test_bad_input_is_explained_and_leaves_the_folder_alone(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        tuning.tune(search(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("learning_rate", "0.1,fast", "'fast' must be a number above 0"),
        ("learning_rate", "0", "above 0"),
        ("b1", "0.9,1", r"'1' must be a number in \[0, 1\)"),
        ("learning_rate", "1e-1..1e-4", "a range goes"),
        ("anneal", "yes", "neither true nor false"),
        ("anneal", "0..1", "true, false or both"),
    ],
)
def test_values_that_cannot_be_are_explained(name, text, message):
    with pytest.raises(ValueError, match=message):
        tuning_space.parse(name, text)


def test_a_foreign_folder_is_refused(finished, tmp_path):
    with pytest.raises(WorkdirError, match="another config"):
        tuning.tune(search(finished[0], optimizer="sgd"))
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(WorkdirError, match="holds no run"):
        tuning.tune(search(tmp_path))
