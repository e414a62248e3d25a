"""Checkpoints: one pytree, written by orbax in one step, read back bit for bit."""

import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np


class Checkpoints:
    """The last two checkpoints of a run.

    Each is complete or absent: orbax writes to a temporary folder and renames it.

    Args:
      folder: where they lie; made if missing.
    """

    def __init__(self, folder: Path):
        import orbax.checkpoint as ocp  # imported here, as it takes seconds

        self._ocp = ocp
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, create=True, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self._folder = folder

    def save(self, step: int, tree: Any) -> None:
        """Writes a checkpoint; returns when it is on disk."""
        if step in self._manager.all_steps():  # one that could not be read
            self._manager.delete(step)
        self._manager.save(step, args=self._ocp.args.StandardSave(_storable(tree)), force=True)
        self._manager.wait_until_finished()

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The latest readable checkpoint, or None where there is none.

        A damaged checkpoint is passed over with a warning and the one before it is taken.

        Args:
          like: a tree of the same structure, shapes, dtypes and key implementations.

        Raises:
          RuntimeError: there are checkpoints, but none can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        abstract = jax.tree.map(np.empty_like, _storable(like))
        for step in steps:
            try:
                restored = self._manager.restore(
                    step, args=self._ocp.args.StandardRestore(abstract)
                )
            # Orbax raises whatever its storage drivers raise on damaged files.
            except Exception as error:  # noqa: BLE001
                warnings.warn(
                    f"checkpoint {step} in {self._folder} cannot be read, passed over: {error}",
                    stacklevel=2,
                )
                continue
            return step, _as_it_was(restored, like)
        if steps:
            raise RuntimeError(
                f"none of the checkpoints {steps} in {self._folder} can be read; start again in "
                "another --workdir"
            )
        return None

    def close(self) -> None:
        self._manager.close()


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _storable(tree: Any) -> Any:
    """Typed keys as their plain data; a zero for an array of no elements, which orbax refuses."""

    def storable(leaf: Any) -> np.ndarray:
        array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        return array if array.size else np.zeros((), array.dtype)

    return jax.tree.map(storable, tree)


def _as_it_was(tree: Any, like: Any) -> Any:
    def restore(leaf: Any, example: Any) -> jax.Array:
        if _is_key(example):
            return jax.random.wrap_key_data(
                jax.numpy.asarray(leaf), impl=jax.random.key_impl(example)
            )
        if not np.size(example):
            return jax.numpy.asarray(example)
        return jax.numpy.asarray(leaf)

    return jax.tree.map(restore, tree, like)
