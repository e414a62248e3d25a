"""The command line of export: bad input ends with code 2; a signal leaves nothing behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def command(*flags):
    return [sys.executable, "launchers/export.py", *flags]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task=catch"], "--out"),
        pytest.param(["--task=catch", "--out=launchers"], "exists already", marks=pytest.mark.slow),
        pytest.param(
            ["--task=catch", "--out=x", "--num_steps=1.5"], "--num_steps", marks=pytest.mark.slow
        ),
    ],
)
def test_bad_flags_end_with_code_2_and_no_traceback(flags, message):
    done = subprocess.run(
        command(*flags), capture_output=True, text=True, cwd=ROOT, timeout=240, check=False
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="needs the extra `data`")
    flags = ["--task=catch", "--total_timesteps=1e9", f"--out={tmp_path / 'data'}"]
    with subprocess.Popen(
        command(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as running:
        for _ in range(2400):
            if any(tmp_path.iterdir()):  # writing has begun, so signals are listened to
                break
            time.sleep(0.1)
        time.sleep(1.0)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=120)
    assert running.returncode == 128 + signal.SIGINT
    assert "nothing is kept" in errors and "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
