"""What stands behind names in tables and legends, and what summaries keep of earlier calls."""

import json

import numpy as np
import pytest

from meta import results
from meta.evaluation import contestants, legends, reporting
from meta.evaluation.store import Cell, Store
from meta.results.looks import Detail, Looks


def cell(task, name, origin="", **values):
    identity = {"optimizer": {"optimizer": name, **values}, "task": {}}
    return {
        "task": task,
        "optimizer": name,
        "identity": identity,
        "source": name,
        **({"about": {"family": name, "origin": origin}} if origin else {}),
    }


CELLS = [
    cell("catch", "adam", "tuned", learning_rate=0.03, anneal=True),
    cell("pong", "adam", "default", learning_rate=3e-4, anneal=False),
    cell("pong", "lion", "tuned", learning_rate=1.5e-5, anneal=False, b1=0.9),
]


def test_a_rate_and_where_it_is_from_stand_behind_the_name():
    looks = legends.looks(CELLS, ["adam", "lion", "open"])
    assert looks.label("adam", ["catch"]) == "adam, 0.03 tuned"
    assert looks.label("adam", ["pong"]) == "adam, 3e-4 default"
    assert looks.label("lion", ["pong"]) == "lion, 1.5e-5 tuned"
    assert looks.label("open", ["pong"]) == "open"


def test_rows_over_tasks_of_different_rates_say_so():
    looks = legends.looks(CELLS, ["adam", "lion"])
    assert looks.label("adam", ["catch", "pong"]) == "adam, rates by task"
    (note,) = legends.pooled_notes(looks, ["adam", "lion"], ["catch", "pong"])
    assert "adam" in note and "0.03 tuned on catch" in note and "3e-4 default on pong" in note
    alike = Looks({}, {(task, "adam"): Detail("0.1", "tuned") for task in "ab"})
    assert alike.label("adam", ["a", "b"]) == "adam, 0.1 tuned"
    differ = Looks({}, {("a", "adam"): Detail("0.1", "tuned"), ("b", "adam"): Detail("1", "tuned")})
    assert differ.label("adam", ["a", "b"]) == "adam, rates by task, tuned"


@pytest.mark.parametrize(
    ("text", "task", "origin"),
    [
        ("adam", "catch", "default"),
        ("adam", "breakout", "paper's"),
        ("adam:breakout", "catch", "paper's"),
    ],
)
def test_where_the_rate_of_a_named_optimizer_is_from(text, task, origin):
    (one,) = contestants.resolve([text])
    assert one.origin(task) == origin and one.about(task)["origin"] == origin


def test_where_the_rate_of_a_baseline_is_from():
    given = {"catch": {"learning_rate": 0.1}, "breakout": {"preset": "breakout"}, "pong": {}}
    one = contestants.baseline("adam", given)
    assert [one.origin(task) for task in given] == ["given", "paper's", "default"]
    assert contestants.baseline("adam", given, tuned=True).origin("pong") == "tuned"


def test_folders_of_older_versions_tell_what_their_values_tell():
    whole = contestants.resolve(["adam"])[0].identity("breakout")
    default = contestants.resolve(["adam"])[0].identity("catch")
    old = lambda task, values: {**cell(task, "adam"), "identity": {"optimizer": values}}  # noqa: E731
    assert legends.origin(old("breakout", whole)) == "paper's"
    assert legends.origin(old("catch", default)) == "default"
    assert legends.origin(old("catch", {**default, "learning_rate": 0.5})) == ""


def test_notes_are_of_all_cells_and_tables_hold_every_hyperparameter():
    (note,) = legends.notes(CELLS)
    assert note.startswith("adam on pong") and "learning_rate=3e-4, anneal=false" in note
    rows = legends.table(CELLS)
    assert [row[2] for row in rows] == ["0.03", "3e-4", "1.5e-5"]
    assert rows[0][4] == "yes" and rows[2][5] == "b1 0.9" and rows[1][3].startswith("default")


def test_a_file_of_a_smoke_run_is_called_that_where_others_are_not():
    smoke = {
        **cell("catch", "demo"),
        "identity": {"optimizer": {"theta_sha256": "0"}},
        "about": {"family": "open", "smoke": True},
    }
    looks = legends.looks([smoke], ["demo"])
    assert looks.label("demo", ["catch"]) == "demo, from a smoke run"
    assert "smoke run" in legends.notes([smoke])[0]
    control = {**smoke, "optimizer": results.untrained("demo")}
    assert legends.detail(control).origin == ""
    assert legends.looks([smoke], ["demo"], smoke=True).task("catch") == "catch (smoke run)"
    assert legends.is_smoke({"base": {"mode": "smoke"}}) and not legends.is_smoke({"base": None})


def test_a_file_looks_like_its_family_under_any_name():
    styles = legends.looks(
        [{**CELLS[0], "optimizer": "mine", "about": {"family": "open"}}], ["mine"]
    )
    assert styles.styles["mine"] == legends.looks([], ["open"]).styles["open"]


def add(store, name, seed):
    """Made-up returns of a seed, as an evaluation leaves them; then the folder's summary."""
    (one,) = contestants.resolve([name])
    identity = {"optimizer": one.identity("catch"), "task": {"agent": {"algorithm": "ppo"}}}
    cell = Cell("catch", name, identity, name)
    with store.writing():
        store.begin(cell, 1)
        store.write_chunk(cell, [seed], np.array([1, 2]), np.array([[1.0, 2.0 + seed]]))
        store.describe(cell, one.about("catch"))
        store.write_results()
    return reporting.write(store, reporting.Wishes())


def test_a_summary_keeps_the_notes_of_optimizers_of_earlier_calls(tmp_path):
    for name, seed in (("adam", 0), ("lion", 0), ("adam", 1)):
        text = add(Store(tmp_path, {}), name, seed)
    for name in ("adam", "lion"):
        assert f"{name} on catch: no tuned values are shipped" in text
    assert "| catch | lion, 3e-5 default | 1 |" in text
    assert "smoke" not in text


def test_a_smoke_run_says_so_on_its_page_and_in_its_tables(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"mode": "smoke"}))
    text = add(Store.of_run(tmp_path), "adam", 0)
    assert text.startswith("Smoke run:") and "| catch (smoke run) | adam, 3e-4 default |" in text
    header, row = (tmp_path / "summary.csv").read_text().splitlines()
    told = dict(zip(header.split(","), row.split(","), strict=False))
    assert told["task"] == "catch" and row.endswith(",smoke") and header.endswith("label,mode")
