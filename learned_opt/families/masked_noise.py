"""Noise for the updates of some of the networks: OPEN's exploration is the actor's alone."""

from typing import Any

import jax
import jax.numpy as jnp

from learned_opt import base, flat, random_normal
from learned_opt.kernels import Plan

# Names of networks that may stand alone without any noise.
_NEVER_NOISY = {"critic", "plain"}


def noisy_tensors(noise_on: tuple[str, ...], params: base.Params) -> tuple[bool, ...]:
    """For each tensor, whether it is of a network in ``noise_on``.

    Raises:
      ValueError: none is, and ``params`` is not a critic or a ``plain`` network alone.
    """
    networks = [names[:1] for names in base.leaf_names(params)]
    noisy = tuple(bool(network) and network[0] in noise_on for network in networks)
    found = sorted({network[0] for network in networks if network})
    if not any(noisy) and not set(found) <= _NEVER_NOISY:
        raise ValueError(
            f"noise goes to the networks {noise_on}, but params has the top-level "
            f"entries {found}: put the actor's parameters under params[{noise_on[0]!r}], "
            "or name the right ones with noise_on=(...); outside this toolkit say "
            "as_optax(actor_key=...), or role='actor' and role='critic' where each network "
            "has an optimizer of its own, or role='plain' for a network that is neither; where "
            "one module holds both, optax.multi_transform gives each part an optimizer with its "
            "role: docs/drop_in.md has the lines"
        )
    return noisy


def operand(plan: Plan, context: dict[str, Any]) -> jax.Array:
    """The draws ``[D]``, or the words of the key to draw them with."""
    if context.get("noise") is not None:
        return flat.flatten(context["noise"], plan.layout)
    key = context["key"]
    if str(jax.random.key_impl(key)) == "threefry2x32":
        return jax.random.key_data(key)
    return _laid_out(plan, random_normal.standard_normal(key, plan.num_draws()))


def draws(plan: Plan, noise: jax.Array) -> jax.Array:
    """N(0, 1) draws ``[D]`` for the networks in ``noise_on``, 0 for the others."""
    if noise.dtype == jnp.uint32:
        key = jax.random.wrap_key_data(noise, impl="threefry2x32")
        return _laid_out(plan, random_normal.standard_normal(key, plan.num_draws()))
    parts = zip(plan.layout.slices(), plan.noisy, strict=True)
    nothing = jnp.zeros((0,), jnp.float32)  # where no tensor is noisy
    return _laid_out(plan, jnp.concatenate([nothing, *(noise[part] for part, on in parts if on)]))


def _laid_out(plan: Plan, values: jax.Array) -> jax.Array:
    """Draws for the noisy tensors, one after the other, to ``[D]``."""
    pieces, used = [], 0
    for size, on in zip(plan.sizes(), plan.noisy, strict=True):
        pieces.append(values[used : used + size] if on else jnp.zeros((size,), jnp.float32))
        used += size if on else 0
    return jnp.concatenate(pieces)
