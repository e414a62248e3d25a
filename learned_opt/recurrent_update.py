"""The recurrent optimizers' fused update as a JAX function with a derivative of its own.

Only gradient, hidden states and theta are kept for the backward pass, which recomputes
everything else within a block of parameters. Reverse-mode derivatives only, and once:
``jax.custom_vjp`` has no forward mode, and the derivative is not differentiable again.
On other platforms than CPUs the very same function runs the definition. Machine code is
made, in about three seconds, when an update is first traced.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt import base, flat, fused_update

# The stack of a thread has room for the sums of two GRUs of this size.
MAX_HIDDEN_SIZE = 16
# Names of the functions in the machine code.
UPDATE_HANDLER, DERIVATIVE_HANDLER = "update_handler", "derivative_handler"
META_GRADIENT_HANDLER = "meta_gradient_handler"

Hidden = tuple[jax.Array, ...]
# (theta [W], gradient [D], hidden states [H, D]) -> (step [D], new hidden states).
Update = Callable[[jax.Array, jax.Array, Hidden], tuple[jax.Array, Hidden]]


@dataclasses.dataclass(frozen=True)
class Piece:
    """One array of theta: ``[rows, columns]`` floats from ``offset`` on in the flat theta."""

    offset: int
    rows: int
    columns: int


@dataclasses.dataclass(frozen=True)
class BranchSpec:
    """One GRU and its dense layer.

    Attributes:
      inputs, outputs: F and O.
      pieces: (name, place) of its arrays in the flat theta. Names are those of Flax: gates
        ``ir iz in`` (with ``_bias``), ``hr hz hn`` and ``hn_bias``, ``dense``, ``dense_bias``.
    """

    inputs: int
    outputs: int
    pieces: tuple[tuple[str, Piece], ...]

    def piece(self, name: str) -> Piece:
        return dict(self.pieces)[name]


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a kernel is compiled for; nothing in it depends on the agent's parameters.

    Attributes:
      family: a name in ``optim4rl.FAMILIES``.
      hidden: H, of each GRU.
      branches: the network.
      theta_size: W, floats of the flat theta.
      root_epsilon, log_epsilon, log_range: constants of the formulas.
    """

    family: str
    hidden: int
    branches: tuple[BranchSpec, ...]
    theta_size: int
    root_epsilon: float
    log_epsilon: float
    log_range: float


def wanted(kernel: str, hidden_size: int) -> bool:
    """Whether to use the fused update; see ``fused_update.wanted``.

    Args:
      kernel: ``auto``, ``xla`` or ``fused``.
      hidden_size: H; the kernel is for at most ``MAX_HIDDEN_SIZE``.

    Raises:
      ValueError: ``fused``, and it cannot be used here.
    """
    if kernel == "fused" and hidden_size > MAX_HIDDEN_SIZE:
        raise ValueError(
            f"kernel='fused' is for a hidden_size of at most {MAX_HIDDEN_SIZE}, got "
            f"{hidden_size}: use kernel='xla' or 'auto'"
        )
    return hidden_size <= MAX_HIDDEN_SIZE and fused_update.wanted(kernel)


def branch_specs(theta: base.MetaParams, branches: Sequence[Any]) -> tuple[BranchSpec, ...]:
    """Where a network's arrays lie in its theta, flattened by ``flat.flatten``.

    Args:
      theta: parameters of an ``optim4rl.RecurrentNetwork``.
      branches: its ``optim4rl.Branch``es.
    """
    paths, _ = jax.tree_util.tree_flatten_with_path(theta)
    pieces = {}
    for (path, leaf), part in zip(paths, flat.layout_of(theta).slices(), strict=True):
        rows = leaf.shape[0] if leaf.ndim == 2 else 1
        pieces[base.key_names(path)] = Piece(part.start, rows, leaf.shape[-1])

    def named(suffix: str) -> tuple[tuple[str, Piece], ...]:
        found = {}
        for names, piece in pieces.items():
            if names[0] in (f"rnn{suffix}", f"mlp{suffix}"):
                layer = "dense" if names[0] == f"mlp{suffix}" else names[1]
                found[layer + ("_bias" if names[-1] == "bias" else "")] = piece
        return tuple(found.items())

    return tuple(BranchSpec(b.num_inputs, b.num_outputs, named(b.suffix)) for b in branches)


def make_update(spec: Spec, definition: Update) -> Update:
    """The update that ``definition`` defines, fused on CPUs.

    Args:
      spec: what to compile.
      definition: the same computation for other platforms.
    """

    def forward(theta: jax.Array, gradient: jax.Array, hidden: Hidden) -> tuple:
        results = jax.lax.platform_dependent(
            theta, gradient, hidden, cpu=functools.partial(_call_update, spec), default=definition
        )
        return results, (theta, gradient, hidden)

    def backward(kept: tuple, cotangents: tuple[jax.Array, Hidden]) -> tuple:
        def by_definition(kept: tuple, cotangents: tuple) -> tuple:
            return jax.vjp(definition, *kept)[1](cotangents)

        return jax.lax.platform_dependent(
            kept,
            cotangents,
            cpu=functools.partial(_call_derivative, spec),
            default=by_definition,
        )

    @jax.custom_vjp
    def update(theta: jax.Array, gradient: jax.Array, hidden: Hidden) -> tuple[jax.Array, Hidden]:
        return forward(theta, gradient, hidden)[0]

    update.defvjp(forward, backward)
    return update


def _call_update(
    spec: Spec, theta: jax.Array, gradient: jax.Array, hidden: Hidden
) -> tuple[jax.Array, Hidden]:
    call = jax.ffi.ffi_call(
        _registered(spec, UPDATE_HANDLER),
        _shapes((gradient, *hidden)),
        vmap_method="broadcast_all",
        # In place: a block's old hidden values are read before its new ones are written.
        input_output_aliases={2 + i: 1 + i for i in range(len(hidden))},
    )
    step, *new = call(gradient, theta, *hidden)
    return step, tuple(new)


def _call_derivative(
    spec: Spec, kept: tuple[jax.Array, jax.Array, Hidden], cotangents: tuple[jax.Array, Hidden]
) -> tuple[jax.Array, jax.Array, Hidden]:
    theta, gradient, hidden = kept
    by_step, by_new = cotangents
    call = jax.ffi.ffi_call(
        _registered(spec, DERIVATIVE_HANDLER),
        _shapes((gradient, theta, *hidden)),
        vmap_method="broadcast_all",
    )
    by_gradient, by_theta, *by_hidden = call(gradient, theta, *hidden, by_step, *by_new)
    return by_theta, by_gradient, tuple(by_hidden)


class Totals(NamedTuple):
    """What S updates add up to.

    Attributes:
      parameters: after the last update, ``[D]``: a constant and the sum of the updates.
      squared_norms: sum of the squared norms of the updates, scalar.
    """

    parameters: jax.Array
    squared_norms: jax.Array


class _Kept(NamedTuple):
    """What the derivative of S updates is made from: ``[W]``, ``[S, D]``, ``[H, D]`` each."""

    theta: jax.Array
    gradients: jax.Array
    hidden: Hidden


def make_stretch(spec: Spec, definition: Update, factor: float) -> Callable[..., Totals]:
    """Gives the totals of S updates, which are known, their derivatives in theta.

    The gradients are constants, so all steps have the same cotangent, and a block of
    parameters can be taken through all updates and back at once: what is kept for the
    backward pass is the gradients, and the hidden states before the first update.

    Args:
      spec, definition: as for ``make_update``.
      factor: an update is this times the step.

    Returns:
      (theta ``[W]``, gradients ``[S, D]``, hidden states before the first update, totals) ->
      totals.
    """

    def forward(
        theta: jax.Array, gradients: jax.Array, hidden: Hidden, totals: Totals
    ) -> tuple[Totals, _Kept]:
        return totals, _Kept(theta, gradients, hidden)

    def backward(kept: _Kept, by_totals: Totals) -> tuple[jax.Array, None, None, None]:
        # Cotangents of the sum of the steps, and of the sum of their squared norms.
        by_steps = Totals(factor * by_totals.parameters, factor**2 * by_totals.squared_norms)
        by_theta = jax.lax.platform_dependent(
            kept,
            by_steps,
            cpu=functools.partial(_call_meta_gradient, spec),
            default=functools.partial(_meta_gradient, definition),
        )
        return by_theta, None, None, None

    @jax.custom_vjp
    def stretch(theta: jax.Array, gradients: jax.Array, hidden: Hidden, totals: Totals) -> Totals:
        return forward(theta, gradients, hidden, totals)[0]

    stretch.defvjp(forward, backward)
    return stretch


def _call_meta_gradient(spec: Spec, kept: _Kept, by_steps: Totals) -> jax.Array:
    """Calls the kernel, for a whole batch at once where all arrays have its axes in front.

    ``ffi_call``'s own ways to batch would give each member room of its own for tapes.
    """
    from learned_opt import recurrent_driver

    @jax.custom_batching.custom_vmap
    def call(kept: _Kept, by_steps: Totals) -> jax.Array:
        room = recurrent_driver.room_for(spec, kept.gradients.shape[-2])
        by_theta, _ = jax.ffi.ffi_call(
            _registered(spec, META_GRADIENT_HANDLER),
            [*_shapes((kept.theta,)), jax.ShapeDtypeStruct((room,), jnp.float32)],
        )(
            by_steps.parameters,
            2.0 * by_steps.squared_norms[..., None],  # times a step: the cotangent of that step
            kept.gradients,
            kept.theta,
            *kept.hidden,
        )
        return by_theta

    @call.def_vmap
    def batched(size: int, is_batched: list, kept: _Kept, by_steps: Totals) -> tuple:
        def broadcast(leaf: jax.Array, already: bool) -> jax.Array:
            return leaf if already else jnp.broadcast_to(leaf, (size, *leaf.shape))

        given = jax.tree.map(broadcast, (kept, by_steps), tuple(is_batched))
        return _call_meta_gradient(spec, *given), True

    return call(kept, by_steps)


def _meta_gradient(definition: Update, kept: _Kept, by_steps: Totals) -> jax.Array:
    """The same as ``_call_meta_gradient``."""

    def totals(theta: jax.Array) -> Totals:
        @jax.checkpoint
        def body(carry: tuple[Totals, Hidden], gradient: jax.Array) -> tuple:
            sums, hidden = carry
            step, hidden = definition(theta, gradient, hidden)
            norms = sums.squared_norms + jnp.sum(jnp.square(step))
            return (Totals(sums.parameters + step, norms), hidden), None

        nothing = jax.tree.map(jnp.zeros_like, by_steps)
        return jax.lax.scan(body, (nothing, kept.hidden), kept.gradients)[0][0]

    return jax.vjp(totals, kept.theta)[1](by_steps)[0]


def _shapes(arrays: tuple[jax.Array, ...]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(array.shape, jnp.float32) for array in arrays]


@functools.cache
def _registered(spec: Spec, handler: str) -> str:
    """Compiles, and makes a handler known to XLA; gives the name it has there."""
    from learned_opt import recurrent_driver

    arrays = (
        recurrent_driver.update_arrays(spec),
        recurrent_driver.derivative_arrays(spec),
        recurrent_driver.meta_gradient_arrays(spec),
        recurrent_driver.room_for(spec, 1),
    )
    # The same name in every process, as it is part of programs that are cached on disk.
    digest = hashlib.sha256(repr((spec, arrays)).encode()).hexdigest()[:16]
    name = f"lopt_rl_recurrent_{handler}_{digest}"
    address = recurrent_driver.compiled(spec).address(handler)
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu")
    return name
