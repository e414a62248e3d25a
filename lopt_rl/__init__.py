"""The toolkit under one name, in a checkout and installed: ``from lopt_rl import meta``.

A wheel holds everything but ``learned_opt`` in this package, so that it collides with nothing
(``setup.py``). In a checkout the folders lie beside this one and have names of their own
(``import meta``); what is below this package are then second names of the same modules.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence
from pathlib import Path

__all__ = ["EXAMPLES"]

_HERE = Path(__file__).resolve().parent
_IS_CHECKOUT = not (_HERE / "meta").is_dir()
_ROOT = _HERE.parent if _IS_CHECKOUT else _HERE
_FOLDERS = ("agents", "configs", "launchers", "meta")

EXAMPLES = _ROOT / "examples"
"""The folder of the examples and of the optimizer that they use, ``cartpole_open.npz``."""


class _SecondNames(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``meta.runs`` as ``lopt_rl.meta.runs``: the same module, not a copy of it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != __name__ or name.partition(".")[0] not in _FOLDERS:
            return None
        found = importlib.util.find_spec(name)
        if found is None:
            return None
        if found.origin is None or not Path(found.origin).resolve().is_relative_to(_ROOT):
            raise ImportError(
                f"{name} is another project's here ({found.origin}), which hides that of the "
                f"checkout in {_ROOT}; a wheel of it collides with nothing: pip install {_ROOT}"
            )
        return importlib.machinery.ModuleSpec(fullname, self, origin=found.origin)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """A module to be thrown away, so that the other one keeps its own ``__spec__``."""

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        # What an import returns is what stands here once the loader is done.
        sys.modules[name] = importlib.import_module(name.partition(".")[2])


if _IS_CHECKOUT:
    # Before Python's own finder, which would load the files below meta/ a second time.
    sys.meta_path.insert(0, _SecondNames())
