"""Comparisons: normalised scores are rliable's, over tasks and on each, and drawn as they are."""

import numpy as np
import pytest

from agents import environments, task_presets
from meta import results
from meta.results import bootstrap as stats
from meta.results import normalised, normalised_plots, plots, summary
from tests.meta.results.test_plots import lines_by_label, saved_figures, texts
from third_party.open_rl import reference

OPTIMIZERS = ("adam", "open", "open (untrained)")
SCALES = {"breakout": 10.0, "freeway": 1.0}


def make_table(tasks=SCALES, optimizers=OPTIMIZERS, seeds=4, points=3, seed=0):
    generator = np.random.default_rng(seed)
    rows = [
        results.Row(task, "ppo", name, s, 100 * p, scale * (p + place + generator.random()))
        for task, scale in tasks.items()
        for place, name in enumerate(optimizers)
        for s in range(seeds)
        for p in range(1, points + 1)
    ]
    return results.from_rows(rows)


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture(scope="module")
def compared(table):
    return normalised.normalise(table, "adam")


@pytest.fixture(scope="module", autouse=True)
def fifty_repetitions():
    bootstrap = stats._bootstrap
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stats, "_bootstrap", lambda x, f, reps, seed: bootstrap(x, f, 50, seed))
        yield


@pytest.fixture(scope="module")
def rows(table, compared):
    return normalised.rows(table, compared)


def by_rliable(scores, aggregate):
    from rliable import library

    np.random.seed(0)
    point, ends = library.get_interval_estimates(
        {"x": scores}, lambda *sample: np.array([aggregate(*sample)]), reps=50
    )
    return [point["x"].item(), *ends["x"].ravel().tolist()]


def cells(row, name):
    return [row[name + end] for end in ("", "_low", "_high")]


def scores_by_hand(table, name):
    columns = [
        results.final_returns(table, task, name) / results.final_returns(table, task, "adam").mean()
        for task in table.tasks()
    ]
    return np.stack(columns, axis=1)


def test_rows_are_what_rliable_says_by_hand(table, rows):
    from rliable import metrics

    aggregates = {
        "normalised_iqm": metrics.aggregate_iqm,
        "normalised_mean": metrics.aggregate_mean,
        "normalised_median": metrics.aggregate_median,
        "optimality_gap": metrics.aggregate_optimality_gap,
    }
    assert len(rows) == 3 * 3
    for row in rows:
        assert tuple(row) == normalised.COLUMNS
        one = row["task"] != normalised.ALL_TASKS
        of = results.select(table, row["task"]) if one else table
        scores, control = (scores_by_hand(of, name) for name in (row["optimizer"], "adam"))
        for name, aggregate in aggregates.items():
            np.testing.assert_allclose(cells(row, name), by_rliable(scores, aggregate), rtol=1e-9)
        if one:
            raw = results.final_returns(table, row["task"], row["optimizer"])[:, None]
            for name, aggregate in (("iqm", metrics.aggregate_iqm), ("mean", np.mean)):
                np.testing.assert_allclose(cells(row, name), by_rliable(raw, aggregate), rtol=1e-9)
        if row["optimizer"] == "adam":
            assert cells(row, "improvement") == [None] * 3
        else:
            expected = by_rliable([scores, control], metrics.probability_of_improvement)
            np.testing.assert_allclose(cells(row, "improvement"), expected, rtol=1e-9)


def test_profiles_and_pooled_curves_are_those_of_rliable(compared):
    from rliable import library, metrics

    scores, thresholds = compared.scores["open"], np.linspace(0, 2, 9)
    np.random.seed(3)
    points, ends = library.create_performance_profile({"x": scores}, thresholds, reps=50)
    estimate = stats.performance_profile(scores, thresholds, 50, seed=3)
    np.testing.assert_allclose(estimate, [points["x"], *ends["x"]], atol=1e-12)

    curves = compared.curves["open"]
    assert curves.shape == (4, 2, 3)
    iqms = lambda x: np.array([metrics.aggregate_iqm(x[..., t]) for t in range(3)])  # noqa: E731
    np.random.seed(3)
    point, ends = library.get_interval_estimates({"x": curves}, iqms, reps=50)
    estimate = stats.curve_interval(curves, 50, seed=3)
    np.testing.assert_allclose(estimate, [point["x"], *ends["x"]], rtol=1e-9)
    with pytest.raises(ValueError, match="axes"):
        stats.curve_interval(np.ones((2, 2, 2, 2)))


def test_a_normaliser_at_or_below_zero_normalises_nothing():
    table = make_table({"pendulum": -100.0})
    compared = normalised.normalise(table, "adam")
    assert compared.tasks == [] and "only a divisor above 0" in compared.notes[0]
    rows = normalised.rows(table, compared)
    assert all(row["normalised_iqm"] is None for row in rows)
    assert rows[1]["improvement"] is not None  # needs no normalising
    compared = normalised.normalise(table, "sgd")
    assert compared.by is None and "sgd was not run there" in compared.notes[0]


def test_what_cannot_be_pooled_is_left_out_and_said():
    parts = [
        make_table({"breakout": 1.0}, seeds=4),
        make_table({"freeway": 1.0}, ("adam", "open"), seeds=3),
        make_table({"asterix": 1.0}, ("adam", "open"), seeds=3, points=2),
    ]
    joined = [np.concatenate([getattr(p, name) for p in parts]) for name in results.COLUMNS]
    compared = normalised.normalise(results.Table(*joined), "adam")
    assert compared.optimizers == ["adam", "open"]
    assert compared.scores["open"].shape == (3, 3) and compared.curves == {}
    said = " ".join(compared.notes)
    for part in ("not run on each: open (untrained)", "the first 3 seeds", "numbers of points"):
        assert part in said


def test_failures_count_as_the_worst_of_their_own_task(table):
    returns = table.episode_return.copy()
    returns[[0, -1]] = np.nan
    broken = results.Table(*(getattr(table, n) for n in results.COLUMNS[:-1]), returns)
    filled, note = normalised.failures_as_worst(broken)
    assert filled.episode_return[0] == returns[1 : len(returns) // 2].min()
    assert filled.episode_return[-1] == returns[len(returns) // 2 : -1].min()
    assert "1 on breakout" in note and "1 on freeway" in note
    assert normalised.failures_as_worst(table) == (table, "")


def test_one_seed_has_points_and_no_intervals():
    table = make_table(seeds=1)
    compared = normalised.normalise(table, "adam")
    for row in normalised.rows(table, compared):
        assert row["normalised_iqm"] is not None and row["optimality_gap_low"] is None


@pytest.fixture(scope="module")
def drawn(table, rows, compared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    one = make_table(seeds=1)
    with saved_figures() as figures:
        normalised_plots.aggregate_plot(rows, compared, folder / "aggregate.png")
        normalised_plots.improvement_plot(rows, compared, folder / "improvement.png")
        normalised_plots.profile_plot(compared, folder / "profile.png")
        normalised_plots.efficiency_plot(compared, folder / "efficiency.png")
        single = normalised.normalise(one, "adam")
        normalised_plots.profile_plot(single, folder / "profile_one.png")
        normalised_plots.efficiency_plot(single, folder / "efficiency_one.png")
        published = [p for p in reference.PUBLISHED if p.task == "breakout"]
        plots.interval_plot(rows[:6], folder / "intervals.png", published)
        plots.return_curves_plot(table, "breakout", folder / "curves.png", references=published)
    return figures


def test_letters_are_readable_and_within_the_figure(drawn):
    for figure in drawn:
        renderer = figure.canvas.get_renderer()
        for text in texts(figure):
            assert text.get_fontsize() >= 9
            box = text.get_window_extent(renderer)
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text.get_text()


def test_plots_show_the_rows_with_units_and_legends(drawn, rows, compared):
    aggregate, improvement, profile, efficiency, *_, intervals, curves = drawn
    overall = [row for row in rows if row["task"] == normalised.ALL_TASKS]
    for axis, name in zip(aggregate.axes, normalised.NORMALISED, strict=True):
        markers = [line for line in axis.lines if len(line.get_xdata()) == 1]
        assert [line.get_xdata()[0] for line in markers] == [row[name] for row in overall]
    assert "adam's final mean = 1" in aggregate.get_supxlabel()
    assert "higher return than adam" in improvement.axes[0].get_xlabel()
    for figure in (profile, efficiency):
        assert set(OPTIMIZERS) <= set(lines_by_label(figure.axes[0]))
        assert "4 seeds" in figure.axes[0].get_legend().get_title().get_text()
    assert efficiency.axes[0].get_xlabel() == "environment steps"
    ticks = [text.get_text() for text in intervals.axes[0].get_yticklabels()]
    assert any("published" in tick for tick in ticks)
    assert "OPEN, published, 200k steps" in lines_by_label(curves.axes[0])


def pendulum(**values):
    """A table: optimizer -> [S, T] returns on pendulum; None without an episode."""
    return results.from_rows(
        results.Row("pendulum", "ppo", name, seed, 100 * (place + 1), value)
        for name, seeds in values.items()
        for seed, curve in enumerate(seeds)
        for place, value in enumerate(curve)
    )


def test_points_without_an_episode_have_no_value_and_no_share_of_the_area():
    table = pendulum(adam=[[None, -900.0, -500.0], [None, -800.0, -400.0]])
    np.testing.assert_array_equal(results.area_under_curve(table, "pendulum", "adam"), [-700, -600])
    steps, returns = results.known_curves(table, "pendulum", "adam")
    np.testing.assert_array_equal(steps, [200, 300])
    assert returns.shape == (2, 2)
    same, note = normalised.failures_as_worst(table)
    assert note == "" and same is table
    (row,) = normalised.rows(table, normalised.normalise(table, "adam"))
    assert (row["mean"], row["auc_iqm"], row["seeds"]) == (-450.0, -650.0, 2)
    notes = " ".join(normalised.normalise(table, "adam").notes)
    assert "adam on pendulum: no episode had ended in some or all seeds up to 100 steps" in notes


def test_without_any_episode_there_is_no_return_and_a_note(tmp_path):
    table = pendulum(adam=[[None, None]] * 2, open=[[None, -7.0], [-8.0, -6.0]])
    found = normalised.normalise(table, "adam")
    empty, whole = normalised.rows(table, found)
    assert empty["seeds"] == 0 and empty["iqm"] is empty["auc_iqm"] is empty["mean"] is None
    assert whole["iqm"] == -6.5 and whole["improvement"] is None
    assert "by 200 steps, the end of training: there is no return" in " ".join(found.notes)
    text = summary.to_markdown([empty, whole], "adam")
    assert "| pendulum | adam | 0 | 200 | – | – | – | – |" in text
    plots.return_curves_plot(table, "pendulum", tmp_path / "curves.png")
    plots.interval_plot([empty, whole], tmp_path / "intervals.png")


def test_a_failed_run_is_told_from_one_without_an_episode_also_when_read_again(tmp_path):
    table = pendulum(adam=[[None, None], [-9.0, -3.0], [-8.0, np.nan]])
    results.append(tmp_path / "results.csv", results.to_rows(table))
    again = results.read(tmp_path / "results.csv")
    np.testing.assert_array_equal(again.no_episode, [True, True, False, False, False, False])
    counted, note = normalised.failures_as_worst(again)
    assert "1 on pendulum (as -9)" in note
    np.testing.assert_array_equal(
        results.final_returns(counted, "pendulum", "adam"), [np.nan, -3.0, -9.0]
    )
    with pytest.raises(ValueError, match=r"1 of 6 returns.*in 1 of 3 seeds: these runs failed"):
        summary.summary(again)


def test_reference_values_normalise_tasks_with_negative_returns(tmp_path):
    table = pendulum(adam=[[-1.0, -3254.7], [-1.0, -3254.7]], open=[[-1.0, 0.0], [-1.0, 0.0]])
    assert "--normalise_by=min_max" in " ".join(normalised.normalise(table, "adam").notes)
    found = normalised.normalise(table, normalised.MIN_MAX)
    assert found.tasks == ["pendulum"] and found.control == "adam"
    worst, best = normalised.rows(table, found)
    assert (worst["normalised_iqm"], worst["optimality_gap"]) == (0.0, 1.0)
    assert (best["normalised_iqm"], best["optimality_gap"], best["improvement"]) == (1.0, 0.0, 1.0)
    assert worst["iqm"] == -3254.7
    assert "the score 0" in found.notes[0] and "reference value" in found.rule
    for name, draw in normalised_plots.drawings([worst, best], found).items():
        draw(tmp_path / f"{name}.png")
    table = make_table({"breakout": 1.0})
    assert "no reference values" in normalised.normalise(table, normalised.MIN_MAX).notes[0]


def test_reference_values_are_of_environments_that_there_are():
    short = {task_presets.short_name(name) for name in environments.names()}
    for name, (low, high) in task_presets.RETURN_RANGES.items():
        assert name in short and low < high
