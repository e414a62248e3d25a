"""What all tests share: guard rails, a compilation cache, and paths of reference files."""

import os
from pathlib import Path

# Most of a test's time is compiling small programs: without LLVM's optimisations they take a
# third less. `make test-slow` sets this to nothing, so that long runs are compiled as users' are.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)

import jax
import pytest

# Programs and kernels compiled by one test run are read back by the next.
_CACHE = Path(__file__).parent.parent / ".cache" / "jax"
_KERNELS = _CACHE.parent / "kernels"
_SHARED = Path(__file__).parent.parent.parent / "shared"


def pytest_configure(config):
    del config
    jax.config.update("jax_compilation_cache_dir", str(_CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_debug_key_reuse", False)
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("LOPT_RL_KERNEL_CACHE", str(_KERNELS))


@pytest.fixture(scope="session")
def published():
    """The folder of published weights."""
    return _reference_folder("published")


@pytest.fixture(scope="session")
def golden():
    """The folder of input and output vectors of the reference implementations."""
    return _reference_folder("golden")


def _reference_folder(name: str) -> Path:
    folder = _SHARED / name
    if not folder.is_dir():
        pytest.skip(f"the reference files ({name}) are not beside the project")
    return folder


@pytest.fixture(scope="session")
def run_python():
    """Runs a Python text in a process of its own and returns what it printed."""
    import subprocess
    import sys

    def run(text: str, *, timeout: float = 240, **environment: str) -> str:
        result = subprocess.run(
            [sys.executable, "-c", text],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **environment},
            cwd=Path(__file__).parent.parent,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    return run
