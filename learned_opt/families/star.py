"""STAR: a small network on top of a nominal AggMo-Adam term.

Harrison, Metz, Sohl-Dickstein, "A Closer Look at Learned Optimization: Stability,
Robustness, and Inductive Biases", 2022 (arXiv 2209.11208), in the form in which Optim4RL's
paper compares with it. The network, written in Haiku, sees Adam's and Adafactor's
statistics of each parameter and adds a step to that of the nominal term; the decays of all
statistics are learned as well.

Everything is feature-major over the D parameters of all tensors at once, but Adafactor's
row and column moments, which exist per tensor.
"""

import dataclasses
import functools
import math
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt import base, flat, modules
from learned_opt.families import adafactor
from learned_opt.families.adafactor import factored_dimensions, safe_rsqrt, without
from learned_opt.families.optim4rl import clipped

# Decays that learning starts from (theta holds offsets).
DECAYS = {
    "momentum_decays": (0.9, 0.99, 0.999),
    "rms_decays": (0.999,),
    "adafactor_decays": (0.9, 0.99, 0.999),
}
# Scales, in updates, of the inputs that tell how far a run is.
TIMESCALES = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000)
NUM_NORMALISED = 28  # inputs that differ between parameters
NUM_OUTPUTS = 4  # direction and log-magnitude; the release has two more, which it ignores
MAGNITUDE_MULTIPLIER = 0.001
# The reference scales the nominal term by exp(0.001 x), where x is an output that may
# control it or, as here, the constant 1.
NOMINAL_FACTOR = math.exp(MAGNITUDE_MULTIPLIER)


@dataclasses.dataclass(frozen=True)
class StarConfig:
    """Settings of STAR; the defaults are the release's for Brax tasks.

    Attributes:
      learning_rate: multiplies the network's step; > 0.
      nominal_learning_rate: multiplies the nominal AggMo-Adam step; >= 0.
      weight_decay: part of each parameter that an update takes away; in [0, 1).
      gradient_clip: gradients are clipped to [-gradient_clip, gradient_clip] element by
        element; > 0, or None for no clipping.
      hidden_size: units of the two hidden layers.
    """

    learning_rate: float = 3e-4
    nominal_learning_rate: float = 1e-3
    weight_decay: float = 0.0
    gradient_clip: float | None = 1.0
    hidden_size: int = 4

    def __post_init__(self):
        if self.learning_rate <= 0 or self.nominal_learning_rate < 0:
            raise ValueError(
                "learning_rate must be above 0 and nominal_learning_rate at least 0, got "
                f"{self.learning_rate} and {self.nominal_learning_rate}"
            )
        if not 0 <= self.weight_decay < 1:
            raise ValueError(f"weight_decay must be in [0, 1), got {self.weight_decay}")
        if self.gradient_clip is not None and self.gradient_clip <= 0:
            raise ValueError(
                f"gradient_clip must be above 0, or None for none, got {self.gradient_clip}"
            )
        if self.hidden_size < 1:
            raise ValueError(f"hidden_size must be at least 1, got {self.hidden_size}")


class FactoredMoments(NamedTuple):
    """Adafactor's second moments of one tensor, for three decays.

    Attributes:
      row: ``[3, ...]``, the tensor's shape without its largest dimension; for a tensor of
        rank below 2, which is not factored, its whole shape.
      col: ``[3, ...]``, the shape without the second largest dimension; empty for a tensor
        that is not factored.
    """

    row: jax.Array
    col: jax.Array


class StarState(NamedTuple):
    """State for D parameters.

    Attributes:
      momenta: ``[3, D]``.
      rms: ``[1, D]``, the second moment.
      factored: ``[3, M]``, of all tensors, one after the other, the ``FactoredMoments``: the
        numbers in ``row``, then those in ``col``.
      num_updates: int32 scalar, the updates made so far.
    """

    momenta: jax.Array
    rms: jax.Array
    factored: jax.Array
    num_updates: jax.Array


def _haiku() -> types.ModuleType:
    """Haiku, which nothing else in this package needs: imported when there is a STAR to make."""
    try:
        import haiku
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "STAR's network is written in Haiku, which is not here: pip install dm-haiku"
        ) from error
    return haiku


def _network(hidden_size: int, inputs: jax.Array, shared: jax.Array) -> jax.Array:
    """(inputs ``[28, D]``, shared ``[11]``) -> outputs ``[4, D]``; in a Haiku transform.

    ``shared`` are the last of the network's inputs, the same for all parameters.
    """
    hk = _haiku()
    x = inputs
    fan_in = inputs.shape[0] + shared.shape[0]
    for layer, width in enumerate((hidden_size, hidden_size, NUM_OUTPUTS)):
        initial = hk.initializers.TruncatedNormal(1.0 / math.sqrt(fan_in))  # fan_in >= 1
        kernel = hk.get_parameter(f"w{layer}", (fan_in, width), jnp.float32, initial)
        bias = hk.get_parameter(f"b{layer}", (width,), jnp.float32, jnp.zeros)
        if layer == 0:
            bias = bias + shared @ kernel[inputs.shape[0] :]
            kernel = kernel[: inputs.shape[0]]
        else:
            x = jax.nn.relu(x)
        x = kernel.T @ x + bias[:, None]
        fan_in = width
    return x


def make_star(config: StarConfig) -> base.LearnedOptimizer:
    """STAR as a ``LearnedOptimizer``; needs ``params`` and no context.

    theta: ``nn``, the network's Haiku parameters, and the offsets ``momentum_decays``,
    ``rms_decays`` and ``adafactor_decays``, named as in the reference implementation.

    Raises:
      ModuleNotFoundError: there is no Haiku.
    """
    hk = _haiku()
    network: modules.HaikuTransformed = hk.without_apply_rng(
        hk.transform(functools.partial(_network, config.hidden_size))
    )

    def init(key: jax.Array) -> base.MetaParams:
        inputs = jnp.zeros((NUM_NORMALISED, 1), jnp.float32)
        shared = jnp.zeros((len(TIMESCALES),), jnp.float32)
        offsets = {name: jnp.zeros((len(d),), jnp.float32) for name, d in DECAYS.items()}
        return {"nn": network.init(key, inputs, shared), **offsets}

    def transform(theta: base.MetaParams) -> optax.GradientTransformationExtraArgs:
        return flat.transformation(
            _initial_state, functools.partial(_update, config, network.apply, theta)
        )

    return base.LearnedOptimizer(init, transform)


def _initial_state(params: base.Params) -> StarState:
    layout = flat.layout_of(params)
    moments = sum(math.prod(part) for shape in layout.shapes for part in _factored_shapes(shape))
    return StarState(
        jnp.zeros((len(DECAYS["momentum_decays"]), layout.num_parameters), jnp.float32),
        jnp.zeros((len(DECAYS["rms_decays"]), layout.num_parameters), jnp.float32),
        jnp.zeros((len(DECAYS["adafactor_decays"]), moments), jnp.float32),
        jnp.zeros((), jnp.int32),
    )


def _factored_shapes(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the moments of one tensor, for one decay: (row, col)."""
    dims = factored_dimensions(shape)
    if dims is None:
        return shape, (0,)
    second, largest = dims
    return without(shape, largest), without(shape, second)


def _split(factored: jax.Array, layout: flat.Layout) -> list[FactoredMoments]:
    """``[3, M]`` to the moments of each of the T tensors."""
    moments, start = [], 0
    for shape in layout.shapes:
        parts = []
        for part in _factored_shapes(shape):
            stop = start + math.prod(part)
            parts.append(factored[:, start:stop].reshape(len(factored), *part))
            start = stop
        moments.append(FactoredMoments(*parts))
    return moments


def _joined(moments: list[FactoredMoments]) -> jax.Array:
    """The inverse of ``_split``."""
    return jnp.concatenate([part.reshape(len(part), -1) for pair in moments for part in pair], 1)


def decays(theta: base.MetaParams, name: str) -> jax.Array:
    """Decays as theta has them: 1 - exp(10 (log(1 - d0) / 10 + offset)), each below 1.

    The initial decays d0 are below 1, so the logarithm is finite.
    """
    start = np.log1p(-np.array(DECAYS[name])) / 10.0
    return 1.0 - jnp.exp(10.0 * (start.astype(np.float32) + theta[name]))


def _update(
    config: StarConfig,
    apply: Any,
    theta: base.MetaParams,
    grads: base.Params,
    state: StarState,
    params: base.Params = None,
    **context: Any,
) -> tuple[base.Params, StarState]:
    """One inner update."""
    del context
    base.require_params("star", params)
    layout = flat.layout_of(params)
    gradient = clipped(flat.flatten(grads, layout), config.gradient_clip)
    parameter = flat.flatten(params, layout)
    decay = decays(theta, "momentum_decays")[:, None]
    momenta = decay * state.momenta + (1.0 - decay) * gradient[None]
    # Clipped, which keeps the second moment an average of squares whatever theta is.
    decay = jnp.clip(decays(theta, "rms_decays"), 0.0, 1.0)[:, None]
    rms = decay * state.rms + (1.0 - decay) * jnp.square(gradient)[None]
    factored, features = _adafactor(theta, _split(state.factored, layout), gradient, layout)
    inverse_root = jax.lax.rsqrt(rms + adafactor.RMS_EPSILON)
    adam = momenta * inverse_root
    rows = jnp.concatenate(
        [
            *(gradient[None], parameter[None], momenta, rms, adam, inverse_root),
            gradient[None] * features.gradient_scale,
            *(features.row, features.col),
            jax.lax.rsqrt(features.row + adafactor.FEATURE_EPSILON),
            jax.lax.rsqrt(features.col + adafactor.FEATURE_EPSILON),
            momenta * features.momentum_scale,
        ]
    )
    rows = rows * flat.spread(flat.second_moment_scale(rows, layout), layout)
    progress = state.num_updates.astype(jnp.float32) / jnp.array(TIMESCALES, jnp.float32)
    outputs = apply(theta["nn"], rows, jnp.tanh(progress - 1.0))
    step = config.learning_rate * outputs[0] * jnp.exp(MAGNITUDE_MULTIPLIER * outputs[1])
    # A sum of rows: XLA's CPU backend does not vectorise a mean over the leading axis.
    step = step + config.nominal_learning_rate * NOMINAL_FACTOR / len(adam) * sum(adam)
    step = step + config.weight_decay * parameter
    new_state = StarState(momenta, rms, _joined(factored), state.num_updates + 1)
    return flat.unflatten(-step, layout), new_state


class _Adafactor(NamedTuple):
    """Adafactor's features of all parameters, ``[3, D]`` each.

    Attributes:
      row, col: the moments, spread over the parameters that they describe.
      gradient_scale, momentum_scale: factors that normalise a gradient, a momentum.
    """

    row: jax.Array
    col: jax.Array
    gradient_scale: jax.Array
    momentum_scale: jax.Array


def _adafactor(
    theta: base.MetaParams,
    moments: list[FactoredMoments],
    gradient: jax.Array,
    layout: flat.Layout,
) -> tuple[list[FactoredMoments], _Adafactor]:
    """Updates the moments of all tensors and makes features of them."""
    decay = jnp.clip(decays(theta, "adafactor_decays"), 0.0, 1.0)
    square = jnp.square(gradient) + adafactor.SQUARE_EPSILON
    updated, features = [], []
    for old, part, shape in zip(moments, layout.slices(), layout.shapes, strict=True):
        new, feature = _adafactor_of_tensor(decay, old, square[part].reshape(shape))
        updated.append(new)
        features.append([f.reshape(len(decay), -1) for f in feature])
    columns = [jnp.concatenate(column, axis=1) for column in zip(*features, strict=True)]
    return updated, _Adafactor(*columns)


def _adafactor_of_tensor(
    decay: jax.Array, old: FactoredMoments, square: jax.Array
) -> tuple[FactoredMoments, _Adafactor]:
    """The same for one tensor: features of the tensor's shape, with a leading 3."""
    shape = (len(decay), *square.shape)

    def average(old: jax.Array, new: jax.Array) -> jax.Array:
        weight = decay.reshape(-1, *[1] * new.ndim)
        return weight * old + (1.0 - weight) * new[None]

    dims = factored_dimensions(square.shape)
    if dims is None:
        moment = average(old.row, square)
        gradient_scale = safe_rsqrt(moment + adafactor.FACTOR_EPSILON)
        momentum_scale = jax.lax.rsqrt(moment + adafactor.RMS_EPSILON)
        features = _Adafactor(moment, moment, gradient_scale, momentum_scale)
        return FactoredMoments(moment, old.col), features
    second, largest = dims
    row = average(old.row, _mean_over(square, largest))
    col = average(old.col, _mean_over(square, second))
    axis = 1 + (second - 1 if second > largest else second)
    # Averages of squares: the quotient is at least 0 and its divisor above 0.
    row_factor = safe_rsqrt(row / (jnp.mean(row, axis, keepdims=True) + adafactor.FACTOR_EPSILON))
    row_factor = jnp.expand_dims(row_factor, 1 + largest)
    scale = row_factor * jnp.expand_dims(safe_rsqrt(col), 1 + second)
    row_feature = jnp.broadcast_to(jnp.expand_dims(row, 1 + largest), shape)
    col_feature = jnp.broadcast_to(jnp.expand_dims(col, 1 + second), shape)
    return FactoredMoments(row, col), _Adafactor(row_feature, col_feature, scale, scale)


def _mean_over(x: jax.Array, axis: int) -> jax.Array:
    """The mean over one axis; 0 where that is empty.

    As a product: XLA's CPU backend does not vectorise a reduction over a leading axis.
    """
    weights = jnp.full((x.shape[axis],), 1.0 / max(1, x.shape[axis]), x.dtype)
    # Full precision, because accelerators round a product's factors and not a sum's terms.
    return jnp.tensordot(x, weights, axes=(axis, 0), precision=jax.lax.Precision.HIGHEST)
