"""The report is one self-contained page, says what is missing, and trusts no file."""

import base64
import importlib.util
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meta import results
from meta.report import agents, returns, sources, writer
from meta.report.films import frames
from meta.report.page import figure
from meta.runs.workdir import WorkdirError
from tests.meta import browser

ROOT = Path(__file__).parents[3]
HOSTILE = "<img src='http://x.test/a.png' onerror=alert(1)>\"&amp;"
VOID = ("meta", "link", "img")


class Reader(HTMLParser):
    """Collects tags with attributes, checks that they nest, and keeps the text."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data

    def of(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def check_self_contained(content):
    """No scripts, nothing loaded from outside, and all images decode; returns the reader."""
    page = Reader(content)
    known = {"src", "href", "class", "id", "alt", "charset", "name", "content", "rel", "lang"}
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        assert set(attributes) <= known | {"scope", "aria-label"}, (tag, attributes)
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith(("#part-", "data:,", "#"))
    style = re.search(r"<style>(.*?)</style>", content, re.S).group(1)
    assert "url(" not in style and "@import" not in style
    for image in page.of("img"):
        data = base64.b64decode(image["src"].partition(",")[2], validate=True)
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
        assert image["alt"]
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert {f"#{name}" for name in identities} == {a["href"] for a in page.of("a")}
    return page


def config_of(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config("smoke").to_dict()


def rows(task, optimizer, seeds=3, low=1.0):
    return [
        results.Row(task, "ppo", optimizer, seed, steps, low + seed + steps / 1000)
        for seed in range(seeds)
        for steps in (100, 200, 300)
    ]


def training(path, optimizer="open", **changes):
    """A folder as train leaves it, with made-up numbers."""
    path.mkdir(parents=True)
    config = {**config_of("demo"), **changes}
    (path / "config.json").write_text(json.dumps(config))
    header = "meta_step,fitness_mean,fitness_min,fitness_max,seconds,validation\n"
    lines = "".join(f"{i},{i}.5,{i}.0,{i + 1}.0,1.0,{'' if i % 2 else i}\n" for i in range(1, 5))
    (path / "metrics.csv").write_text(header + lines)
    results.append(path / "results.csv", rows("catch", optimizer) + rows("catch", "adam"))
    return path


def evaluation(path, names=("adam", "sgd"), task="catch"):
    """A folder as evaluate leaves it, with made-up numbers."""
    path.mkdir(parents=True)
    config = {"kind": "evaluation", "agent": "ppo", "total_timesteps": 512, "seed": 0, "points": 3}
    (path / "config.json").write_text(json.dumps(config))
    agent = {"algorithm": "ppo", "total_timesteps": 512, "num_envs": 4, "num_steps": 16}
    agent |= {"num_minibatches": 4, "widths": [8]}
    cells = [
        {
            "task": task,
            "optimizer": name,
            "source": name,
            "identity": {
                "optimizer": {"optimizer": "sgd", "learning_rate": 0.1},
                "task": {"env_options": {}, "agent": agent},
            },
            "seeds_per_device": 2,
        }
        for name in names
    ]
    (path / "manifest.json").write_text(json.dumps({"cells": cells}))
    results.append(path / "results.csv", [r for name in names for r in rows(task, name)])
    return path


def write(tmp_path, *folders, render=False, **wishes):
    out = tmp_path / "out" / "report.html"
    writer.write(writer.Request(tuple(map(str, folders)), str(out), render=render, **wishes))
    return out.read_text()


def test_all_kinds_of_folders_make_one_page_without_a_network(tmp_path):
    plain = tmp_path / "tuned"
    plain.mkdir()
    (plain / "config.json").write_text(json.dumps({"kind": "other", "trials": 3}))
    (plain / "grid.csv").write_text("learning_rate,score\n0.1,2.5\n0.2,3.5\n")
    (plain / "summary.md").write_text(
        "# Best\n\n| a | b |\n| --- | --- |\n| 1\\|2 | x |\n\n- one\n"
    )
    Image.new("RGB", (4, 4)).save(plain / "dormancy.png")
    folders = training(tmp_path / "a"), training(tmp_path / "b", seed=7)
    page = check_self_contained(
        write(tmp_path, *folders, evaluation(tmp_path / "e"), plain, references=("open",))
    )
    for shown in (
        "grid.csv",
        "0.2",
        "1|2",
        "Dormancy: share",
        "configs/saved.py",
        "--optimizer=sgd",
    ):
        assert shown in page.text, shown
    assert len(page.of("section")) == 8
    assert len(page.of("table")) >= 8 and len(page.of("img")) >= 8
    assert "Not drawn" not in page.text and page.text.count("missing") == 1  # the command
    # What differs between the two trainings is their seed alone.
    assert re.search(r"fieldab.*?seed07", page.text.replace("\n", ""))


def test_equal_results_are_pooled_once_and_others_told_apart(tmp_path):
    first, second = evaluation(tmp_path / "a"), evaluation(tmp_path / "b", ("adam",))
    table, notes = returns.pool(sources.read_all([str(first), str(second)]))
    assert table.optimizers() == ["adam", "sgd"] and not notes
    (second / "results.csv").unlink()
    results.append(second / "results.csv", rows("catch", "adam", low=5.0))
    table, notes = returns.pool(sources.read_all([str(first), str(second)]))
    assert table.optimizers() == ["adam", "adam [b]", "sgd"] and "several folders" in notes[0]


@pytest.mark.slow
def test_tasks_of_other_settings_are_other_tasks(tmp_path):
    first, second = evaluation(tmp_path / "a"), evaluation(tmp_path / "b")
    manifest = (second / "manifest.json").read_text().replace('"num_envs": 4', '"num_envs": 8')
    (second / "manifest.json").write_text(manifest)
    table, _ = returns.pool(sources.read_all([str(first), str(second)]))
    assert table.tasks() == ["catch (a)", "catch (b)"]
    page = check_self_contained(write(tmp_path, first, second))
    assert "num_envs48" in page.text


@pytest.mark.slow
def test_hostile_names_are_text(tmp_path):
    folder = evaluation(tmp_path / "<b>bold", (HOSTILE, "adam"), task="<script>alert(1)</script>")
    (folder / "more.md").write_text(f"# {HOSTILE}\n\n<script>alert(2)</script>\n")
    (folder / "table.csv").write_text(f"<script>,b\n{HOSTILE.replace(chr(34), '')},2\n")
    page = check_self_contained(write(tmp_path, folder))
    assert HOSTILE in page.text and "<script>alert(2)</script>" in page.text
    assert not page.of("b")


def test_damaged_pieces_are_told_and_do_not_stop_the_page(tmp_path):
    broken, empty = training(tmp_path / "broken"), tmp_path / "empty"
    (broken / "metrics.csv").write_text("meta_step,fitness_mean\n1,x\nx,2\n3")
    (broken / "results.csv").write_text("task,score\n")
    (broken / "optimizer.npz").write_bytes(b"PK\x03\x04 half")
    (broken / "own.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    empty.mkdir()
    (empty / "config.json").write_text("{half")
    cell = evaluation(tmp_path / "evaluated")
    (cell / "manifest.json").write_text('{"cells": [1, {"task": 2}]}')
    page = check_self_contained(write(tmp_path, broken, empty, cell, render=True))
    for told in ("cells or rows could not be read", "config.json is damaged", "results.csv is not"):
        assert told in page.text, told
    assert "own.png cannot be shown" in page.text and "unreadable" in page.text
    assert "is not shown" in page.text  # the agent of the damaged optimizer


def test_what_is_no_workdir_ends_with_code_2(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(WorkdirError, match="is no workdir"):
        sources.read_all([str(tmp_path)])
    with pytest.raises(WorkdirError, match="not a folder"):
        sources.read_all([str(tmp_path / "none")])
    with pytest.raises(WorkdirError, match="at least one workdir"):
        sources.read_all([])
    out = tmp_path / "r.html"
    done = subprocess.run(
        [sys.executable, "launchers/report.py", str(tmp_path), f"--out={out}"],
        capture_output=True, text=True, cwd=ROOT, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "is no workdir" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not out.exists()


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"references": ("opne",)}, "did you mean 'open'"),
        ({"agent_timesteps": 0}, "at least 1"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_bad_wishes_are_refused(tmp_path, wishes, message):
    with pytest.raises(ValueError, match=message):
        writer.Request((str(tmp_path),), str(tmp_path / "r.html"), **wishes)


@pytest.mark.slow
def test_agents_are_trained_once_and_then_taken_from_the_cache(tmp_path, monkeypatch):
    folder = evaluation(tmp_path / "e", ("sgd",))
    first = check_self_contained(write(tmp_path, folder, render=True, agent_timesteps=128))
    films = [image for image in first.of("img") if image["src"].startswith("data:image/gif")]
    assert (
        len(films) == 1 and "catch, trained with sgd for 128 environment steps" in films[0]["alt"]
    )

    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(agents, "make", refuse)
    second = check_self_contained(write(tmp_path, folder, render=True, agent_timesteps=128))
    assert films[0] in second.of("img")
    # A damaged film is no film.
    (kept,) = (tmp_path / "out" / "report.cache").iterdir()
    kept.write_text(kept.read_text()[:50])
    with pytest.raises(AssertionError, match="trained again"):
        write(tmp_path, folder, render=True, agent_timesteps=128)


def test_an_optimizer_file_that_changed_since_is_not_shown(tmp_path):
    path = tmp_path / "theta.npz"
    path.write_bytes(b"other")
    shown = agents.Shown("f", "catch", {}, "x", path, "0" * 64, {})
    with pytest.raises(ValueError, match="not the file any more"):
        shown.load()


def test_films_show_every_step_and_the_first_channel_on_top():
    observations = np.zeros((3, 2, 2, 2))
    observations[:, 0, 0] = 1.0
    observations[1, 1, 1, 1] = 1.0
    shown = frames.from_channels(observations, ("a", "b"))
    assert shown.cells[0, 0, 0] == 0 and shown.cells[1, 1, 1] == 1 and shown.cells[0, 1, 1] == -1
    gif = frames.map_animation(shown, np.arange(3.0), 1)
    with Image.open(io.BytesIO(gif)) as image:
        assert image.n_frames == 3
    ends = np.zeros((2, 1, 2, 3))
    ends[:, :, 1, 2] = 1.0
    sticks = frames.Sticks(ends, np.array([0.1]))
    gif = frames.stick_animation(sticks, np.arange(2.0), 2)
    with Image.open(io.BytesIO(gif)) as image:
        assert image.n_frames == 2


def test_images_of_other_kinds_are_refused():
    with pytest.raises(ValueError, match="PNG or GIF"):
        figure(b"<svg onload=alert(1)>", "x")


@pytest.mark.slow
def test_chromium_finds_nothing_to_complain_of_or_to_ask_for(tmp_path):
    executable = browser.find()
    if executable is None:
        pytest.skip(f"no Chromium on the path ({', '.join(browser.NAMES)})")
    folders = training(tmp_path / "a"), evaluation(tmp_path / "e", (HOSTILE, "adam"))
    content = write(tmp_path, *folders)
    seen = browser.look(executable, tmp_path / "out" / "report.html", tmp_path / "profile")
    assert seen["requests"] == [] and seen["complaints"] == []
    assert seen["images"] == content.count("<img ") >= 5 and seen["broken"] == 0
    assert seen["sections"] == 8
