"""The recurrent optimizers' update, ``recurrent.cc``, as a function with its own derivative.

Only gradient, hidden states and theta are kept for the backward pass, which recomputes
everything else within a block of parameters. Reverse-mode derivatives only, and once:
``jax.custom_vjp`` has no forward mode, and the derivative is not differentiable again.
On other platforms than CPUs the very same function runs the definition. The file is compiled
when an update is first traced.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_opt import base
from learned_opt.kernels import build, call

# The stack of a thread has room for the sums of two GRUs of this size.
MAX_HIDDEN_SIZE = 16
# In the order of the enumeration in recurrent.cc.
_FAMILIES = ("optim4rl", "linear", "l2lgd2")
# Parameters that the derivative takes through an update at a time.
_SPAN = 64

Hidden = tuple[jax.Array, ...]
# (theta [W], gradient [D], hidden states [H, D]) -> (step [D], new hidden states).
Update = Callable[[jax.Array, jax.Array, Hidden], tuple[jax.Array, Hidden]]


@dataclasses.dataclass(frozen=True)
class RecurrentSpec:
    """What a kernel is compiled for; nothing in it depends on the agent's parameters.

    Attributes:
      family: ``optim4rl``, ``linear`` or ``l2lgd2``.
      branches: how many GRUs there are, each with a dense layer.
      hidden: H, of each GRU.
      inputs, outputs: F and O, of each branch.
      root_epsilon, log_epsilon, log_range: constants of the formulas.
    """

    family: str
    branches: int
    hidden: int
    inputs: int
    outputs: int
    root_epsilon: float
    log_epsilon: float
    log_range: float

    @property
    def tape_floats(self) -> int:
        """What one update of ``_SPAN`` parameters leaves for its derivative."""
        return self.branches * (5 * self.hidden + self.inputs + self.outputs) * _SPAN

    def constants(self) -> dict[str, build.Constant]:
        """What ``recurrent.cc`` wants to know."""
        return {
            **{name.upper(): value for name, value in dataclasses.asdict(self).items()},
            "FAMILY": _FAMILIES.index(self.family),
            "EXP_LOG_RANGE": math.exp(self.log_range),
            "SPAN": _SPAN,
            "TAPE_FLOATS": self.tape_floats,
        }

    def check(self, theta: base.MetaParams) -> None:
        """Raises a ``ValueError`` unless theta, flattened, is what ``Theta`` in C++ is."""
        hidden, inputs, outputs = self.hidden, self.inputs, self.outputs
        dense: list[tuple] = [("layers_0", "bias", (outputs,))]
        dense += [("layers_0", "kernel", (hidden, outputs))]
        gru: list[tuple] = [("hn", "bias", (hidden,))]
        gru += [(name, "kernel", (hidden, hidden)) for name in ("hn", "hr", "hz")]
        for name in ("in", "ir", "iz"):
            gru += [(name, "bias", (hidden,)), (name, "kernel", (inputs, hidden))]
        expected = dense * self.branches + gru * self.branches
        leaves, _ = jax.tree_util.tree_flatten_with_path(theta)
        found = [(*base.key_names(path)[1:], leaf.shape) for path, leaf in leaves]
        if found != expected:
            raise ValueError(f"theta does not fit: it has {found}, not {expected}")


def recurrent_wanted(kernel: str, hidden_size: int) -> bool:
    """Whether to use the fused update; see ``build.wanted``.

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
    return hidden_size <= MAX_HIDDEN_SIZE and build.wanted(kernel)


def make_update(spec: RecurrentSpec, definition: Update) -> Update:
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
    return lambda *operands: update(*call.vary_alike(operands))


def _call_update(
    spec: RecurrentSpec, theta: jax.Array, gradient: jax.Array, hidden: Hidden
) -> tuple[jax.Array, Hidden]:
    step, *new = call.call(
        _target(spec, "recurrent_update"),
        _shapes((gradient, *hidden)),
        (gradient, theta, *hidden),
        vmap_method="broadcast_all",
        # In place: a block's old hidden values are read before its new ones are written.
        input_output_aliases={2 + i: 1 + i for i in range(len(hidden))},
    )
    return step, tuple(new)


def _call_derivative(
    spec: RecurrentSpec,
    kept: tuple[jax.Array, jax.Array, Hidden],
    cotangents: tuple[jax.Array, Hidden],
) -> tuple[jax.Array, jax.Array, Hidden]:
    theta, gradient, hidden = kept
    by_step, by_new = cotangents
    by_gradient, by_theta, *by_hidden = call.call(
        _target(spec, "recurrent_derivative"),
        _shapes((gradient, theta, *hidden)),
        (gradient, theta, *hidden, by_step, *by_new),
        vmap_method="broadcast_all",
    )
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


def make_stretch(spec: RecurrentSpec, definition: Update, factor: float) -> Callable[..., Totals]:
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

    @jax.custom_vjp
    def stretch(theta: jax.Array, gradients: jax.Array, hidden: Hidden, totals: Totals) -> Totals:
        return totals

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

    stretch.defvjp(forward, backward)
    return lambda *operands: stretch(*call.vary_alike(operands))


def room_for(spec: RecurrentSpec, updates: int) -> int:
    """Floats of room for S updates: their tapes, the one before them, S rows of gradients."""
    return (updates + 1) * spec.tape_floats + updates * _SPAN


def _call_meta_gradient(spec: RecurrentSpec, kept: _Kept, by_steps: Totals) -> jax.Array:
    """Calls the kernel, for a whole batch at once where all arrays have its axes in front.

    ``ffi_call``'s own ways to batch would give each member room of its own for tapes.
    """

    @jax.custom_batching.custom_vmap
    def run(kept: _Kept, by_steps: Totals) -> jax.Array:
        room = room_for(spec, kept.gradients.shape[-2])
        # Times a step, the cotangent of that step.
        by_norms = 2.0 * by_steps.squared_norms[..., None]
        by_theta, _ = call.call(
            _target(spec, "recurrent_stretch"),
            [*_shapes((kept.theta,)), jax.ShapeDtypeStruct((room,), jnp.float32)],
            (by_steps.parameters, by_norms, kept.gradients, kept.theta, *kept.hidden),
        )
        return by_theta

    @run.def_vmap
    def batched(size: int, is_batched: list, kept: _Kept, by_steps: Totals) -> tuple:
        def broadcast(leaf: jax.Array, already: bool) -> jax.Array:
            return leaf if already else jnp.broadcast_to(leaf, (size, *leaf.shape))

        given = jax.tree.map(broadcast, (kept, by_steps), tuple(is_batched))
        return _call_meta_gradient(spec, *given), True

    return run(kept, by_steps)


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


def _target(spec: RecurrentSpec, function: str) -> str:
    return build.target("recurrent.cc", function, spec.constants())
