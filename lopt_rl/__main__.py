"""The command ``lopt-rl``: ``lopt-rl train --config=demo --workdir=runs/demo``.

Each launcher is a command. ``python launchers/train.py`` is the same in a checkout.
"""

import ast
import difflib
import importlib.util
import sys
from importlib import metadata
from pathlib import Path


def commands() -> dict[str, Path]:
    """Names of commands -> the launchers' files; those are launchers that have a ``main``."""
    (folder,) = importlib.import_module("lopt_rl.launchers").__path__
    return {
        path.stem: path
        for path in sorted(Path(folder).glob("*.py"))
        if any(getattr(node, "name", "") == "main" for node in _parsed(path).body)
    }


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def usage() -> str:
    """What ``lopt-rl --help`` prints."""
    lines = ["usage: lopt-rl COMMAND ..., and lopt-rl COMMAND --help for its flags", ""]
    for name, path in commands().items():
        first = (ast.get_docstring(_parsed(path)) or "").partition("\n")[0]
        lines.append(f"  {name:<10} {first}")
    return "\n".join(lines)


def run(launcher: Path) -> None:
    """Runs a launcher's file as Python runs a program, but for ``sys.argv``, which stays.

    As ``__main__``, for then its flags are those that ``--help`` shows.
    """
    spec = importlib.util.spec_from_file_location("__main__", launcher)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules["__main__"] = module
    spec.loader.exec_module(module)


def main() -> None:
    """Runs the launcher that the first word names, with the other words."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    known = commands()
    if name in ("--help", "-h", "help"):
        print(usage())
    elif name == "--version":
        print(f"lopt-rl {metadata.version('lopt-rl')}")
    elif name in known:
        sys.argv[:2] = [f"lopt-rl {name}"]
        run(known[name])
    else:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        print(f"error: there is no command {name!r}{hint}\n\n{usage()}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
