"""The command line of evaluate: bad input ends with code 2 and a sentence, no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from launchers import values

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--optimizer=addam", "--task=catch"], "did you mean 'adam'"),
        (["--optimizer=adam", "--task=catch", "--num_seeds=many"], "--num_seeds=many"),
    ],
)
def test_bad_flags_end_with_code_2_and_no_traceback(tmp_path, flags, message):
    command = [sys.executable, "launchers/evaluate.py", f"--workdir={tmp_path / 'run'}", *flags]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr


def test_numbers_may_be_written_short():
    assert values.whole_number("total_timesteps", "2e5") == 200_000
    assert values.whole_number("total_timesteps", "") is None
    for text in ("abc", "0", "-1", "1.5", "inf", "nan"):
        with pytest.raises(ValueError, match="--total_timesteps"):
            values.whole_number("total_timesteps", text)


def test_options_are_json_or_text():
    given = ["num_envs=16", "widths=[8, 8]", "activation=tanh", "equal_hidden=false"]
    assert values.options("agent_option", given) == {
        "num_envs": 16, "widths": [8, 8], "activation": "tanh", "equal_hidden": False,
    }  # fmt: skip
    with pytest.raises(ValueError, match="NAME=VALUE"):
        values.options("agent_option", ["16"])
