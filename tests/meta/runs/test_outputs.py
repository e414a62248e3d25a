"""Plots and tables in further forms: written where asked for, kept up to date, never stale."""

import pytest

from meta.results import plot_style
from meta.runs import outputs, stamped, tables
from meta.runs.workdir import Workdir

PAGE = """# Returns

| task | return |
| --- | ---: |
| a_b | 50 % \\| 1 |

# Returns

| x |
| --- |
| y |
"""


def draw(path):
    figure = plot_style.new_figure(1.0)
    figure.add_subplot().plot([0, 1])
    plot_style.save(figure, path)


def test_plots_are_vector_graphics_as_well_and_the_same_ones_each_time(tmp_path):
    with outputs.also_as(("pdf", "svg")):
        draw(tmp_path / "a.png")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before["a.png"][:4] == b"\x89PNG" and before["a.pdf"][:5] == b"%PDF-"
    assert b"<svg" in before["a.svg"] and len(before) == 3
    draw(tmp_path / "a.png")  # what is there is kept up to date, and new plots are PNG alone
    draw(tmp_path / "b.png")
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.pop("b.png") and after == before


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="known: pdf, svg, latex"), outputs.also_as(("eps",)):
        pass
    assert not outputs.asked("pdf")


def test_tables_for_latex_are_escaped_and_named_by_their_headings():
    found = tables.latex(PAGE)
    assert list(found) == ["returns", "returns_2"]
    assert r"a\_b & 50 \% | 1 \\" in found["returns"]
    assert r"\begin{tabular}{lr}" in found["returns"] and r"\toprule" in found["returns_2"]


def test_a_summary_gains_forms_when_they_are_asked_for_and_keeps_them(tmp_path):
    folder, written = Workdir(tmp_path), []

    def write():
        written.append(1)
        draw(tmp_path / "a.png")
        return PAGE, ["a.png"]

    stamped.summary(folder, b"1", write)
    assert not list(tmp_path.glob("*.tex")) and not list(tmp_path.glob("*.pdf"))
    for _ in range(2):
        with outputs.also_as(("pdf", "latex")):
            stamped.summary(folder, b"1", write)
    assert len(written) == 2
    assert (tmp_path / "a.pdf").is_file() and (tmp_path / "summary_returns_2.tex").is_file()
    stamped.summary(folder, b"2", write)
    assert (tmp_path / "a.pdf").is_file() and (tmp_path / "summary_returns.tex").is_file()
    stamped.summary(folder, b"3", lambda: ("no tables\n", []))
    assert {path.name for path in tmp_path.iterdir()} == {"summary.md", "stamp.json"}
