"""Files that are replaced whole."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path that takes the place of ``path`` when the block ends well.

    The folder is made if it is missing. If the block raises, ``path`` stays as it was and
    nothing is left beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # else a power cut may keep the new name but not the bytes
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
