"""The face of ``fused_kernel`` towards JAX: whether it can be used, and how it is called.

It needs ``llvmlite`` (LLVM for Python, a dependency of this package) and a CPU. Machine
code is made when an update is first traced, in about a second per kind of optimizer.
"""

import ctypes
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from learned_opt import base, flat

if TYPE_CHECKING:
    from learned_opt.fused_kernel import Spec

KERNELS = ("auto", "xla", "fused")


class Operands(NamedTuple):
    """What an update computes with, for D parameters; all float32 unless it says otherwise.

    Attributes:
      gradient, parameter: ``[D]``.
      momenta: ``[6, D]``.
      hidden: ``[H, D]``.
      dormancy: ``[D]``, or ``[0]`` if it is no input.
      shared: ``[S]``, the inputs that are the same for all parameters.
      noise: ``[D]`` draws, or ``uint32[2]``, the words of a Threefry key to draw them
        with, or ``[0]`` if there is no noise.
    """

    gradient: jax.Array
    parameter: jax.Array
    momenta: jax.Array
    hidden: jax.Array
    dormancy: jax.Array
    shared: jax.Array
    noise: jax.Array


class Plan(NamedTuple):
    """What is known of the parameters when an update is traced. Hashable.

    Attributes:
      layout: where the T tensors lie among the D parameters.
      proportions: layer proportion of each tensor.
      noisy: whether a tensor's updates get noise.
    """

    layout: flat.Layout
    proportions: tuple[float, ...]
    noisy: tuple[bool, ...]

    def sizes(self) -> list[int]:
        return [part.stop - part.start for part in self.layout.slices()]

    def num_draws(self) -> int:
        return sum(size for size, on in zip(self.sizes(), self.noisy, strict=True) if on)


def wanted(kernel: str) -> bool:
    """Whether the fused kernel is to be used where this process computes by default.

    Args:
      kernel: ``auto`` (if it can), ``xla`` (never) or ``fused`` (or else an error).

    Raises:
      ValueError: ``fused``, and it cannot be used.
    """
    if kernel == "xla":
        return False
    reason = _obstacle()
    if reason and kernel == "fused":
        raise ValueError(f"kernel='fused' cannot be used here: {reason}")
    if reason and jax.default_backend() == "cpu":
        logging.log_first_n(logging.WARNING, "Learned updates run by XLA, slower: %s", 1, reason)
    return not reason


@functools.cache
def _obstacle() -> str:
    """Why the kernel cannot be used; empty if it can."""
    if jax.default_backend() != "cpu":
        return f"it is for CPUs, and JAX uses the backend {jax.default_backend()!r}"
    if ctypes.sizeof(ctypes.c_void_p) != 8 or sys.byteorder != "little":
        return "it is for little-endian machines of 64 bits"
    if importlib.util.find_spec("llvmlite") is None:
        return "llvmlite is not installed (pip install llvmlite)"
    return ""


def pack(spec: "Spec", theta: base.MetaParams) -> jax.Array:
    """The weights as the kernel reads them, ``[spec.weight_offsets()["end"]]``.

    Args:
      spec: of the kernel.
      theta: of a ``CoordinateNetwork`` whose inputs are in the kernel's order.

    Like ``coordinate_network.evaluate``, this halves the gates' weights, as their sigmoid
    is computed by tanh, and centres those of the layers before a layer norm.
    """
    from learned_opt.fused_kernel import TILE, padded

    gru, rows = theta["gru"], spec.rows

    def pad(x: jax.Array, unit: int = TILE) -> jax.Array:
        widths = [(0, 0)] * (x.ndim - 1) + [(0, padded(x.shape[-1], unit) - x.shape[-1])]
        return jnp.pad(x, widths)

    def tiles(kernel: jax.Array) -> jax.Array:
        whole = pad(kernel)  # of no rows, where all inputs are shared
        return whole.reshape(len(whole), whole.shape[1] // TILE, TILE).swapaxes(0, 1)

    def gates(kind: str, part: str) -> jax.Array:
        return 0.5 * jnp.concatenate([gru[kind + "r"][part], gru[kind + "z"][part]], axis=-1)

    input_gates, candidate = gates("i", "kernel"), gru["in"]["kernel"]
    recurrent_gates = 0.5 * jnp.concatenate([gru["hr"]["kernel"], gru["hz"]["kernel"]], axis=1)
    gate_bias = jnp.concatenate([gates("i", "bias")[None], input_gates[rows:]])
    candidate_bias = jnp.concatenate([gru["in"]["bias"][None], candidate[rows:]])
    parts = {
        "gates": tiles(jnp.concatenate([input_gates[:rows], recurrent_gates])),
        "candidate": tiles(candidate[:rows]),
        "recurrent": tiles(gru["hn"]["kernel"]),
        "bias": jnp.concatenate([pad(gate_bias), pad(candidate_bias)], axis=1),
        "recurrent_bias": pad(gru["hn"]["bias"]),
        "output": tiles(theta["layer2_dense"]["kernel"]),
        "output_bias": pad(theta["layer2_dense"]["bias"]),
    }
    for layer in range(2):
        dense, norm = theta[f"layer{layer}_dense"], theta[f"layer{layer}_norm"]
        centred = dense["kernel"] - jnp.mean(dense["kernel"], axis=1, keepdims=True)
        parts[f"dense{layer}"] = tiles(centred)
        parts[f"dense{layer}_bias"] = pad(dense["bias"] - jnp.mean(dense["bias"]))
        parts[f"norm{layer}"] = pad(jnp.stack([norm["scale"], norm["bias"]]))
    shapes = spec.weights()
    parts["bias"] = pad(parts["bias"], shapes["bias"][-1])
    for name, shape in shapes.items():
        if parts[name].shape != shape:
            raise ValueError(f"theta does not fit: {name} is {parts[name].shape}, not {shape}")
    return jnp.concatenate([parts[name].reshape(-1) for name in shapes])


def call(
    spec: "Spec", plan: Plan, weights: jax.Array, operands: Operands
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Runs the kernel; may be batched by ``vmap`` in any of its arrays.

    Returns:
      (updates ``[D]``, to be added; new momenta ``[6, D]``; new hidden ``[H, D]``).
    """
    from learned_opt.simd import LANES

    offsets = plan.layout.offsets
    draws = plan.num_draws() if spec.noise == "threefry" else 0
    starts = np.cumsum([0, *np.multiply(plan.sizes(), plan.noisy)])[:-1]
    if spec.noise == "given":
        starts = np.array(offsets[:-1])
    starts = np.where(plan.noisy, starts, -1) if spec.noise != "none" else -np.ones(len(starts))
    shapes = [(offsets[-1],), operands.momenta.shape, operands.hidden.shape, (draws + 2 * LANES,)]
    run = jax.ffi.ffi_call(
        _target(spec),
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        vmap_method="broadcast_all",
    )
    step, momenta, hidden, _ = run(
        weights,
        *operands[:-1],
        np.array(offsets, np.int32),
        np.array(plan.proportions, np.float32),
        starts.astype(np.int32),
        operands.noise,
    )
    return step, momenta, hidden


@functools.cache
def _target(spec: "Spec") -> str:
    """Compiles and registers the kernel; returns its name among XLA's custom calls.

    The name follows from what is computed, so that programs of JAX's compilation cache
    find it in another process.
    """
    from learned_opt import fused_driver, fused_kernel, simd

    layout: Sequence[Any] = (fused_driver.OPERANDS, fused_driver.RESULTS, spec.weights())
    identity = repr((spec, layout, simd.LANES, fused_kernel.TILE))
    name = f"lopt_rl_open_{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    address = fused_driver.compiled(spec).address(fused_driver.HANDLER)
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu")
    return name
