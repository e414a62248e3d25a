"""What all launchers share: devices, caches, and errors a user can act on.

Flags are defined and read by calls from a launcher, never at import.
"""

import contextlib
import ctypes
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags, logging

_DEFAULT_CACHE = "~/.cache/lopt-rl/compiled"
# Options of glibc's mallopt: how many heaps; what is free at one's end before it is given back.
_M_ARENA_MAX, _M_TRIM_THRESHOLD = -8, -1


class UsageError(ValueError):
    """The command line asks for something that cannot be."""


def define_flags() -> None:
    """The flags that every launcher takes."""
    flags.DEFINE_boolean("debug", False, "Show the traceback of an error.")
    flags.DEFINE_integer(
        "cpu_devices", 0, "Split the CPU into this many devices; 0: one for each core.", 0
    )
    flags.DEFINE_string(
        "compilation_cache", _DEFAULT_CACHE, "Keep compiled programs here; empty: do not."
    )


def start() -> None:
    """Sets JAX up as the flags say. Call once, before anything touches a device."""
    import jax

    _share_one_heap()
    values = flags.FLAGS
    # XLA's own flag for simulated devices, if given, is left to decide.
    asked_otherwise = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if values.cpu_devices or not asked_otherwise:
        jax.config.update("jax_num_cpu_devices", values.cpu_devices or os.cpu_count() or 1)
    logging.set_verbosity(logging.WARNING)  # orbax and rliable tell of every step
    if values.compilation_cache:
        folder = Path(values.compilation_cache).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def _share_one_heap() -> None:
    """Has all threads allocate from one heap, where the C library is glibc.

    It would give each of XLA's compiler threads one that keeps what the largest function took:
    up to a tenth more memory at the peak. The one heap keeps what is freed, as XLA asks for the
    same arrays again in every step.
    """
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such options
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, 1 << 29)


def refuse_arguments(argv: Sequence[str]) -> None:
    """Raises on words that are no flags."""
    if len(argv) > 1:
        raise UsageError(f"unexpected arguments: {' '.join(argv[1:])}; flags begin with --")


def train(config: Any, workdir: str) -> None:
    """Trains what a config describes, evaluates it, and prints the comparison."""
    from meta.training import experiment, final_comparison, loop

    made = experiment.build(config.to_dict())
    loop.train(made, workdir)
    print(final_comparison.evaluate_and_report(made, workdir))
    print(f"everything is in {workdir}")


def evaluate(
    optimizers: Sequence[str],
    tasks: Sequence[str],
    workdir: str,
    *,
    total_timesteps: str,
    normalise_by: str,
    references: Sequence[str],
    chunk: int,
    agent_options: Sequence[str],
    env_options: Sequence[str],
    **values: Any,
) -> None:
    """Evaluates optimizers on tasks, as the flags of ``launchers/evaluate.py`` say."""
    from meta.evaluation import reporting, runner

    request = runner.Request(
        tuple(optimizers),
        tuple(tasks),
        workdir,
        total_timesteps=whole_number("total_timesteps", total_timesteps),
        seeds_per_device=chunk,
        agent_options=options("agent_option", agent_options),
        env_options=options("env_option", env_options),
        **values,
    )
    wishes = reporting.Wishes(normalise_by, tuple(references))
    print(reporting.evaluate(request, wishes))
    print(f"everything is in {workdir}")


def analyze(
    optimizers: Sequence[str],
    tasks: Sequence[str],
    workdir: str,
    *,
    what: str,
    total_timesteps: str,
    taus: Sequence[str],
    chunk: int,
    agent_options: Sequence[str],
    env_options: Sequence[str],
    **values: Any,
) -> None:
    """Analyses optimizers on tasks, as the flags of ``launchers/analyze.py`` say."""
    from meta.analysis import gradient_statistics, update_statistics
    from meta.evaluation import runner

    request = runner.Request(
        tuple(optimizers),
        tuple(tasks),
        workdir,
        total_timesteps=whole_number("total_timesteps", total_timesteps),
        seeds_per_device=chunk,
        agent_options=options("agent_option", agent_options),
        env_options=options("env_option", env_options),
        **values,
    )
    if what == "gradients":
        print(gradient_statistics.analyze(request))
    else:
        print(update_statistics.analyze(request, [number("tau", text) for text in taus]))
    print(f"everything is in {workdir}")


def tune(
    optimizer: str,
    task: str,
    workdir: str,
    *,
    space: Mapping[str, str],
    search: str,
    num_samples: int,
    criterion: str,
    total_timesteps: str,
    chunk: int,
    agent_options: Sequence[str],
    env_options: Sequence[str],
    **values: Any,
) -> None:
    """Tunes an optimizer on a task, as the flags of ``launchers/tune.py`` say."""
    from meta.evaluation import runner, tuning, tuning_space

    request = runner.Request(
        (optimizer,),
        (task,) if task else (),
        workdir,
        total_timesteps=whole_number("total_timesteps", total_timesteps),
        seeds_per_device=chunk,
        agent_options=options("agent_option", agent_options),
        env_options=options("env_option", env_options),
        **values,
    )
    allowed = {name: tuning_space.parse(name, text) for name, text in space.items()}
    print(tuning.tune(tuning.Search(request, allowed, search, num_samples, criterion)))
    print(f"everything is in {workdir}")


def export(
    optimizer: str,
    task: str,
    out: str,
    *,
    num_steps: str,
    total_timesteps: str,
    agent_options: Sequence[str],
    env_options: Sequence[str],
    **values: Any,
) -> None:
    """Exports an agent's experience, as the flags of ``launchers/export.py`` say."""
    from meta.export import dataset as exporting

    request = exporting.Request(
        optimizer,
        task,
        out,
        num_steps=whole_number("num_steps", num_steps) or 0,
        total_timesteps=whole_number("total_timesteps", total_timesteps),
        agent_options=options("agent_option", agent_options),
        env_options=options("env_option", env_options),
        **values,
    )
    print(exporting.export(request))


def number(flag: str, text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--{flag} must be numbers, got {text!r}") from error


def whole_number(flag: str, text: str) -> int | None:
    """A whole number above 0, ``2e5`` included; None for an empty text."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (value >= 1 and value.is_integer()):
        raise UsageError(f"--{flag} must be a whole number above 0, e.g. 2e5, got {text!r}")
    return int(value)


def options(flag: str, texts: Sequence[str]) -> dict[str, Any]:
    """``['num_envs=16', 'activation=tanh']`` as a dict; values are JSON or else text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--{flag} must be NAME=VALUE, got {text!r}")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def compare(config: Any, workdir: str) -> None:
    """Trains the variants of a study, evaluates them, and prints the page on it."""
    from meta.training import study, study_report

    made = study.build(config.to_dict())
    study.run(made, workdir)
    print(study_report.write(made, workdir))
    print(f"everything is in {workdir}")


def benchmark_meta_gradient(case: str, repeats: int) -> None:
    """Measures meta-gradient training and prints tables of speed and memory."""
    from meta.benchmarks import meta_gradient as measure

    print(measure.report(case, repeats))


def benchmark_updates(repeats: int) -> None:
    """Measures single updates and prints a table."""
    from meta.benchmarks import updates as measure

    print(measure.report(repeats))


def benchmark(repeats: int, iterations: int, members: int, timesteps: int) -> None:
    """Measures speed and prints a table."""
    from meta.benchmarks import inner_loops as measure

    print(measure.report(repeats, iterations, members, timesteps))


def run(app_run: Callable[..., None], main: Callable[[list[str]], None]) -> None:
    """Runs a launcher's main; errors a user can act on end it with code 2, not a traceback."""
    from meta.runs.progress import Stopped

    began = False

    def guarded(argv: list[str]) -> None:
        nonlocal began
        began = True
        try:
            main(argv)
        except Stopped as stopped:
            sys.exit(128 + stopped.signal_number)
        except (ValueError, OSError) as error:
            _fail(error)

    try:
        app_run(guarded, flags_parser=_parse_flags)
    # Reading the config and its overrides raises whatever the config's own code raises.
    except Exception as error:
        if began:
            raise
        _fail(error)


def _parse_flags(argv: list[str]) -> list[str]:
    """As absl does, but with this module's errors in place of its own exit code."""
    try:
        return list(flags.FLAGS(argv))
    except flags.Error as error:
        raise UsageError(f"{error}; --help lists the flags") from error


def _fail(error: Exception) -> None:
    """Ends the program with the error's message, and its traceback if ``--debug`` is given."""
    if "--debug" in sys.argv:
        traceback.print_exception(error)
        sys.exit(2)
    text = str(error)
    if text[:1] in ("'", '"') and text[:1] == text[-1:]:  # a KeyError shows its message quoted
        text = text[1:-1]
    text = text.replace("\\n", "\n").replace("\\'", "'")
    print(f"error: {text} (--debug shows where)", file=sys.stderr)
    sys.exit(2)
