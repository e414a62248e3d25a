"""The examples of other people's training loops run, and the optimizer that they ship works."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import learned_opt

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, *arguments):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
        cwd=EXAMPLES.parent,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def needs(package, install):
    found = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not found, reason=f"{package} is not there: pip install {install}")


@pytest.mark.slow
def test_the_shipped_optimizer_can_be_taken_elsewhere():
    """It asks for nothing that other code lacks, and treats each network for itself."""
    trained = learned_opt.load(EXAMPLES / "cartpole_open.npz")
    assert trained.metadata["config"]["optimizer"]["options"]["zero_mean"] is False
    assert "dormancy" not in trained.metadata["options"]["features"]
    params = {"Dense_0": {"kernel": jnp.ones((4, 2)), "bias": jnp.zeros(2)}}
    for role in ("actor", "critic"):
        tx = trained.as_optax(total_updates=10, role=role)
        updates, _ = tx.update(params, tx.init(params), params)
        assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(updates))
        assert float(jnp.abs(updates["Dense_0"]["kernel"]).max()) > 1e-4


@pytest.mark.slow
def test_a_flax_train_state_learns_with_it():
    out = run("flax_train_state.py")
    first, last = map(
        float, re.search(r"learned: reward ([\d.]+) at first, ([\d.]+)", out).groups()
    )
    assert first < 0.5 < 0.8 < last


@pytest.mark.slow
def test_brax_s_own_ppo_runs_with_it():
    out = run("brax_ppo.py", "--num_timesteps=4096")
    assert re.search(r"learned: return \d", out)
    assert re.search(r"Adam, annealed from 0.003: return \d", out)


@pytest.mark.slow
@needs("rejax", "rejax")
def test_rejax_s_ppo_learns_with_it():
    out = run("rejax_ppo.py", "--num_seeds=2")
    assert float(re.search(r"learned: .*IQM ([\d.]+)", out).group(1)) > 100


@pytest.mark.slow
@needs("sbx", "sbx-rl")
def test_sbx_s_ppo_runs_with_it():
    out = run("sbx_ppo.py", "--num_seeds=1", "--total_timesteps=1024")
    assert re.search(r"learned: returns \[[\d.]+\]", out)
