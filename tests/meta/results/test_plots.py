"""Plots: what is drawn is what was measured, legends leave the data alone, files are whole."""

import contextlib
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from meta import results
from meta.results import bootstrap, normalised, normalised_plots, plot_style, plots
from meta.results import summary as summaries
from meta.results.looks import Detail, Looks

_COLUMNS = ("meta_step", "fitness_mean", "fitness_min", "fitness_max", "validation")
METRICS = [
    dict(zip(_COLUMNS, row, strict=True))
    for row in (
        (0, 1.0, 0.0, 2.0, 1.5),
        (1, 2.0, 1.0, 3.0, np.nan),
        (2, 3.0, -np.inf, 4.0, 9.0),
        (3, 4.0, 3.0, 5.0, 4.5),
    )
]
OPTIMIZERS = ("open", "open (untrained)", "adam", "my optimizer")


def make_table(seeds=4, points=3, optimizers=OPTIMIZERS, tasks=("breakout",)):
    rows = [
        results.Row(task, "ppo", name, seed, 500_000 * point, float(point * (seed + 1) + shift))
        for task in tasks
        for shift, name in enumerate(optimizers)
        for seed in range(seeds)
        for point in range(1, points + 1)
    ]
    return results.from_rows(rows)


@contextlib.contextmanager
def saved_figures():
    """Collects the figures that are saved within the block."""
    figures = []
    save = plot_style.save

    def keep(figure, path):
        save(figure, path)
        figures.append(figure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot_style, "save", keep)
        yield figures


@pytest.fixture
def saved():
    with saved_figures() as figures:
        yield figures


def lines_by_label(axis):
    return {line.get_label(): line for line in axis.lines}


def texts(figure):
    """All texts that the figure shows."""
    import matplotlib.text

    hidden = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        # Matplotlib keeps ticks beyond the limits, but does not draw them.
        beyond = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
        hidden |= {label for tick in beyond for label in (tick.label1, tick.label2)}
    found = set(figure.findobj(matplotlib.text.Text)) - hidden
    return [text for text in found if text.get_visible() and text.get_text().strip()]


@pytest.fixture(scope="module")
def all_plots(tmp_path_factory):
    """(folder, figures): one of each plot, and some with long names."""
    folder = tmp_path_factory.mktemp("plots") / "new folder"
    table = make_table(tasks=("breakout", "freeway"))
    long = make_table(optimizers=tuple(f"{'long name ' * 6}{i}" for i in range(5)))
    with saved_figures() as figures:
        plots.evolution_plot(METRICS, folder / "meta.png")
        plots.return_curves_plot(table, "breakout", folder / "curves.png")
        plots.return_curves_plot(long, "breakout", folder / "long.png")
        plots.interval_plot(summaries.summary(table), folder / "interval.png")
        plots.interval_plot(summaries.summary(long), folder / "interval_long.png")
        tasks = make_table(tasks=[f"a task with quite a long name, {i}" for i in range(3)])
        plots.interval_plot(summaries.summary(tasks), folder / "interval_3.png")
        plots.overview_plot(METRICS, table, "freeway", folder / "overview.png")
    return folder, figures


def test_files_are_png_of_print_size_and_nothing_else_is_left(all_plots):
    files = sorted(all_plots[0].iterdir())
    assert len(files) == 7
    for file in files:
        data = file.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        width = int.from_bytes(data[16:20], "big")
        assert width == round(6.5 * 150)


def test_letters_are_readable_and_within_the_figure(all_plots):
    for figure in all_plots[1]:
        renderer = figure.canvas.get_renderer()
        for text in texts(figure):
            assert text.get_fontsize() >= 9
            box = text.get_window_extent(renderer)
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text.get_text()


def test_titles_do_not_touch_each_other(all_plots):
    for figure in all_plots[1]:
        renderer = figure.canvas.get_renderer()
        boxes = [axis.title.get_window_extent(renderer) for axis in figure.axes]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_legends_do_not_touch_the_data_or_the_labels(all_plots):
    legends = 0
    for figure in all_plots[1]:
        renderer = figure.canvas.get_renderer()
        for axis in figure.axes:
            if axis.get_legend() is None:
                continue
            legends += 1
            box = axis.get_legend().get_window_extent(renderer)
            assert box.y1 <= axis.xaxis.label.get_window_extent(renderer).y0
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1
            for other in figure.axes:
                assert not box.overlaps(other.get_window_extent(renderer))
    assert legends == 5


def test_imports_are_light_and_pyplot_is_never_imported(tmp_path):
    program = f"""
import sys
from meta.results import bootstrap, plots, summary
heavy = {{"matplotlib", "rliable", "pandas"}} & set(sys.modules)
assert not heavy, heavy
plots.evolution_plot({METRICS[:1]}, {str(tmp_path / "meta.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=120)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "meta.png"
    path.write_bytes(b"old")

    def crash(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(OSError, match="disk"):
        plots.evolution_plot(METRICS, path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["meta.png"]


def test_the_ending_gives_the_kind_of_file(tmp_path):
    plots.evolution_plot(METRICS, tmp_path / "meta.pdf")
    assert (tmp_path / "meta.pdf").read_bytes()[:4] == b"%PDF"


def test_meta_training_shows_band_mean_and_best_held_out(tmp_path, saved):
    plots.evolution_plot(METRICS, tmp_path / "meta.png")
    (axis,) = saved[0].axes
    lines = lines_by_label(axis)
    np.testing.assert_array_equal(
        lines["population, mean"].get_xydata(), [[0, 1], [1, 2], [2, 3], [3, 4]]
    )
    held_out = lines["mean theta, held out"].get_xydata()
    np.testing.assert_array_equal(held_out, [[0, 1.5], [2, 9.0], [3, 4.5]])
    np.testing.assert_array_equal(
        lines["best held out: 9 (generation 2)"].get_xydata(), [[2.0, 9.0]]
    )
    (band,) = axis.collections
    ends = band.get_datalim(axis.transData)
    assert (ends.y0, ends.y1) == (0.0, 5.0)  # the infinite one is a gap
    assert axis.get_xlabel() == "generation" and "episode return" in axis.get_ylabel()


def test_one_generation_without_validation_can_be_shown(tmp_path, saved):
    row = {name: value for name, value in METRICS[0].items() if name != "validation"}
    plots.evolution_plot([row], tmp_path / "meta.png")
    (axis,) = saved[0].axes
    assert set(lines_by_label(axis)) == {"population, mean"}
    assert all(tick == round(tick) for tick in axis.get_xticks())


def test_a_run_without_generations_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no generations"):
        plots.evolution_plot([], tmp_path / "meta.png")
    assert list(tmp_path.iterdir()) == []


def test_curves_are_iqm_with_interval_and_the_control_is_dashed(tmp_path, saved):
    table = make_table()
    plots.return_curves_plot(table, "breakout", tmp_path / "curves.png")
    (axis,) = saved[0].axes
    lines = lines_by_label(axis)
    assert tuple(lines) == OPTIMIZERS
    for name, band in zip(OPTIMIZERS, axis.collections, strict=True):
        env_steps, returns = results.curves(table, "breakout", name)
        estimate = bootstrap.curve_interval(returns)
        np.testing.assert_array_equal(lines[name].get_xdata(), env_steps)
        np.testing.assert_array_equal(lines[name].get_ydata(), estimate.point)
        corners = band.get_paths()[0].vertices
        for low, high, step in zip(estimate.low, estimate.high, env_steps, strict=True):
            at = corners[corners[:, 0] == step, 1]
            assert (at.min(), at.max()) == (low, high)
    dashed = {name for name, line in lines.items() if line.get_linestyle() == "--"}
    assert dashed == {"open (untrained)"}
    assert lines["open"].get_color() == lines["open (untrained)"].get_color()
    assert axis.get_title() == "breakout" and axis.get_xlabel() == "environment steps"
    assert "4 seeds" in axis.get_legend().get_title().get_text()
    labels = [tick.get_text() for tick in axis.get_xticklabels()]
    assert "1M" in labels


def test_different_numbers_of_seeds_are_told_and_one_seed_has_no_band(tmp_path, saved):
    one, four = make_table(1, optimizers=("open",)), make_table(4, optimizers=("adam",))
    columns = (
        np.concatenate([getattr(one, name), getattr(four, name)]) for name in results.COLUMNS
    )
    plots.return_curves_plot(results.Table(*columns), "breakout", tmp_path / "curves.png")
    (axis,) = saved[0].axes
    lines = lines_by_label(axis)
    assert set(lines) == {"open (1 seed)", "adam (4 seeds)"}
    np.testing.assert_array_equal(lines["open (1 seed)"].get_ydata(), [1.0, 2.0, 3.0])
    assert len(axis.collections) == 1


def test_failed_runs_and_unknown_tasks_are_refused(tmp_path):
    table = make_table()
    table.episode_return[-1] = np.nan
    with pytest.raises(ValueError, match="'my optimizer': 1 of 12 returns are NaN"):
        plots.return_curves_plot(table, "breakout", tmp_path / "curves.png")
    with pytest.raises(ValueError, match=r"no results for task 'pong'; .*\['breakout'\]"):
        plots.return_curves_plot(table, "pong", tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []


def test_intervals_are_those_of_the_summary(tmp_path, saved):
    rows = summaries.summary(make_table(tasks=("a", "b", "c", "d")))
    rows = [row for row in rows if (row["task"], row["optimizer"]) != ("b", "adam")]
    rows[0] |= {"iqm_low": None, "iqm_high": None}
    plots.interval_plot(rows, tmp_path / "interval.png")
    axes = saved[0].axes
    assert len(axes) == 4
    assert [text.get_text() for text in axes[0].get_yticklabels()] == list(OPTIMIZERS)
    for axis, task in zip(axes, "abcd", strict=True):
        assert axis.get_title() == f"{task}\n1.5M env. steps"
        drawn = [line.get_xydata().tolist() for line in axis.lines]
        expected = []
        for row in (row for row in rows if row["task"] == task):
            at = OPTIMIZERS.index(row["optimizer"])
            if row["iqm_low"] is not None:
                expected.append([[row["iqm_low"], at], [row["iqm_high"], at]])
            expected.append([[row["iqm"], at]])
        assert drawn == expected
        bottom, top = axis.get_ylim()
        assert bottom > top  # the first optimizer on top
    with pytest.raises(ValueError, match="no rows"):
        plots.interval_plot([], tmp_path / "interval.png")


def test_the_overview_shows_both(tmp_path, saved):
    plots.overview_plot(METRICS, make_table(), "breakout", tmp_path / "overview.png")
    left, right = saved[0].axes
    assert left.get_title() == "Meta-training" and right.get_title() == "breakout"
    assert "population, mean" in lines_by_label(left)
    assert tuple(lines_by_label(right)) == OPTIMIZERS


def test_legends_of_the_overview_stay_below_their_own_panels(tmp_path, saved):
    names = ("open", "open (untrained)", "adam, annealed, 0.03 tuned", "my optimizer, of long name")
    rows = [{**row, "meta_step": row["meta_step"] + 1000} for row in METRICS]
    table = make_table(optimizers=names)
    plots.overview_plot(rows, table, "breakout", tmp_path / "overview.png")
    (figure,) = saved
    renderer = figure.canvas.get_renderer()
    left, right = (axis.get_legend().get_window_extent(renderer) for axis in figure.axes)
    beginning = figure.axes[1].get_tightbbox(renderer, for_layout_only=True).x0
    assert left.x1 < min(beginning, right.x0) and right.x1 <= figure.bbox.x1 and left.x0 >= 0


def test_a_figure_shows_labels_and_the_looks_of_all_that_is_shown_together(tmp_path, saved):
    table = make_table(1, optimizers=("adam", "mine"), tasks=("breakout", "freeway"))
    styles = plot_style.optimizer_styles(["adam", "mine", "other"], {"mine": "open"})
    details = {("breakout", "adam"): Detail("0.03", "tuned"), ("freeway", "adam"): Detail("1", "")}
    looks = Looks(styles, details, {"breakout": "breakout (smoke run)"})
    plots.return_curves_plot(table, "breakout", tmp_path / "curves.png", looks=looks)
    rows = normalised.rows(table, normalised.normalise(table, "adam"))
    raw = [row for row in rows if row["task"] != normalised.ALL_TASKS]
    plots.interval_plot(raw, tmp_path / "interval.png", looks=looks)
    compared = normalised.normalise(table, "adam")
    normalised_plots.profile_plot(compared, tmp_path / "profile.png", looks)
    curves, intervals, profile = saved
    lines = lines_by_label(curves.axes[0])
    assert set(lines) == {"adam, 0.03 tuned", "mine"}
    assert lines["mine"].get_color() == plot_style.BLUE  # of the family open
    assert curves.axes[0].get_title() == "breakout (smoke run)"
    labels = [label.get_text() for label in intervals.axes[0].get_yticklabels()]
    assert labels == ["adam, rates by task", "mine"]
    lines = lines_by_label(profile.axes[0])
    assert lines["mine"].get_color() == plot_style.BLUE and "adam, rates by task" in lines


def test_the_same_optimizer_has_one_colour_under_two_names():
    styles = plot_style.optimizer_styles(["a", "open", "open [b]"], same={"open [b]": "open"})
    assert styles["open [b]"].color == styles["open"].color == plot_style.BLUE
    assert styles["open [b]"] != styles["open"] and styles["a"].color != plot_style.BLUE


def test_known_optimizers_keep_their_style_and_no_two_are_alike():
    few = plot_style.optimizer_styles(["Optim4RL", "no_features"])
    names = [
        "zeta",
        "No Features",
        "optim4rl",
        "OPEN",
        "open",
        "adam",
        *(f"x{i}" for i in range(40)),
    ]
    many = plot_style.optimizer_styles(names + [results.untrained(name) for name in names])
    assert many["optim4rl"] == few["Optim4RL"] and many["No Features"] == few["no_features"]
    assert len(set(many.values())) == 2 * len(names)
    for name in names:
        control = many[results.untrained(name)]
        assert control == many[name]._replace(dashed=True) and not many[name].dashed
    with pytest.raises(ValueError, match="56 optimizers, got 57"):
        plot_style.optimizer_styles(f"x{i}" for i in range(57))


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [(0.5, 1.0, "0.5"), (500.0, 9000.0, "500"), (20_000.0, 30_000.0, "20k"), (2e6, 3e6, "2M")],
)
def test_thousands_are_written_short_and_small_returns_plainly(value, limit, text):
    from matplotlib.figure import Figure

    axis = Figure().add_subplot()
    axis.set_ylim(-1.0, limit)
    axis.yaxis.set_major_formatter(plot_style.return_formatter(axis.get_ylim()))
    axis.set_yticks([0.0, value])
    assert axis.get_yticklabels()[1].get_text() == text
