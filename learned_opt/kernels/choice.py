"""Whether an optimizer runs compiled kernels in this process."""

import functools

import jax
from absl import logging

from learned_opt.kernels import build

KERNELS = ("auto", "xla", "fused")


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


@functools.cache
def obstacle() -> str:
    """Why kernels cannot be used here; empty if they can."""
    if jax.default_backend() != "cpu":
        return f"it is for CPUs, and JAX uses the backend {jax.default_backend()!r}"
    return build.obstacle()
