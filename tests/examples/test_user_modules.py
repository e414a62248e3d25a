"""The examples that bring a network of one's own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("flax", "haiku")


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_at_most_forty_lines(name):
    assert len((EXAMPLES / f"{name}_module.py").read_text().splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_trained_saved_and_loaded(name, tmp_path):
    command = [sys.executable, str(EXAMPLES / f"{name}_module.py")]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("generation") == 10
    returns = re.search(r"(\S+) before training, (\S+) after", done.stdout)
    assert returns and float(returns[1]) < float(returns[2]), done.stdout
    assert "equal updates after loading: True" in done.stdout
    assert (tmp_path / f"my_{name}.npz").is_file()
