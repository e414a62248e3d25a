"""A summary is written when results have changed, and then whole."""

import json

import pytest

from meta.runs import stamped
from meta.runs.workdir import Workdir


class Writer:
    """Writes a plot for each name; counts how often it is asked."""

    def __init__(self, folder, *names):
        self.folder, self.names, self.calls = folder, names, 0

    def __call__(self):
        self.calls += 1
        for name in self.names:
            (self.folder.path / name).write_text("plot")
        return f"summary {len(self.names)}\n", list(self.names)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return Workdir(tmp_path / "run")


def test_the_same_results_are_summarised_once(folder):
    write = Writer(folder, "a.png")
    texts = [stamped.summary(folder, b"results", write) for _ in range(2)]
    assert texts == ["summary 1\n"] * 2 and write.calls == 1
    assert (folder.path / "summary.md").read_text() == texts[0]
    stamped.summary(folder, b"other results", write)
    assert write.calls == 2


@pytest.mark.parametrize("lost", ["summary.md", "a.png", "stamp.json"])
def test_what_is_lost_is_written_again(folder, lost):
    write = Writer(folder, "a.png")
    stamped.summary(folder, b"results", write)
    (folder.path / lost).unlink()
    stamped.summary(folder, b"results", write)
    assert write.calls == 2 and (folder.path / lost).is_file()


@pytest.mark.parametrize("content", ["{half", "[1]", '{"stamp": "x", "files": 3}'])
def test_a_damaged_stamp_is_none(folder, content):
    write = Writer(folder, "a.png")
    (folder.path / "stamp.json").write_text(content)
    assert stamped.summary(folder, b"results", write) == "summary 1\n"
    assert json.loads((folder.path / "stamp.json").read_text())["files"] == ["summary.md", "a.png"]


@pytest.mark.parametrize("stamp", ["stamp.json", "report.json"])
def test_plots_that_are_no_longer_shown_go_and_an_older_stamp_is_replaced(folder, stamp):
    stamped.summary(folder, b"results", Writer(folder, "a.png", "b.png"))
    (folder.path / "mine.png").write_text("a user's")
    (folder.path / "stamp.json").rename(folder.path / stamp)
    stamped.summary(folder, b"more results", Writer(folder, "a.png"))
    names = {path.name for path in folder.path.iterdir()}
    assert names == {"a.png", "mine.png", "stamp.json", "summary.md"}


def test_a_summary_that_cannot_be_written_leaves_no_stamp(folder):
    def fail():
        raise ValueError("every candidate failed")

    for _ in range(2):
        with pytest.raises(ValueError, match="every candidate failed"):
            stamped.summary(folder, b"results", fail)
    assert not list(folder.path.iterdir())
