"""A page's excerpt fits the screen and says what it leaves out."""

import pytest

from meta.results import markdown


def page(rows):
    table = markdown.table(("a", "b"), [(str(row), "x") for row in range(rows)], "lr")
    return f"# Title\n\n{table}\n\n- a note\n"


def test_a_page_that_fits_is_left_alone():
    assert markdown.excerpt(page(5), 12, 80) == page(5)
    assert markdown.excerpt("no table\n", 12, 80) == "no table\n"


@pytest.mark.parametrize("lines", [8, 20, 50])
def test_long_tables_are_cut_and_notes_stay(lines):
    shown = markdown.excerpt(page(500), lines, 80)
    assert len(shown.splitlines()) == lines
    assert "- a note" in shown and f"... and {500 - (lines - 7)} more rows" in shown
    two = markdown.excerpt(page(300) + "\n" + page(3), lines, 80)
    assert len(two.splitlines()) <= lines


def test_lines_that_are_broken_count_as_often():
    long = "word " * 100 + "\n"
    assert len(markdown.excerpt(page(50) + long, 20, 50).splitlines()) <= 20 - 9
    assert markdown.excerpt(long * 30, 20, 50).splitlines()[-1] == "..."
