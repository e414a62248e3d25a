"""Evaluations by name: nothing is computed twice, nothing is lost, bad input is explained."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.base import LearnedOptimizer
from learned_opt.files import presets
from meta import results
from meta.evaluation import baselines, contestants, origin, reporting, runner
from meta.evaluation.reporting import Wishes
from meta.evaluation.runner import Request
from meta.evaluation.store import Cell, Store
from meta.results import bootstrap as stats
from meta.runs.workdir import WorkdirError

TINY = {"num_envs": 4, "num_steps": 8, "widths": [4], "num_epochs": 1, "num_minibatches": 2}
CHANGES = {
    "tasks": ("catch",),
    "num_seeds": 3,
    "total_timesteps": 64,
    "points": 2,
    "seeds_per_device": 2,
    "agent_options": TINY,
}


def scaled_gradient(**options):
    """A learned optimizer of one number: params move by -theta * gradient."""
    del options
    return LearnedOptimizer(
        init=lambda key: {"rate": 0.1 * jax.random.uniform(key)},
        transform=lambda theta: optax.with_extra_args_support(
            optax.stateless(lambda g, p: jax.tree.map(lambda x: -theta["rate"] * x, g))
        ),
    )


def one_layer_alone(**options):
    """A learned optimizer whose theta is as large as one certain layer."""
    del options
    return LearnedOptimizer(
        init=lambda key: {"w": jnp.zeros((3, 3))},
        transform=lambda theta: optax.with_extra_args_support(
            optax.stateless(lambda g, p: jax.tree.map(lambda x: x + theta["w"] @ x, g))
        ),
    )


@pytest.fixture(scope="module", autouse=True)
def shared_programs():
    """Optimizers and engines are made once for all tests, which compiles once."""
    optimizers, engines = {}, {}
    load, engine = contestants.Contestant.load, runner.Engine

    def load_once(self, task):
        key = json.dumps(self._replace(untrained=False).identity(task))
        if key not in optimizers:
            optimizers[key] = load(self, task)
        return optimizers[key]

    def engine_once(optimizer, agent, *, members_per_device):
        key = (optimizer, agent.config, members_per_device)
        if key not in engines:
            engines[key] = engine(optimizer, agent, members_per_device=members_per_device)
        return engines[key]

    bootstrap = stats._bootstrap

    def short_bootstrap(samples, statistic, repetitions, seed):
        del repetitions
        return bootstrap(samples, statistic, 20, seed)

    learned_opt.register("scaled_gradient", scaled_gradient)
    learned_opt.register("one_layer_alone", one_layer_alone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contestants.Contestant, "load", load_once)
        patch.setattr(runner, "Engine", engine_once)
        patch.setattr(stats, "_bootstrap", short_bootstrap)
        yield


@pytest.fixture(scope="module")
def theta_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("theta") / "mine.npz"
    learned_opt.save(path, "scaled_gradient", {"rate": jnp.float32(0.05)})
    return str(path)


def request(workdir, *optimizers, **changes):
    return Request(optimizers or ("adam",), workdir=str(workdir), **{**CHANGES, **changes})


def evaluate(workdir, *optimizers, wishes=None, **changes):
    made = request(workdir, *optimizers, **changes)
    return reporting.evaluate(made, wishes or Wishes())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, theta_file):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, evaluate(folder, "adam", theta_file, num_seeds=5)


@pytest.fixture
def chunks_run(monkeypatch):
    """The (optimizer, seeds) of every chunk that is computed."""
    run = []
    write = Store.write_chunk

    def note(self, cell, seeds, *args):
        run.append((cell.optimizer, list(seeds)))
        write(self, cell, seeds, *args)

    monkeypatch.setattr(Store, "write_chunk", note)
    return run


def test_an_evaluation_leaves_what_it_promises(finished):
    folder, text = finished
    left = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert left == {
        "config.json", "manifest.json", "chunks", "results.csv", "summary.csv", "summary.md",
        "stamp.json", "intervals.png", "returns_catch.png", "optimizers",
    }  # fmt: skip
    assert (folder / "summary.md").read_text() == text
    table = results.read(folder / "results.csv")
    assert table.optimizers() == ["adam", "mine", "mine (untrained)"]
    assert len(table) == 3 * 5 * 2
    assert set(table.agent) == {"ppo"} and set(table.env_steps) == {32, 64}
    with open(folder / "summary.csv", newline="") as file:
        assert [row["optimizer"] for row in csv.DictReader(file)] == table.optimizers()
    assert "adam on catch: no tuned values are shipped" in text


def test_the_same_call_again_does_nothing(finished, theta_file, chunks_run, monkeypatch):
    folder, text = finished
    monkeypatch.setattr(runner, "make_task", None)  # would raise if called
    monkeypatch.setattr(reporting.summary, "summary", None)
    times = lambda: {p: p.stat().st_mtime_ns for p in folder.rglob("[a-z]*.*")}  # noqa: E731
    before = times()
    assert evaluate(folder, "adam", theta_file, num_seeds=5) == text
    assert evaluate(folder, "adam", theta_file, num_seeds=2) == text  # fewer are there, too
    assert chunks_run == []
    assert times() == before


def test_more_seeds_are_added_and_are_as_if_all_were_asked_for_at_once(
    finished, theta_file, tmp_path, chunks_run
):
    folder = tmp_path / "run"
    evaluate(folder, "adam", num_seeds=1)
    evaluate(folder, "adam", num_seeds=3)
    evaluate(folder, "adam", theta_file, num_seeds=5)
    of_adam = [seed for name, seeds in chunks_run if name == "adam" for seed in seeds]
    assert sorted(of_adam) == [0, 1, 2, 3, 4]
    assert (folder / "results.csv").read_bytes() == (finished[0] / "results.csv").read_bytes()


def test_a_crash_costs_the_chunk_under_way_alone(finished, theta_file, tmp_path, monkeypatch):
    write, calls = Store.write_chunk, []

    def crash(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise RuntimeError("power cut")
        write(self, *args)

    folder = tmp_path / "run"
    monkeypatch.setattr(Store, "write_chunk", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        evaluate(folder, "adam", theta_file, num_seeds=5)
    done = len(list(folder.rglob("seeds_*.json")))
    assert done == 2
    evaluate(folder, "adam", theta_file, num_seeds=5)
    total = len(list(finished[0].rglob("seeds_*.json")))
    assert len(calls) == total + 1
    assert (folder / "results.csv").read_bytes() == (finished[0] / "results.csv").read_bytes()


@pytest.mark.parametrize("damage", ["cut off", "another number", "empty"])
def test_a_damaged_chunk_is_computed_again(finished, theta_file, tmp_path, chunks_run, damage):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    chunk = sorted(folder.rglob("seeds_*.json"))[0]
    text = chunk.read_text()
    content = json.loads(text)
    content["episode_return"][0][0] = 123.0
    damaged = {"cut off": text[: len(text) // 2], "another number": json.dumps(content)}
    chunk.write_text(damaged.get(damage, ""))
    with pytest.warns(UserWarning, match="damaged"):
        evaluate(folder, "adam", theta_file, num_seeds=5)
    assert len(chunks_run) == 1
    assert chunk.read_text() == text
    assert (folder / "results.csv").read_bytes() == (finished[0] / "results.csv").read_bytes()


def test_kill_9_in_the_middle_of_a_write_is_survived(finished, theta_file, tmp_path):
    folder = tmp_path / "run"
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from meta import results
from meta.evaluation.store import Cell, Store
store = Store({str(folder)!r}, {request(folder).settings!r})
with store.writing():
    cell = Cell("catch", "adam", {{}}, "adam")
    store.begin(cell, 2)
    os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
    store.write_chunk(cell, [0, 1], [32, 64], [[1.0, 2.0], [3.0, 4.0]])
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(folder.rglob(".seeds_*.tmp"))  # half a chunk is there
    (folder / "manifest.json").unlink()  # its cell has no identity that would fit
    evaluate(folder, "adam", theta_file, num_seeds=5)
    assert (folder / "results.csv").read_bytes() == (finished[0] / "results.csv").read_bytes()


def test_untrained_controls_can_be_left_out_and_each_seed_has_a_theta_of_its_own(
    finished, theta_file, tmp_path
):
    evaluate(tmp_path / "run", theta_file, untrained=False, num_seeds=2)
    table = results.read(tmp_path / "run" / "results.csv")
    assert table.optimizers() == ["mine"]
    (mine,) = contestants.resolve([theta_file])
    run = runner.Run(mine.controls()[0], None, [], None, learned_opt.load(theta_file), 2)
    draw = lambda first: runner._thetas(run, jax.random.key(0), first, 2)["rate"]  # noqa: E731
    both = draw(0)
    assert both[0] != both[1]
    np.testing.assert_array_equal(draw(1)[0], both[1])


def needs_dormancy(**options):
    """A learned optimizer whose updates are theta times the dormancy."""
    del options

    def transform(theta):
        def update(grads, state, params=None, *, dormancy, **context):
            del params, context
            return jax.tree.map(lambda g, d: theta["rate"] * d + 0 * g, grads, dormancy), state

        return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)

    return LearnedOptimizer(init=lambda key: {"rate": jnp.float32(0)}, transform=transform)


def test_a_learned_optimizer_is_run_without_its_dormancy_input_beside_itself(tmp_path):
    learned_opt.register("needs_dormancy", needs_dormancy)
    learned_opt.save(tmp_path / "dormant.npz", "needs_dormancy", {"rate": jnp.float32(0.03)})
    entries = contestants.resolve([str(tmp_path / "dormant.npz"), "adam"], neutral_dormancy=True)
    assert [entry.name for entry in entries] == ["dormant", "dormant (dormancy 1)", "adam"]
    assert [len(entry.controls()) for entry in entries] == [1, 0, 0]
    assert entries[0].identity("catch") != entries[1].identity("catch")
    params, told = {"w": jnp.zeros(2)}, {"w": jnp.full(2, 5.0)}
    updates = []
    for entry in entries[:2]:
        trained = entry.load("catch")
        tx = trained.optimizer.transform(trained.theta)
        updates.append(tx.update(params, tx.init(params), params, dormancy=told)[0]["w"])
    np.testing.assert_allclose(updates, [[0.15, 0.15], [0.03, 0.03]], rtol=1e-6)


def test_a_failed_run_is_noted_and_counts_as_the_worst(finished, theta_file, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    store = Store(folder, request(folder).settings)
    cell = next(c for c in store._cells.values() if c["optimizer"] == "adam")
    found = store.curves("catch", "adam")
    shutil.rmtree(folder / "chunks" / "catch" / "adam")
    curves = np.array([curve.episode_return for curve in found.values()])
    curves[0] = np.nan
    # An episode of catch is of 9 steps, and the first of the two points is after 8.
    waiting = np.array([[False, False], *[[True, False]] * (len(curves) - 1)])
    cell = Cell(*(cell[name] for name in Cell._fields))
    store.write_chunk(cell, list(found), found[0].env_steps, curves, no_episode=waiting)
    text = evaluate(folder, "adam", theta_file, num_seeds=5)
    assert "2 on catch (as -1)" in text
    assert "on catch: no episode had ended in some or all seeds up to 32 steps" in text
    table = results.read(folder / "results.csv")
    assert (np.isnan(table.episode_return) & ~table.no_episode).sum() == 2
    assert table.no_episode.sum() == len(table) / 2 - 1


def test_returns_begin_where_an_episode_has_ended(finished):
    folder, text = finished
    table = results.read(folder / "results.csv")
    # An episode of catch is of 9 steps; each environment has done 8 by the first of two points.
    np.testing.assert_array_equal(table.no_episode, table.env_steps == 32)
    np.testing.assert_array_equal(np.isnan(table.episode_return), table.no_episode)
    everyone = "adam, mine, mine (untrained) on catch: no episode had ended in some or all seeds"
    assert f"{everyone} up to 32 steps" in text


def test_runs_without_an_episode_have_no_return(theta_file, tmp_path):
    text = evaluate(tmp_path, "adam", theta_file, num_seeds=2, total_timesteps=32, points=1)
    assert "| 0 | 32 | – | – | – | – |" in text
    assert "mine (untrained) on catch: no episode had ended by 32 steps, the end of" in text
    assert results.read(tmp_path / "results.csv").no_episode.all()
    assert (tmp_path / "returns_catch.png").is_file() and (tmp_path / "intervals.png").is_file()


def test_published_values_of_runs_as_long_are_found():
    published = reporting.REFERENCES["open"]
    short = reporting.as_long(published, "gymnax/Breakout-MinAtar", 196_608)
    assert [value.optimizer for value in short] == ["OPEN", "No Features"]
    assert [v.value for v in reporting.as_long(published, "ant", 50_000_000)] == [
        6517.31,
        6600.0,
    ]
    assert reporting.as_long(published, "breakout", 32_768) == []


def test_references_are_listed_and_wishes_draw_anew(finished, theta_file, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    asked = Wishes(normalise_by="mine", references=("open",))
    text = evaluate(folder, "adam", theta_file, num_seeds=5, wishes=asked)
    assert "P(better than mine)" in text and "Published" not in text  # none on Catch


@pytest.mark.slow
def test_a_preset_file_is_an_optimizer(finished, tmp_path):
    path = tmp_path / "tuned.json"
    presets.write_preset(path, "adam", {"learning_rate": 1.0}, task_options={"catch": {"b1": 0.5}})
    evaluate(tmp_path / "run", str(path), "mine=adam:breakout", num_seeds=1)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    tuned, labelled = (cell["identity"]["optimizer"] for cell in manifest["cells"])
    assert (tuned["learning_rate"], tuned["b1"]) == (1.0, 0.5)
    assert (labelled["learning_rate"], labelled["anneal"]) == (0.01, True)
    assert results.read(tmp_path / "run" / "results.csv").optimizers() == ["tuned", "mine"]


@pytest.mark.parametrize(
    ("optimizers", "changes", "message"),
    [
        (("addam",), {}, "did you mean 'adam'"),
        (("open",), {}, "family of learned optimizers"),
        (("adam:brakeout",), {}, "no preset of 'adam' for 'brakeout'"),
        (("nowhere.npy",), {}, "no optimizer 'nowhere.npy'"),
        (("adam", "adam=sgd"), {}, "would both be called 'adam'"),
        (("adam",), {"tasks": ("cach",)}, "catch"),
        (("adam",), {"tasks": ()}, "no tasks"),
        (("adam",), {"num_seeds": 0}, "no seeds"),
        (("adam",), {"agent": "poo"}, "did you mean 'ppo'"),
        (("adam",), {"agent_options": {"num_env": 4}}, "did you mean 'num_envs'"),
        (("adam",), {"total_timesteps": None}, "give --total_timesteps"),
        (("adam",), {"total_timesteps": 10}, "less than one iteration"),
        (("adam",), {"wishes": Wishes(normalise_by="adm")}, "did you mean 'adam'"),
        (("adam",), {"wishes": Wishes(references=("opne",))}, "did you mean 'open'"),
    ],
)
def test_bad_input_is_explained_and_leaves_the_folder_alone(tmp_path, optimizers, changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate(tmp_path / "run", *optimizers, **changes)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_unreadable_weights_are_named(tmp_path):
    path = tmp_path / "broken.npy"
    path.write_bytes(b"\x93NUMPY nothing")
    with pytest.raises(ValueError, match=r"broken\.npy.*cut off"):
        evaluate(tmp_path / "run", str(path))


def test_a_task_that_the_network_cannot_take_is_named(tmp_path):
    path = tmp_path / "stiff.npz"
    learned_opt.save(path, "one_layer_alone", {"w": jnp.zeros((3, 3))})
    with pytest.raises(ValueError, match="'stiff' cannot take the task 'catch'"):
        evaluate(tmp_path / "run", str(path))


def test_a_folder_of_other_settings_is_refused_with_the_difference(finished):
    with pytest.raises(
        WorkdirError, match=r'(?s)-  "total_timesteps": 64.*\+.*"total_timesteps": 96'
    ):
        evaluate(finished[0], total_timesteps=96)
    with pytest.raises(ValueError, match="chunks of 2 seeds per device"):
        evaluate(finished[0], seeds_per_device=1)


def test_another_optimizer_of_the_same_name_is_refused(finished, tmp_path):
    path = tmp_path / "adam.json"
    presets.write_preset(path, "adam", {"learning_rate": 0.5})
    with pytest.raises(WorkdirError, match=r"optimizer\.learning_rate: 0.0003 in the folder, 0.5"):
        evaluate(finished[0], str(path))


def test_results_of_another_version_and_other_runs_are_refused(finished, tmp_path):
    for name in ("config.json", "manifest.json"):
        folder = tmp_path / name
        shutil.copytree(finished[0], folder)
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {"format_version": 99}))
        with pytest.raises(WorkdirError, match="format version 99, this is version 1"):
            evaluate(folder)
    (tmp_path / "config.json" / "config.json").write_text('{"outer": {}}')
    with pytest.raises(WorkdirError, match="no evaluation"):
        evaluate(tmp_path / "config.json")
    folder = tmp_path / "table"
    shutil.copytree(finished[0], folder)
    (folder / "results.csv").write_text("task,optimizer,return\n")
    with pytest.raises(ValueError, match="no results table"):
        evaluate(folder)


def test_two_evaluations_never_write_to_one_folder(tmp_path):
    settings = request(tmp_path).settings
    with (
        Store(tmp_path, settings).writing(),
        pytest.raises(WorkdirError, match="another evaluation is writing"),
        Store(tmp_path, settings).writing(),
    ):
        pass


def run_of_catch(tmp_path):
    """A folder as a meta-training leaves it: its config and its optimizer."""
    block = {
        "env": "catch",
        "env_options": {},
        "total_timesteps": 64,
        "agent": {"name": "a2c", **TINY, "a2c": {"normalize_advantages": False}},
    }
    config = {"tasks": {"small": block}, "outer": {}}
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    theta = learned_opt.make("linear").init(jax.random.key(0))
    learned_opt.save(folder / "optimizer.npz", "linear", theta, metadata={"config": config})
    return folder


@pytest.mark.parametrize("part", ["", "config.json", "optimizer.npz"])
def test_an_evaluation_like_a_run_has_its_tasks_agents_and_horizons(tmp_path, part):
    like = str(run_of_catch(tmp_path) / part)
    request = Request(("adam",), (), str(tmp_path), like=like)
    assert request.tasks == ("small",)
    block = runner.task_block(request, "small")
    assert (block["env"], block["total_timesteps"], block["agent"]["name"]) == ("catch", 64, "a2c")
    assert runner.setting("small", block).identity["agent"]["num_envs"] == 4
    changes = {"agent": "ppo", "total_timesteps": 128, "agent_options": {"num_envs": 8}}
    block = runner.task_block(Request(("adam",), (), str(tmp_path), like=like, **changes), "small")
    agent = runner.setting("small", block).identity["agent"]
    assert (agent["algorithm"], agent["total_timesteps"], agent["num_envs"]) == ("ppo", 128, 8)


def test_what_is_no_run_cannot_be_followed(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="does not tell of tasks"):
        Request(("adam",), (), str(tmp_path), like=str(tmp_path))
    like = str(run_of_catch(tmp_path))
    request = Request(("adam",), ("breakout",), str(tmp_path), like=like)
    with pytest.raises(ValueError, match=r"no task 'breakout'.*it has small"):
        runner.task_block(request, "breakout")


@pytest.mark.parametrize(
    ("changes", "far"), [({}, False), ({"total_timesteps": 640}, True), ({"widths": (64,)}, True)]
)
def test_a_use_far_from_the_training_is_told(tmp_path, changes, far):
    folder = run_of_catch(tmp_path)
    options = {"widths": changes.pop("widths")} if "widths" in changes else {}
    request = Request(
        ("adam",), (), str(tmp_path), like=str(folder), agent_options=options, **changes
    )
    task = runner.setting("small", runner.task_block(request, "small")).make()
    metadata = learned_opt.load(folder / "optimizer.npz").metadata
    text = origin.far_from(metadata, task)
    assert bool(text) == far
    if far:
        assert "trained for 4 updates of 4 on catch (a2c)" in text


@pytest.mark.slow
def test_baselines_without_tuned_values_are_tuned_once(tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "LEARNING_RATES", (1e-3, 1e-1))
    monkeypatch.setattr(baselines, "NUM_SEEDS", 2)
    names = ("sgd", "sgd:learning_rate=3.0")
    request = Request(names, workdir=str(tmp_path), tune_baselines=True, **CHANGES)
    text = reporting.evaluate(request, Wishes())
    assert "sgd" in text
    found = presets.read_preset(tmp_path / "tuning" / "catch" / "sgd" / "preset.json")
    assert found.options_for("catch")["learning_rate"] in baselines.LEARNING_RATES
    entries = contestants.resolve(names)
    monkeypatch.setattr("meta.evaluation.tuning.Engine", None)  # nothing is run again
    tuned, given = baselines.tuned(request, entries)
    assert tuned.hyperparameters("catch") == found.options_for("catch")
    assert given == entries[1]
    assert reporting.evaluate(request, Wishes()) == text
