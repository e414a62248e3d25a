"""Plugins: installed packages that bring optimizers, environments and other names of their own.

A package announces one by an entry point of the group ``lopt_rl.plugins``::

    [project.entry-points."lopt_rl.plugins"]
    mine = "my_package.lopt_rl"

It names a module, which is imported for what it registers, or a function of one
(``my_package.lopt_rl:register``), which is called without arguments.
"""

import functools
from importlib import metadata

GROUP = "lopt_rl.plugins"


@functools.cache
def load() -> tuple[str, ...]:
    """Loads all installed plugins, once in a process.

    Launchers call it before they read a config, and the functions of ``meta`` when they are
    first called.

    Returns:
      Their names, in alphabetical order.

    Raises:
      ValueError: one fails; names it and its package.
    """
    found = sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    for point in found:
        package = point.dist.name if point.dist is not None else "an unknown package"
        try:
            loaded = point.load()
            if point.attr:
                loaded()
        except Exception as error:  # whatever a user's code raises
            raise ValueError(
                f"the plugin {point.name!r} ({point.value}) of {package} fails: "
                f"{type(error).__name__}: {error}; mend it, or uninstall {package}"
            ) from error
    return tuple(point.name for point in found)
