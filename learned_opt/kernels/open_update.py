"""OPEN's update, ``open.cc``, as a function of JAX arrays."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt import base, flat, random_normal
from learned_opt.kernels import build, call

_NOISES = ("none", "given", "threefry")
# Floats that the draws may be written beyond their number: two of the widest vectors.
_SLACK = 32


@dataclasses.dataclass(frozen=True)
class OpenSpec:
    """What a kernel is compiled for; nothing in it depends on the agent's parameters.

    Attributes:
      hidden, width, outputs: sizes of the network (H, W, O).
      decays: of the momenta.
      use_parameter, use_momentum, use_gradient, use_dormancy, use_layer: inputs.
      shared: how many inputs are the same for all parameters.
      noise: ``none``, ``given`` (as an operand) or ``threefry`` (drawn here from a key).
      multipliers: of direction, magnitude and noise.
      zero_mean: subtract the mean step.
      log_epsilon, moment_epsilon, norm_epsilon: what keeps the logarithm, the scales and the
        layer norm finite at 0.
    """

    hidden: int
    width: int
    outputs: int
    decays: tuple[float, ...]
    use_parameter: bool
    use_momentum: bool
    use_gradient: bool
    use_dormancy: bool
    use_layer: bool
    shared: int
    noise: str
    multipliers: tuple[float, float, float]
    zero_mean: bool
    log_epsilon: float
    moment_epsilon: float
    norm_epsilon: float

    @property
    def rows(self) -> int:
        """R: inputs that differ between the parameters of a tensor."""
        signals = len(self.decays) * self.use_momentum + self.use_gradient
        return self.use_parameter + 2 * signals + self.use_dormancy

    def shapes(self) -> list[tuple[int, ...]]:
        """Of the parts of the packed weights: the members of ``Weights`` in ``open.cc``."""
        hidden, width = self.hidden, self.width
        common = self.use_layer + self.shared
        gru: list[tuple[int, ...]] = [
            (self.rows + hidden, 2 * hidden),
            (self.rows, hidden),
            (hidden, hidden),
        ]
        gru += [(1 + common, 3 * hidden), (hidden,)]
        layers = [(hidden, width), *[(width,)] * 3, (width, width), *[(width,)] * 3]
        return [*gru, *layers, (width, self.outputs), (self.outputs,)]

    def constants(self) -> dict[str, build.Constant]:
        """What ``open.cc`` wants to know."""
        fields = dataclasses.asdict(self)
        direction, magnitude, noise = fields.pop("multipliers")
        return {
            **{name.upper(): value for name, value in fields.items()},
            "NOISE": _NOISES.index(self.noise),
            "DIRECTION_MULTIPLIER": float(direction),
            "MAGNITUDE_MULTIPLIER": float(magnitude),
            "NOISE_MULTIPLIER": float(noise),
            "ERFINV_CENTRE": random_normal.CENTRE[::-1],
            "ERFINV_TAIL": random_normal.TAIL[::-1],
            "SLACK": _SLACK,
        }


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


def pack_open(spec: OpenSpec, theta: base.MetaParams) -> jax.Array:
    """The weights as the kernel reads them, ``[sum of the sizes of spec.shapes()]``.

    Args:
      spec: of the kernel.
      theta: of a ``CoordinateNetwork`` whose inputs are in the kernel's order.

    Like ``coordinate_network.evaluate``, this halves the gates' weights, as their sigmoid
    is computed by tanh, and centres those of the layers before a layer norm.

    Raises:
      ValueError: theta is not of the spec's sizes.
    """
    gru, rows = theta["gru"], spec.rows

    def gates(kind: str, part: str) -> jax.Array:
        return 0.5 * jnp.concatenate([gru[kind + "r"][part], gru[kind + "z"][part]], axis=-1)

    from_inputs, candidate = gates("i", "kernel"), gru["in"]["kernel"]
    bias = jnp.concatenate([gates("i", "bias"), gru["in"]["bias"]])
    by_common = jnp.concatenate([from_inputs[rows:], candidate[rows:]], axis=1)
    parts = [
        jnp.concatenate([from_inputs[:rows], gates("h", "kernel")]),
        *(candidate[:rows], gru["hn"]["kernel"]),
        *(jnp.concatenate([bias[None], by_common]), gru["hn"]["bias"]),
    ]
    for layer in range(2):
        dense, norm = theta[f"layer{layer}_dense"], theta[f"layer{layer}_norm"]
        parts.append(dense["kernel"] - jnp.mean(dense["kernel"], axis=1, keepdims=True))
        parts.append(dense["bias"] - jnp.mean(dense["bias"]))
        parts += [norm["scale"], norm["bias"]]
    parts += [theta["layer2_dense"]["kernel"], theta["layer2_dense"]["bias"]]
    found = [part.shape for part in parts]
    if found != spec.shapes():
        raise ValueError(f"theta does not fit: parts of {found}, not {spec.shapes()}")
    return jnp.concatenate([part.reshape(-1) for part in parts])


def run_open(
    spec: OpenSpec, plan: Plan, weights: jax.Array, operands: Operands
) -> tuple[jax.Array, Any, Any]:
    """Runs the kernel, compiling it first if need be; ``vmap`` may batch any of its arrays.

    Args:
      spec: what to compile.
      plan: where tensors lie.
      weights: see ``pack_open``.
      operands: of the update.

    Returns:
      (updates ``[D]``, to be added; new momenta ``[6, D]``; new hidden ``[H, D]``).

    Raises:
      RuntimeError: it does not compile.
    """
    offsets = plan.layout.offsets
    draws = plan.num_draws() if spec.noise == "threefry" else 0
    starts = np.cumsum([0, *np.multiply(plan.sizes(), plan.noisy)])[:-1]
    if spec.noise == "given":
        starts = np.array(offsets[:-1])
    starts = np.where(plan.noisy, starts, -1) if spec.noise != "none" else -np.ones(len(starts))
    shapes = [(offsets[-1],), operands.momenta.shape, operands.hidden.shape, (draws + _SLACK,)]
    step, momenta, hidden, _ = call.call(
        build.target("open.cc", "open_update", spec.constants()),
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        [
            weights,
            *operands[:-1],
            np.array(offsets, np.int32),
            np.array(plan.proportions, np.float32),
            starts.astype(np.int32),
            operands.noise,
        ],
        vmap_method="broadcast_all",
    )
    return step, momenta, hidden
