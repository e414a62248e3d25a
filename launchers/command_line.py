"""What all launchers share: devices, caches, users' modules, and errors a user can act on.

Flags are defined and read by calls from a launcher, never at import.
"""

import contextlib
import ctypes
import importlib
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging

_DEFAULT_CACHE = "~/.cache/lopt-rl/compiled"
_SCREEN = (160, 40)  # columns and lines, where there is no terminal
# Options of glibc's mallopt: how many heaps; what is free at one's end before it is given back.
_M_ARENA_MAX, _M_TRIM_THRESHOLD = -8, -1


def run(main: Callable[[list[str]], None], *required: str, words: bool = False) -> None:
    """Runs a launcher's main; errors a user can act on end it with code 2, not a traceback.

    Args:
      main: called with the command line's words that are no flags.
      *required: names of flags that must be given.
      words: whether there may be such words.
    """
    from meta.runs.progress import Stopped

    _define_flags(flags.FLAGS)
    flags.mark_flags_as_required(list(required))
    began = False

    def guarded(argv: list[str]) -> None:
        nonlocal began
        began = True
        try:
            if len(argv) > 1 and not words:
                raise ValueError(f"unexpected arguments: {' '.join(argv[1:])}; flags begin with --")
            main(argv[1:])
        except Stopped as stopped:
            sys.exit(128 + stopped.signal_number)
        except (ValueError, OSError) as error:
            _fail(error)

    try:
        app.run(guarded, flags_parser=_parse_flags)
    # Reading a user's module, or a config and its overrides, raises whatever their code raises.
    except Exception as error:
        if began:
            raise
        _fail(error)


def show(workdir: str | None, page: str = "summary.md") -> None:
    """Prints a screenful of the page that a run left in its folder, and where the rest is."""
    from meta.results import markdown

    assert workdir is not None  # a required flag
    path = Path(workdir) / page
    text = path.read_text(encoding="utf-8")
    # A screen's lines, or a few more where nobody sees one; some for what follows.
    columns, lines = shutil.get_terminal_size(_SCREEN)
    shown = markdown.excerpt(text, max(lines - 4, 10), columns)
    print(shown)
    whole = f"; all of this page is {path}" if shown.rstrip() != text.rstrip() else ""
    print(f"everything is in {workdir}{whole}")


def _define_flags(values: flags.FlagValues) -> None:
    """The flags that every launcher takes."""
    flags.DEFINE_boolean("debug", False, "Show the traceback of an error.", values)
    flags.DEFINE_integer(
        "cpu_devices",
        0,
        "Split the CPU into this many devices; 0: one for each core.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_string(
        "compilation_cache", _DEFAULT_CACHE, "Keep compiled programs here; empty: do not.", values
    )
    flags.DEFINE_multi_string(
        "import",
        [],
        "Repeatable: a module of your own, a dotted name or a .py file, imported before anything "
        "else is read: what it registers is known everywhere.",
        flag_values=values,
    )


def _parse_flags(argv: list[str]) -> list[str]:
    """As absl does, but plugins and users' modules come first, and errors are this module's.

    All of them, and the file of ``--config``, are read when JAX is set up: what they compute
    when they are imported would keep the devices from being chosen.
    """
    from meta import plugins

    first = flags.FlagValues()
    first.set_gnu_getopt(True)
    _define_flags(first)
    from launchers import values

    try:
        first(argv, known_only=True)
        _start(first)
        plugins.load()
        for name in first["import"].value or ():
            import_module(name)
        return list(flags.FLAGS(argv))
    except flags.Error as error:
        values.explain(argv)
        raise ValueError(f"{error}; --help lists the flags") from error
    except (AttributeError, KeyError, TypeError):  # ml_collections', of an override
        values.explain(argv)
        raise
    except SystemExit as stop:
        # absl's --help ends with 1, as if something had gone wrong.
        sys.exit(0 if stop.code == 1 else stop.code)


def import_module(name: str) -> None:
    """Imports a user's module by its dotted name, or by the path of its file.

    A file is imported under its own name, and its folder joins Python's path, so that it may
    import its neighbours.

    Raises:
      ValueError: there is no such module, its code fails, or its name is another module's.
    """
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise ValueError(f"--import={name}: there is no such file")
        sys.path.append(str(path.resolve().parent))
    try:
        module = importlib.import_module(path.stem if path.suffix == ".py" else name)
    except Exception as error:  # whatever a user's code raises
        raise ValueError(f"--import={name}: {type(error).__name__}: {error}") from error
    source = getattr(module, "__file__", None)
    if path.suffix == ".py" and (source is None or not path.samefile(source)):
        raise ValueError(
            f"--import={name}: Python knows another module {path.stem!r} ({source}): rename the "
            "file"
        )


def _start(values: flags.FlagValues) -> None:
    """Sets JAX up as the flags say, before anything touches a device."""
    import jax

    _share_one_heap()
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
