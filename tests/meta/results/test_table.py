"""The results table: what is written is what is read, and damage is never averaged in."""

import os

import numpy as np
import pytest

from meta import results

HEADER = "task,agent,optimizer,seed,env_steps,episode_return\n"


def row(seed=0, env_steps=0, episode_return=0.0, optimizer="open", task="breakout", agent="ppo"):
    return results.Row(task, agent, optimizer, seed, env_steps, episode_return)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.csv"


def test_rows_come_back_exactly_and_in_order(path):
    rows = [
        row(2, 1000, 0.1, optimizer="a, b"),
        row(0, 2**40, -1e-300, optimizer='the "best"'),
        row(1, 3, float("nan"), task="Größe"),
    ]
    results.append(path, rows[:1])
    results.append(path, rows[1:])
    table = results.read(path)
    assert len(table) == 3
    for index, expected in enumerate(rows):
        got = [getattr(table, column)[index] for column in results.COLUMNS]
        np.testing.assert_array_equal(got[:5], [str(cell) for cell in expected[:5]])
        np.testing.assert_array_equal(got[5], expected.episode_return)
    assert table.env_steps.dtype == np.int64 and table.episode_return.dtype == np.float64
    assert path.read_text().startswith(HEADER)


def test_numpy_numbers_can_be_appended(path):
    results.append(path, [row(np.int32(3), np.int64(7), np.float32(0.5))])
    assert path.read_text() == HEADER + "breakout,ppo,open,3,7,0.5\n"


def test_a_failed_append_leaves_the_old_table_and_no_other_file(path, monkeypatch):
    results.append(path, [row()])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="seed"):
        results.append(path, [row(1), row(seed=0.5)])

    def crash(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="disk"):
        results.append(path, [row(1)])
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["results.csv"]


@pytest.mark.parametrize(
    "torn", [b"breakout,ppo,open,1,100,12", b"breakout,ppo,op", b"Gr\xc3", b"b,p,o,1,100,12.5"]
)
def test_an_unfinished_last_line_is_dropped_with_a_warning(path, torn):
    results.append(path, [row(0, 100, 1.0)])
    path.write_bytes(path.read_bytes() + torn)
    with pytest.warns(UserWarning, match="unfinished") as caught:
        table = results.read(path)
    assert str(path) in str(caught[0].message)
    np.testing.assert_array_equal(table.episode_return, [1.0])
    with pytest.warns(UserWarning, match="unfinished"):
        results.append(path, [row(1, 100, 1234.5)])
    np.testing.assert_array_equal(results.read(path).episode_return, [1.0, 1234.5])


def test_other_line_ends_a_byte_order_mark_and_blank_lines_are_read(path):
    line = "breakout,ppo,open,1,100,2.5"
    path.write_bytes(f"\ufeff{HEADER}\n{line}\n".replace("\n", "\r\n").encode())
    np.testing.assert_array_equal(results.read(path).episode_return, [2.5])
    results.append(path, [row()])
    assert len(results.read(path)) == 2


def test_an_empty_file_is_a_new_table_for_append_and_an_error_for_read(path):
    path.touch()
    with pytest.raises(ValueError, match="no finished line"):
        results.read(path)
    results.append(path, [])
    assert path.read_text() == HEADER
    assert len(results.read(path)) == 0


def test_a_missing_file_is_named(path):
    with pytest.raises(ValueError, match=r"no results table .*results\.csv: run an evaluation"):
        results.read(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("task,agent,optimizer,seed,env_steps,return\n", r"missing \['episode_return'\], unknown"),
        ("agent,task,optimizer,seed,env_steps,episode_return\n", "another order"),
        ("task,agent", "no finished line"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*unfinished")
def test_other_columns_are_refused_by_read_and_append(path, header, message):
    path.write_text(header)
    with pytest.raises(ValueError, match=message) as caught:
        results.read(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match=message):
        results.append(path, [row()])
    assert path.read_text() == header


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("breakout,ppo,open,one,100,1.0", "seed must be a whole number, got 'one'"),
        ("breakout,ppo,open,1,1e3,1.0", "env_steps must be a whole number"),
        ("breakout,ppo,open,1,100,", "episode_return must be a number, got ''"),
        ("breakout,ppo,open,1,100", "5 cells"),
        ("breakout,ppo,open,1,1breakout,ppo,open,1,100,1.0", "10 cells"),
        ("breakout,ppo,open,-1,100,1.0", "must be >= 0"),
        ("breakout,,open,1,100,1.0", "agent must be"),
        ('"' + "x" * 200_000, "field larger"),
    ],
)
def test_a_bad_cell_is_named_with_file_and_line(path, line, message):
    path.write_text(f"{HEADER}breakout,ppo,open,0,100,1.0\n{line}\n")
    with pytest.raises(ValueError, match=message) as caught:
        results.read(path)
    assert str(path) in str(caught.value) and "line 3" in str(caught.value)


def test_bytes_that_are_no_text_are_refused(path):
    path.write_bytes(HEADER.encode() + b"\xff\xfe\n")
    with pytest.raises(ValueError, match="UTF-8"):
        results.read(path)


@pytest.mark.parametrize("bad", ["", "two\nlines", None])
def test_a_name_must_be_one_line_of_text(bad):
    with pytest.raises(ValueError, match="one line of text"):
        results.from_rows([row(task=bad)])


def test_the_untrained_control_is_named_after_its_optimizer():
    assert results.untrained("open") == "open (untrained)"
    assert results.untrained("open (untrained)") == "open (untrained)"
    assert results.trained("open (untrained)") == "open" == results.trained("open")
    assert results.is_untrained("open (untrained)") and not results.is_untrained("open")


def test_tasks_and_optimizers_keep_the_order_of_appearance():
    table = results.from_rows(
        [row(task="b", optimizer="z"), row(task="a", optimizer="y"), row(task="b", optimizer="x")]
    )
    assert table.tasks() == ["b", "a"]
    assert table.optimizers() == ["z", "y", "x"]
    assert table.optimizers("b") == ["z", "x"]
    assert len(results.select(table, task="b", optimizer="x", agent="ppo")) == 1
    assert len(results.select(table, agent="a2c")) == 0


def two_seeds():
    """Seed 4: 0, 4, 6 and seed 1: 2, 2, 10, logged at 0, 10, 40 steps, shuffled."""
    return [
        row(4, 10, 4.0),
        row(1, 40, 10.0),
        row(4, 0, 0.0),
        row(1, 0, 2.0),
        row(4, 40, 6.0),
        row(1, 10, 2.0),
        row(0, 10, 99.0, optimizer="adam"),
        row(0, 10, 98.0, task="freeway"),
    ]


def test_curves_sorts_seeds_and_steps():
    steps, returns = results.curves(results.from_rows(two_seeds()), "breakout", "open")
    np.testing.assert_array_equal(steps, [0, 10, 40])
    np.testing.assert_array_equal(returns, [[2.0, 2.0, 10.0], [0.0, 4.0, 6.0]])


def test_final_returns_are_at_the_last_steps():
    table = results.from_rows(two_seeds())
    np.testing.assert_array_equal(results.final_returns(table, "breakout", "open"), [10.0, 6.0])


def test_area_under_curve_weighs_by_steps():
    table = results.from_rows(two_seeds())
    # seed 1: (10 * 2 + 30 * 6) / 40 = 5; seed 4: (10 * 2 + 30 * 5) / 40 = 4.25
    area = results.area_under_curve(table, "breakout", "open")
    np.testing.assert_allclose(area, [5.0, 4.25], rtol=1e-15)
    np.testing.assert_array_equal(results.area_under_curve(table, "breakout", "adam"), [99.0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(0, 0), row(0, 5), row(1, 0)], r"seed 1 was logged at other points \(1 points"),
        ([row(0, 0), row(0, 5), row(1, 0), row(1, 6)], "other points"),
        ([row(0, 5), row(0, 5)], "seed 0 has 5 environment steps more than once"),
        ([row(0, 5), row(0, 5, agent="a2c")], r"several agents \['a2c', 'ppo'\]"),
        ([row(0, 5, optimizer="adam")], r"no results .*\{'breakout': \['adam'\]\}"),
        ([], "the table has no rows"),
    ],
)
@pytest.mark.parametrize("helper", ["curves", "final_returns", "area_under_curve"])
def test_runs_that_cannot_be_compared_are_refused(rows, message, helper):
    with pytest.raises(ValueError, match=message):
        getattr(results, helper)(results.from_rows(rows), "breakout", "open")


def test_fill_failed_replaces_what_is_not_finite_and_nothing_else():
    values = [float("nan"), 3.0, float("-inf"), -2.0]
    table = results.from_rows([row(seed, 5, value) for seed, value in enumerate(values)])
    np.testing.assert_array_equal(
        results.fill_failed(table, -7.0).episode_return, [-7.0, 3.0, -7.0, -2.0]
    )
    assert np.isnan(table.episode_return[0])
    with pytest.raises(ValueError, match="finite"):
        results.fill_failed(table, float("nan"))
