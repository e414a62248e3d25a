"""The examples of extending the toolkit, run by a stranger from a folder of his own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = ("--total_timesteps=256", "--agent_option=num_envs=8", "--agent_option=num_steps=16")


@pytest.fixture
def own(tmp_path):
    """A folder outside the project with what its user wrote."""
    folder = tmp_path / "own"
    shutil.copytree(ROOT / "examples" / "extending", folder)
    return folder


def python(folder, *words):
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True, text=True, cwd=folder, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def imports(folder, *names):
    return [f"--import={folder / name}.py" for name in names]


@pytest.mark.slow
def test_an_optimizer_is_trained_on_an_environment_by_a_config_from_elsewhere(own):
    modules = imports(own, "my_optimizer", "my_environment", "my_baseline")
    config = [f"--config={own / 'my_config.py'}:smoke", "--config.outer.validate_every=0"]
    command = [ROOT / "launchers" / "train.py", *modules, *config]
    said = python(own, *command, f"--workdir={own / 'run'}")
    assert "my_optimizer (untrained)" in said and "adabelief" in said
    file = own / "run" / "optimizer.npz"
    listed = python(own, ROOT / "launchers" / "list.py", *modules, file)
    assert "my_optimizer" in listed and "my/corridor" in listed


@pytest.mark.slow
def test_an_outer_loop_trains_from_a_file_that_is_its_config_too(own):
    config = [f"--config={own / 'my_outer_loop.py'}:smoke", "--config.outer.num_trials=2"]
    command = [ROOT / "launchers" / "train.py", *config, "--config.evaluation.points=1"]
    said = python(own, *command, f"--workdir={own / 'run'}")
    assert "2 trials" in said and "linear (untrained)" in said


@pytest.mark.slow
def test_a_baseline_is_compared_by_its_name(own):
    modules = imports(own, "my_environment", "my_baseline")
    command = [ROOT / "launchers" / "evaluate.py", *modules, "--optimizer=adabelief", *SMALL]
    said = python(
        own, *command, "--task=my/corridor", "--env_option=length=3", "--num_seeds=2",
        f"--workdir={own / 'run'}",
    )  # fmt: skip
    assert re.search(r"\| my/corridor \| adabelief", said), said


@pytest.mark.slow
def test_agents_learn_with_a_network_of_ones_own(own):
    said = python(own, own / "my_network.py")
    first, last = map(float, re.search(r"return: (\S+) at first, (\S+) at last", said).groups())
    assert first < 0 < last
