"""The command lines of tune and analyze: bad input ends with code 2 and a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("launcher", "flags", "message"),
    [
        ("tune", ["--task=catch", "--optimizer=addam", "--learning_rate=0.1"], "mean 'adam'"),
        ("tune", ["--task=catch", "--learning_rate=fast"], "must be a number above 0"),
        ("analyze", ["--optimizer=adam", "--task=catch", "--num_seeds=0"], "no seeds"),
        ("analyze", ["--optimizer=adam", "--task=catch", "--tau=low"], "--tau must be numbers"),
    ],
)
def test_bad_flags_end_with_code_2_and_no_traceback(tmp_path, launcher, flags, message):
    command = [sys.executable, f"launchers/{launcher}.py", f"--workdir={tmp_path / 'run'}", *flags]
    command.append("--total_timesteps=1e4")
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
