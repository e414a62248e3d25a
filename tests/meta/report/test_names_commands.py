"""A file has one name and one colour on a page; commands say what ran; folders stand alone."""

import hashlib
import json
import shlex

import numpy as np
import pytest

import learned_opt
from meta import results
from meta.evaluation import contestants
from meta.evaluation.store import Cell, Store
from meta.report import agents, commands, names, returns, sources, writer
from tests.meta.report.test_writer import training

SETTINGS = {"agent": "ppo", "total_timesteps": 512, "seed": 0, "points": 3}
AGENT = {"algorithm": "ppo", "total_timesteps": 512, "num_envs": 4, "num_steps": 16}
AGENT |= {"num_minibatches": 4, "widths": [8]}


@pytest.fixture
def theta_file(tmp_path):
    import jax

    path = tmp_path / "elsewhere" / "theta.npz"
    made = learned_opt.make("linear")
    learned_opt.save(path, "linear", made.init(jax.random.key(0)))
    return path


def folder_of(path, cells, theta_file=None):
    """An evaluation's folder with made-up returns: cells are (optimizer, task, seeds)."""
    store = Store(path, SETTINGS)
    with store.writing():
        for name, task, seeds in cells:
            base = results.trained(name)
            one = contestants.resolve([f"{base}={theta_file}" if base == "mine" else name])[0]
            one = one._replace(name=name, untrained=name != base)
            identity = {
                "optimizer": one.identity(task),
                "task": {"env_options": {}, "agent": AGENT},
            }
            cell = Cell(task, name, identity, one.source)
            store.begin(cell, 2)
            curves = np.arange(3.0) + np.arange(seeds)[:, None] + len(name)
            store.write_chunk(cell, range(seeds), np.array([100, 200, 300]), curves)
            store.describe(cell, one.about(task), one.file_sha256)
        store.write_results()
    return path


def read(*paths):
    return sources.read_all([str(path) for path in paths])


def flags_of(words):
    shown = ("--optimizer", "--task", "--num_seeds", "--untrained", "--nountrained")
    return [word for word in words if word.startswith(shown)]


def test_commands_say_which_cells_and_how_many_seeds_there_are(tmp_path, theta_file):
    cells = [("adam", "catch", 4), ("adam", "pong", 4), ("sgd", "catch", 3), ("mine", "catch", 3)]
    path = folder_of(tmp_path / "e", [*cells, ("mine (untrained)", "catch", 3)], theta_file)
    (folder,) = read(path)
    digest = hashlib.sha256(theta_file.read_bytes()).hexdigest()
    kept = path / "optimizers" / f"mine-{digest[:8]}.npz"
    assert [flags_of(words) for words in commands._commands(folder)] == [
        ["--optimizer=adam", "--task=catch", "--task=pong", "--num_seeds=4", "--nountrained"],
        ["--optimizer=sgd", "--task=catch", "--num_seeds=3", "--nountrained"],
        [f"--optimizer=mine={kept}", "--task=catch", "--num_seeds=3", "--untrained"],
    ]
    assert commands.section([folder]).count("launchers/evaluate.py") == 3
    assert shlex.split(commands.line(["x.py", f"--optimizer=mine={kept}"]))[-1].endswith(".npz")


def test_what_was_tuned_for_a_folder_is_written_with_its_values(tmp_path):
    (folder,) = read(folder_of(tmp_path / "e", [("adam", "catch", 2)]))
    identity = folder.manifest[0]["identity"]["optimizer"]
    identity |= {"learning_rate": 0.03, "anneal": True}
    (words,) = commands._commands(folder)
    (flag,) = (word for word in words if word.startswith("--optimizer="))
    (one,) = contestants.resolve([flag.removeprefix("--optimizer=")])
    assert one.name == "adam" and one.identity("catch") == identity


def test_seeds_that_are_missing_between_others_are_told(tmp_path):
    (folder,) = read(folder_of(tmp_path / "e", [("adam", "catch", 3)]))
    keep = folder.table.seed != 1
    table = results.Table(*(getattr(folder.table, name)[keep] for name in results.COLUMNS))
    assert "seeds 1." in commands._unfinished(folder._replace(table=table))[0]


def of_training(path, theta_file):
    """A meta-training's folder whose result is the file, evaluated as ``open``."""
    training(path)
    (path / "optimizer.npz").write_bytes(theta_file.read_bytes())
    one = contestants.trained_here("open", str(path / "optimizer.npz"))
    task = {"agent": AGENT}
    cells = [
        {
            "task": "catch", "optimizer": name, "source": one.source, "seeds_per_device": 2,
            "identity": {"optimizer": each.identity("catch"), "task": task},
            "about": {**each.about("catch"), "file": "optimizer.npz"},
        }
        for name, each in (("open", one), ("open (untrained)", one.controls()[0]))
    ]  # fmt: skip
    (path / "manifest.json").write_text(json.dumps({"format_version": 1, "cells": cells}))
    return path


def test_a_file_has_one_name_and_one_colour_in_all_folders(tmp_path, theta_file):
    trained = of_training(tmp_path / "demo", theta_file)
    cells = [("mine", "catch", 3), ("mine", "pong", 3), ("adam", "pong", 2)]
    folders = read(trained, folder_of(tmp_path / "e", cells, theta_file))
    called = names.unify(folders)
    assert called.of("demo", "open") == called.of("e", "mine") == "mine"
    assert called.of("demo", "open (untrained)") == "mine (untrained)"
    assert "open in demo" in called.notes[0]
    every = returns.pooled(folders)
    assert not {"open", "open (untrained)"} & {*every.table.optimizers()}
    colours = {style.color for name, style in every.looks.styles.items() if name.startswith("mine")}
    assert len(colours) == 1
    assert every.looks.label("adam", ["pong"]) == "adam, 3e-4 default"


def test_two_files_of_one_name_have_two(tmp_path, theta_file):
    first = of_training(tmp_path / "a", theta_file)
    second = of_training(tmp_path / "b", theta_file)
    manifest = (second / "manifest.json").read_text()
    theta = json.loads(manifest)["cells"][0]["about"]["theta_sha256"]
    (second / "manifest.json").write_text(manifest.replace(theta, "0" * 64))
    called = names.unify(read(first, second))
    assert (called.of("a", "open"), called.of("b", "open")) == ("open", "open [b]")


def test_results_that_another_folder_has_as_well_are_shown_once(tmp_path):
    more = folder_of(tmp_path / "a", [("adam", "catch", 2)])
    every = returns.pooled(read(more, folder_of(tmp_path / "b", [("adam", "catch", 4)])))
    assert every.table.optimizers() == ["adam"] and set(every.table.seed.tolist()) == {0, 1, 2, 3}


def test_notes_and_hyperparameters_are_on_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(returns, "_plots", lambda *_: "")
    path = folder_of(tmp_path / "e", [("lion", "catch", 2), ("adam", "catch", 2)])
    notes = "# Returns\n\n# Notes\n\n- lion was bold.\n- so be it\n\n# X\n- y\n"
    (path / "summary.md").write_text(notes)
    page = returns.section(read(path), "adam", ())
    assert "lion was bold." in page and "so be it" in page and "<li>y</li>" not in page
    assert "default, tuned by nobody" in page and "adam, 3e-4 default" in page


def test_a_folder_keeps_the_files_that_it_evaluated(tmp_path, theta_file):
    path = folder_of(tmp_path / "e", [("mine", "catch", 2)], theta_file)
    theta_file.unlink()
    moved = path.rename(tmp_path / "moved")
    (folder,) = read(moved)
    (shown,) = agents.choose(folder, 1)
    assert shown.load().metadata["name"] == "linear"
    shown.file.write_bytes(b"other")
    with pytest.raises(ValueError, match="not the file any more"):
        shown.load()


def test_a_film_that_fails_is_told_on_the_page_and_to_the_caller(tmp_path, theta_file):
    import meta

    path = folder_of(tmp_path / "e", [("mine", "catch", 2)], theta_file)
    next((path / "optimizers").iterdir()).unlink()
    out = tmp_path / "report.html"
    with pytest.warns(writer.Incomplete, match="mine on catch is not shown: there is no"):
        meta.write_report(path, str(out), agent_timesteps=64)
    assert "mine on catch is not shown" in out.read_text()


def test_a_file_that_changes_while_it_is_evaluated_is_refused(tmp_path, theta_file):
    store = Store(tmp_path / "e", SETTINGS)
    cell = Cell("catch", "mine", {"task": {"agent": AGENT}}, str(theta_file))
    with store.writing():
        store.begin(cell, 1)
        with pytest.raises(ValueError, match="has changed"):
            store.describe(cell, {}, "0" * 64)
