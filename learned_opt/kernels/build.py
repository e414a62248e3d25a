"""Compiles the C++ files of this folder for the CPU that runs this, and makes them XLA's.

A library is compiled once per kind of optimizer and machine, in a few seconds, and kept in the
cache folder. Nothing here runs when modules are imported.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from absl import logging

KERNELS = ("auto", "xla", "fused")
_FOLDER = Path(__file__).parent
_INTERFACE = Path("xla/ffi/api/c_api.h")  # of XLA, in jax.ffi.include_dir()
# The cache folder, where the default will not do.
_CACHE_VARIABLE = "LOPT_RL_KERNEL_CACHE"
# Products and sums may fuse; beyond that results are those of IEEE arithmetic, NaN and
# infinities included: errno and floating-point traps, which are given up, are no results.
_FLAGS = (
    *("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-fPIC", "-shared", "-fno-exceptions", "-fno-rtti", "-Wno-psabi"),
)
# How to ask for all that this CPU can; the first that a compiler knows.
_NATIVE = (("-march=native",), ("-mcpu=native",), ())
# Clang would otherwise halve vectors of 512 bits.
_WIDE = "-mprefer-vector-width=512"
# Zig's first run on a machine makes libraries of its own, which takes a minute.
_PATIENCE = 600
_LOCK = threading.RLock()

Constant = bool | int | float | Sequence[float]


class Compiler(NamedTuple):
    """A compiler that works.

    Attributes:
      command: it and all its flags, without files.
      identity: what it says of itself, its target and the CPU: its predefined macros.
    """

    command: tuple[str, ...]
    identity: str


def wanted(kernel: str) -> bool:
    """Whether a kernel is to be used where this process computes by default.

    Args:
      kernel: ``auto`` (if it can), ``xla`` (never) or ``fused`` (or else an error).

    Raises:
      ValueError: ``fused``, and it cannot be used; names the reason and the fix.
    """
    if kernel == "xla":
        return False
    reason = obstacle()
    if reason and kernel == "fused":
        raise ValueError(f"kernel='fused' cannot be used here: {reason}")
    if reason and jax.default_backend() == "cpu":
        logging.log_first_n(logging.WARNING, "Learned updates run by XLA, slower: %s", 1, reason)
    return not reason


def obstacle() -> str:
    """Why kernels cannot be used here, and what to do about it; empty if they can."""
    if jax.default_backend() != "cpu":
        return f"it is for CPUs, and JAX uses the backend {jax.default_backend()!r}"
    if os.name != "posix" or sys.byteorder != "little" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return "it is for little-endian machines of 64 bits with Linux or macOS"
    found = _find_compiler()
    return found if isinstance(found, str) else ""


def target(source: str, function: str, constants: Mapping[str, Constant]) -> str:
    """Compiles (or finds) a library, and makes one of its functions known to XLA.

    Args:
      source: a file of this folder.
      function: a handler of XLA's typed foreign function interface.
      constants: what the source is compiled for.

    Returns:
      The function's name among XLA's custom calls. It follows from what is computed, so that
      programs of JAX's compilation cache find it in another process.

    Raises:
      RuntimeError: it does not compile.
    """
    return _target(source, function, _written(constants))


@functools.cache
def _target(source: str, function: str, constants: str) -> str:
    name = f"lopt_rl_{function}_{_digest(constants, *_texts(source))}"
    with _LOCK:
        address = getattr(_library(source, constants), function)
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu")
    return name


@functools.cache
def _library(source: str, constants: str) -> ctypes.CDLL:
    compiler = _find_compiler()
    if isinstance(compiler, str):
        raise RuntimeError(compiler)
    key = _digest(constants, *_texts(source), *compiler)
    stem = f"{Path(source).stem}-{key}"
    text = f'{constants}#include "{source}"\n'
    with _writable_cache() as folder:
        return _load(folder, stem) or _compile(compiler, text, folder, stem)


def _load(folder: Path, stem: str) -> ctypes.CDLL | None:
    """A library of the cache; deletes what is not what was once written there."""
    for path in sorted(folder.glob(f"{stem}-*.so")):
        with contextlib.suppress(OSError):
            # Checked first, as loading half a library can end the process.
            if path == _final_path(path):
                return ctypes.CDLL(str(path))
            path.unlink()
    return None


def _final_path(path: Path) -> Path:
    """Where a file ``<kind>-<key>...`` belongs: its name ends with a digest of its bytes."""
    kind, key, *_ = path.name.split("-")
    return path.with_name(f"{kind}-{key}-{_digest(path.read_bytes())}.so")


def _compile(compiler: Compiler, text: str, folder: Path, stem: str) -> ctypes.CDLL:
    """Whatever else compiles the same at the same time, whole files take their places."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as room:
        main, made = Path(room, "main.cc"), Path(room, f"{stem}-new.so")
        main.write_text(text, encoding="utf-8")
        include = (f"-I{_FOLDER}", f"-I{jax.ffi.include_dir()}")
        done = _run((*compiler.command, *include, str(main), "-o", str(made)))
        if done.returncode or not made.exists():
            raise RuntimeError(
                f"kernel='fused' does not compile with {shlex.join(compiler.command)} "
                "(kernel='xla' needs no compiler; the environment variable CXX names another):\n"
                + done.stderr[:2000]
            )
        final = folder / _final_path(made).name
        os.replace(made, final)
    return ctypes.CDLL(str(final))


@contextlib.contextmanager
def _writable_cache() -> Iterator[Path]:
    """The cache folder, or one that lasts as long as this block where it cannot be written."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    given = os.environ.get(_CACHE_VARIABLE) or os.path.join(cache, "lopt-rl", "kernels")
    folder = Path(given).expanduser()
    try:
        # For this user alone: what lies there is run.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if writable:
        yield folder
    else:  # a library that is loaded needs its file no more
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)


def _candidates() -> list[tuple[str, ...]]:
    """Compilers to try, best first."""
    if named := os.environ.get("CXX"):
        return [tuple(shlex.split(named))]
    paths = [shutil.which(name) for name in ("c++", "g++", "clang++")]
    found: list[tuple[str, ...]] = [(path,) for path in paths if path]
    if importlib.util.find_spec("ziglang") is not None:
        # Without its C++ library, which nothing here needs and which takes minutes to make.
        found.append((sys.executable, "-m", "ziglang", "c++", "-nostdlib++"))
    return found


@functools.cache
def _find_compiler() -> Compiler | str:
    """The first that works, or what is wrong."""
    if not Path(jax.ffi.include_dir(), _INTERFACE).exists():
        return "this jaxlib comes without the header of its foreign function interface"
    for candidate in _candidates():
        for native in _NATIVE:
            asked = _run((*candidate, *native, "-dM", "-E", "-x", "c++", os.devnull))
            if asked.returncode == 0 and "__GNUC__" in asked.stdout:
                wide = (_WIDE,) if "__AVX512F__" in asked.stdout else ()
                return Compiler((*candidate, *_FLAGS, *native, *wide), asked.stdout)
    named = os.environ.get("CXX")
    return (
        (f"CXX={named!r} is no C++ compiler that works" if named else "no C++ compiler was found")
        + " (install g++ or clang++, name one by the environment variable CXX, or "
        "pip install ziglang)"
    )


def _run(command: Sequence[str]) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _texts(source: str) -> list[str]:
    """What is compiled, and all that it may include."""
    headers = [*sorted(_FOLDER.glob("*.h")), Path(jax.ffi.include_dir(), _INTERFACE)]
    return [path.read_text(encoding="utf-8") for path in (_FOLDER / source, *headers)]


def _digest(*parts: object) -> str:
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()[:20]


def _written(constants: Mapping[str, Constant]) -> str:
    """The constants as C++, floats to the last bit."""

    def literal(value: float) -> str:
        return f"{float(value).hex()}f"

    lines = []
    for name, value in constants.items():
        if isinstance(value, bool):
            lines.append(f"constexpr bool {name} = {str(value).lower()};")
        elif isinstance(value, int):
            lines.append(f"constexpr int {name} = {value};")
        elif isinstance(value, float):
            lines.append(f"constexpr float {name} = {literal(value)};")
        else:
            lines.append(f"constexpr float {name}[] = {{{', '.join(map(literal, value))}}};")
    return "".join(f"{line}\n" for line in lines)
