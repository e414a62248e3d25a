"""An installed package brings names of its own, in launchers and in Python."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from meta import api, plugins

ROOT = Path(__file__).parents[2]
BASELINE = """
import optax
import learned_opt

learned_opt.register_handcrafted("plugged", optax.sgd, {"learning_rate": 0.5})
"""


def install(folder, code, value="plugged_module"):
    """A distribution of one module with one entry point, as pip would leave it."""
    (folder / "plugged_module.py").write_text(code)
    info = folder / "plugged_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[lopt_rl.plugins]\nmine = {value}\n")


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A path with the temporary folder on it, where no plugin has been loaded."""
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    plugins.load.cache_clear()
    yield tmp_path
    plugins.load.cache_clear()
    sys.modules.pop("plugged_module", None)


def test_a_launcher_knows_what_an_installed_package_registers(tmp_path):
    install(tmp_path, BASELINE)
    done = subprocess.run(
        [sys.executable, "launchers/list.py", "plugged"],
        capture_output=True, text=True, cwd=ROOT, timeout=240, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "plugged\n  optimizer:" in done.stdout


def test_a_plugin_is_a_module_or_a_function_and_is_loaded_once(fresh):
    install(fresh, "calls = []\ndef register():\n    calls.append(1)\n", "plugged_module:register")
    assert plugins.load() == plugins.load() == ("mine",)
    assert importlib.import_module("plugged_module").calls == [1]


def test_the_functions_of_meta_load_plugins_before_they_look_anything_up(fresh):
    install(fresh, "raise RuntimeError('half installed')")
    message = "plugin 'mine' .plugged_module. of plugged-package fails: RuntimeError: half inst"
    for call in (
        lambda: api.evaluate("adam", "catch"),
        lambda: api.tune("adam", "catch", space={}),
        lambda: api.analyze("adam", "catch"),
        lambda: api.export_experience("adam", "catch", "out"),
        lambda: api.write_report("folder"),
        lambda: api.train("configs/demo.py"),
        lambda: api.compare("configs/demo.py"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
