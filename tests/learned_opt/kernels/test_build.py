"""How kernels are compiled, kept and chosen; what they compute is tested with the optimizers."""

import os
import shutil
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt import base, kernels, standalone
from learned_opt.families.open_optimizer import OpenConfig
from learned_opt.kernels import build
from tests.learned_opt.test_optimizer_contract import context, example_params

HANDLER = """
#include "xla.h"
extern "C" XLA_FFI_Error* tiny(XLA_FFI_CallFrame* frame) {
  if (xla::asked_for_version(frame)) return nullptr;
  const xla::Call call(frame, 0);
  for (int64_t m = 0; m < call.members(); m++)
    for (int64_t i = 0; i < call.operand_size(0); i++)
      call.result<float>(0, m)[i] = call.operand<float>(0, m)[i] + ADDED;
  return nullptr;
}
"""


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A process that has compiled nothing, a kernel that compiles quickly, an empty cache."""
    sources = tmp_path / "sources"
    sources.mkdir()
    shutil.copy(build._FOLDER / "xla.h", sources)
    (sources / "tiny.cc").write_text(HANDLER)
    monkeypatch.setattr(build, "_FOLDER", sources)
    monkeypatch.setenv("LOPT_RL_KERNEL_CACHE", str(tmp_path / "cache"))
    caches = (build._target, build._library, build._find_compiler)
    for cache in caches:
        cache.cache_clear()
    yield tmp_path / "cache"
    for cache in caches:
        cache.cache_clear()


def library(added=1.0):
    return build._library("tiny.cc", build._written({"ADDED": added}))


def files(folder):
    return sorted(path for path in folder.iterdir() if path.is_file())


def test_a_library_is_compiled_once_and_then_read(fresh, monkeypatch):
    library()
    (made,) = files(fresh)
    build._library.cache_clear()
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("compiled again"))
    assert library().tiny
    assert files(fresh) == [made] and list(fresh.iterdir()) == [made]  # and no temporary files


@pytest.mark.parametrize("damage", ["cut short", "another machine's"])
def test_a_file_that_is_no_library_is_replaced(fresh, damage):
    library()
    (made,) = files(fresh)
    # The file is mapped into this process: it is replaced, not written to.
    data = made.read_bytes()
    made.unlink()
    if damage == "cut short":
        made.write_bytes(data[: len(data) // 2])
    else:  # whole, and of the right name, but not to be loaded
        made = fresh / f"{made.stem.rpartition('-')[0]}-{build._digest(b'MZ')}.so"
        made.write_bytes(b"MZ")
    build._library.cache_clear()
    assert library().tiny
    assert any(path.read_bytes() == data for path in files(fresh))


def test_other_constants_and_other_compilers_make_other_files(fresh, monkeypatch):
    library()
    library(added=2.0)
    found = build._find_compiler()
    monkeypatch.setattr(build, "_find_compiler", lambda: found._replace(identity="of another CPU"))
    build._library.cache_clear()
    library()
    assert len(files(fresh)) == 3


def test_a_cache_that_cannot_be_written(fresh, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LOPT_RL_KERNEL_CACHE", str(tmp_path / "file" / "cache"))
    assert library().tiny
    assert not fresh.exists()


def test_threads_and_processes_may_compile_at_once(fresh, run_python):
    text = f"""
import pathlib
from learned_opt.kernels import build
build._FOLDER = pathlib.Path({str(build._FOLDER)!r})
print(build.target("tiny.cc", "tiny", {{"ADDED": 1.0}}))
"""
    names = []
    here = lambda: names.append(build.target("tiny.cc", "tiny", {"ADDED": 1.0}))  # noqa: E731
    elsewhere = lambda: names.append(run_python(text).strip())  # noqa: E731
    threads = [threading.Thread(target=work) for work in (elsewhere, elsewhere, here, here)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 4 and len(set(names)) == 1
    assert all(path.suffix == ".so" for path in fresh.iterdir())
    x = jnp.arange(6.0).reshape(2, 3)
    call = jax.ffi.ffi_call(names[0], jax.ShapeDtypeStruct((2, 3), jnp.float32))
    np.testing.assert_array_equal(jax.jit(call)(x), x + 1)


def update(**options):
    optimizer = learned_opt.make("open", **options)
    params = example_params()
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    return tx.update(params, tx.init(params), params, **context(params))


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler_auto_says_so_once_and_fused_raises(monkeypatch):
    monkeypatch.setattr(build, "_candidates", list)
    with pytest.raises(ValueError, match=r"no C\+\+ compiler was found \(install g\+\+"):
        update(kernel="fused")
    update(kernel="auto")
    update(kernel="xla")
    with pytest.raises(ValueError, match="auto"):
        OpenConfig(kernel="fast")


@pytest.mark.usefixtures("fresh")
def test_the_compiler_that_cxx_names(monkeypatch):
    monkeypatch.setenv("CXX", f"{sys.executable} -c 1")
    with pytest.raises(ValueError, match=r"CXX=.* is no C\+\+ compiler that works"):
        update(kernel="fused")
    build._find_compiler.cache_clear()
    monkeypatch.setenv("CXX", "c++ -DUNUSED")
    assert build._find_compiler().command[:2] == ("c++", "-DUNUSED")
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", os.devnull)
    build._find_compiler.cache_clear()
    named = build._candidates()
    assert all(command[1:3] == ("-m", "ziglang") for command in named)


@pytest.mark.usefixtures("fresh")
def test_what_the_compiler_says_is_passed_on():
    with pytest.raises(RuntimeError, match="ADDED"):
        build.target("tiny.cc", "tiny", {})


def spec(hidden=1):
    return kernels.RecurrentSpec("l2lgd2", 1, hidden, 2, 1, 1e-8, 1e-8, 10.0)


def test_floats_reach_the_compiler_to_the_last_bit():
    text = build._written({"A": 0.1, "B": (1.0, -2.5), "C": True, "D": 3})
    assert f"float A = {(0.1).hex()}f;" in text
    assert "float B[] = {0x1.0000000000000p+0f, -0x1.4000000000000p+1f};" in text
    assert "bool C = true;" in text and "int D = 3;" in text


def test_theta_must_lie_as_the_kernel_reads_it():
    optimizer = learned_opt.make("l2lgd2", hidden_size=1)
    theta = optimizer.init(jax.random.key(0))
    spec().check(theta)
    with pytest.raises(ValueError, match="theta does not fit"):
        spec(hidden=2).check(theta)


def test_a_stretch_belongs_to_the_optimizer_itself():
    optimizer = learned_opt.make("l2lgd2", hidden_size=1, kernel="fused")
    assert kernels.stretch_of(optimizer) is not None
    assert kernels.stretch_of(learned_opt.make("l2lgd2", hidden_size=1, kernel="xla")) is None
    assert kernels.stretch_of(learned_opt.make("adam")) is None
    assert kernels.stretch_of(standalone.with_neutral_dormancy(optimizer)) is None
    assert base.LearnedOptimizer._fields == ("init", "transform")
