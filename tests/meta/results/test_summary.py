"""The summary of a results table: its numbers are those of the statistics, its files are whole."""

import numpy as np
import pytest

from meta import results
from meta.results import bootstrap
from meta.results import summary as summaries

FINAL = {"open": [10.0, 20.0, 40.0], "adam": [5.0, 6.0, 30.0]}


def make_table(finals=None, task="breakout"):
    """Curves of two points, from 0 at 0 steps to the final return at 1,000,000 steps."""
    rows = []
    for optimizer, values in (finals or FINAL).items():
        for seed, value in enumerate(values):
            rows.append(results.Row(task, "ppo", optimizer, seed, 0, 0.0))
            rows.append(results.Row(task, "ppo", optimizer, seed, 1_000_000, value))
    return results.from_rows(rows)


def test_a_row_holds_the_statistics_of_the_last_returns_and_of_the_area():
    first, second = summaries.summary(make_table())
    assert tuple(first) == summaries.SUMMARY_COLUMNS
    assert (first["task"], first["optimizer"], second["optimizer"]) == ("breakout", "open", "adam")
    assert (first["seeds"], first["env_steps"]) == (3, 1_000_000)
    final = np.array(FINAL["open"])
    expected = bootstrap.interval(final, "iqm")
    assert (first["iqm"], first["iqm_low"], first["iqm_high"]) == expected
    assert first["mean"] == pytest.approx(70 / 3)
    expected = bootstrap.interval(final / 2, "iqm")
    assert (first["auc_iqm"], first["auc_low"], first["auc_high"]) == expected


def test_a_control_adds_the_probability_of_improvement_over_it():
    first, second = summaries.summary(make_table(), control="adam")
    expected = bootstrap.probability_of_improvement(
        np.array(FINAL["open"]), np.array(FINAL["adam"])
    )
    assert expected.point == pytest.approx(7 / 9)
    assert tuple(first[name] for name in summaries.CONTROL_COLUMNS) == expected
    assert [second[name] for name in summaries.CONTROL_COLUMNS] == [None] * 3


def test_one_seed_has_a_point_and_no_interval():
    table = make_table({"open": [10.0], "adam": [5.0, 6.0]})
    first, second = summaries.summary(table, control="adam")
    assert (first["seeds"], first["iqm"], first["mean"], first["auc_iqm"]) == (1, 10.0, 10.0, 5.0)
    for name in ("iqm_low", "iqm_high", "auc_low", "auc_high", "improvement"):
        assert first[name] is None
    assert second["iqm_low"] is not None
    assert "10 (one seed)" in summaries.to_markdown([first])


@pytest.mark.parametrize("finals", [[1.0, float("nan")], [float("nan")]])
def test_failed_runs_are_refused_by_name(finals):
    with pytest.raises(ValueError, match=r"task 'breakout', optimizer 'adam': 1 of .* NaN"):
        summaries.summary(make_table({"open": [1.0, 2.0], "adam": finals}))


def test_a_control_that_is_missing_from_a_task_is_named():
    with pytest.raises(ValueError, match="control 'sgd' has no results on task 'breakout'"):
        summaries.summary(make_table(), control="sgd")


def test_an_empty_table_has_an_empty_summary():
    assert summaries.summary(results.from_rows([])) == []


def test_markdown_is_a_table_of_equal_rows():
    table = make_table({"a|b": [12345.6, 12345.6], "adam": [0.123456, 0.123456]})
    rows = summaries.summary(table, control="adam")
    text = summaries.to_markdown(rows)
    lines = text.splitlines()
    assert lines[2] == (
        "| breakout | a\\|b | 2 | 1,000,000 | 12,346 [12,346, 12,346] | 12,346 "
        "| 6,173 [6,173, 6,173] | 1 [1, 1] |"
    )
    assert lines[3].startswith("| breakout | adam | 2 | 1,000,000 | 0.1235 [0.1235, 0.1235]")
    assert lines[3].endswith("| – |")
    counts = {line.replace("\\|", "").count("|") for line in lines[:4]}
    assert counts == {9}
    assert "Agarwal" in lines[-1]
