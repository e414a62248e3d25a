"""What VeLO computes for each parameter: accumulators, inputs, and the generated networks.

Tensors of equal shape form one group of n, whose arrays have the axes ``[n, C, *S]``: C
numbers for each parameter of each of n tensors of shape S. One operation then serves a whole
group. Vectors and scalars, of which networks have many small ones, are padded to one length,
and so are one group whatever their lengths.

Each input is scaled to a second moment of about 1 over its tensor. That factor is a number
for each tensor, so it goes into the weights of the first layer and the scaled inputs are
never made. Of the 30 inputs of a parameter of a matrix, 12 vary along its rows or its columns
alone; what they add to the first layer is computed at the size of a row or a column.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.families import adafactor
from learned_opt.families.adafactor import factored_dimensions, safe_rsqrt, without

MOMENTUM_DECAYS = (0.9, 0.99, 0.999)
RMS_DECAY = 0.999
ADAFACTOR_DECAYS = (0.9, 0.99, 0.999)
# Sizes of the groups of inputs, in the order in which the weights of the first layer come.
INPUT_SIZES = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
NUM_INPUTS = sum(INPUT_SIZES)
_ROW_INPUTS, _COL_INPUTS = (15, 16, 17, 21, 22, 23), (18, 19, 20, 24, 25, 26)
_FULL_INPUTS = tuple(i for i in range(NUM_INPUTS) if i not in _ROW_INPUTS + _COL_INPUTS)
# Longest vectors that are padded to a common length.
_MAX_PADDED = 128
# Keeps the scale of an input finite where it is zero over a tensor.
_MOMENT_EPSILON = 1e-5


class TensorGroup(NamedTuple):
    """Tensors that are computed together; static.

    Attributes:
      shape: S, of each tensor; for vectors the length to which they are padded.
      members: positions of the n tensors in the order of the tree's leaves.
      lengths: numbers in each tensor, without padding.
      factored: the (second largest, largest) dimension of S, or None for vectors.
    """

    shape: tuple[int, ...]
    members: tuple[int, ...]
    lengths: tuple[int, ...]
    factored: tuple[int, int] | None

    @property
    def num_tensors(self) -> int:
        """n."""
        return len(self.members)

    @property
    def is_padded(self) -> bool:
        return any(length != int(np.prod(self.shape)) for length in self.lengths)

    def row_shape(self) -> tuple[int, ...]:
        """S without its largest dimension; S itself for vectors."""
        return self.shape if self.factored is None else without(self.shape, self.factored[1])

    def col_shape(self) -> tuple[int, ...]:
        """S without its second largest dimension; empty for vectors."""
        return (0,) if self.factored is None else without(self.shape, self.factored[0])


class GroupState(NamedTuple):
    """Moving averages of the gradients of a group's tensors, all from zero.

    Attributes:
      momenta: ``[n, 3, *S]``.
      rms: ``[n, 1, *S]``, the second moment.
      row: ``[n, 3, ...]``, second moments over the largest dimension (Adafactor); over none
        for vectors.
      col: ``[n, 3, ...]``, second moments over the second largest; empty for vectors.
    """

    momenta: jax.Array
    rms: jax.Array
    row: jax.Array
    col: jax.Array


def tensor_groups(shapes: tuple[tuple[int, ...], ...]) -> tuple[TensorGroup, ...]:
    """The groups of the tensors of a tree. Empty tensors are in none: nothing to update."""
    members: dict[tuple[int, ...], list[int]] = {}
    for index, shape in enumerate(shapes):
        length = int(np.prod(shape))
        if length:
            short = len(shape) < 2 and length <= _MAX_PADDED
            members.setdefault(() if short else shape, []).append(index)
    groups = []
    for common, indices in members.items():
        lengths = tuple(int(np.prod(shapes[i])) for i in indices)
        shape = common or (max(lengths),)
        groups.append(TensorGroup(shape, tuple(indices), lengths, factored_dimensions(shape)))
    return tuple(groups)


def gather(group: TensorGroup, leaves: list[jax.Array]) -> jax.Array:
    """The group's tensors ``[n, 1, *S]`` out of a tree's leaves, float32, padded with 0."""
    tensors = []
    for index, length in zip(group.members, group.lengths, strict=True):
        tensor = jnp.asarray(leaves[index], jnp.float32)
        if group.factored is None:
            tensor = jnp.pad(tensor.reshape(-1), (0, group.shape[0] - length))
        tensors.append(tensor)
    return jnp.stack(tensors)[:, None]


def scatter(
    group: TensorGroup, values: jax.Array, shapes: tuple[tuple[int, ...], ...]
) -> dict[int, jax.Array]:
    """The inverse of ``gather``: position in the tree to tensor."""
    found = {}
    for place, (index, length) in enumerate(zip(group.members, group.lengths, strict=True)):
        tensor = values[place, 0]
        if group.factored is None:
            tensor = tensor[:length].reshape(shapes[index])
        found[index] = tensor
    return found


def initial_state(group: TensorGroup) -> GroupState:
    """Averages of no gradient."""
    n, three = group.num_tensors, len(MOMENTUM_DECAYS)
    return GroupState(
        jnp.zeros((n, three, *group.shape), jnp.float32),
        jnp.zeros((n, 1, *group.shape), jnp.float32),
        jnp.zeros((n, three, *group.row_shape()), jnp.float32),
        jnp.zeros((n, three, *group.col_shape()), jnp.float32),
    )


def joined(states: Sequence[GroupState]) -> jax.Array:
    """All groups' moving averages, one after the other: ``[A]``."""
    return jnp.concatenate([part.reshape(-1) for state in states for part in state])


def split(groups: Sequence[TensorGroup], averages: jax.Array) -> list[GroupState]:
    """The inverse of ``joined``."""
    states, start = [], 0
    for group in groups:
        parts = []
        for like in jax.eval_shape(functools.partial(initial_state, group)):
            parts.append(averages[start : start + like.size].reshape(like.shape))
            start += like.size
        states.append(GroupState(*parts))
    return states


def means(group: TensorGroup, values: jax.Array) -> jax.Array:
    """Means over each tensor: ``[n, C, *S]`` to ``[n, C]``; padding does not count."""
    rows = values.reshape(*values.shape[:2], -1)
    size = rows.shape[-1]
    if group.is_padded:
        lengths = np.array(group.lengths)[:, None]
        shares = (np.arange(size) < lengths) / lengths.astype(np.float32)
        return jnp.einsum("ncl,nl->nc", rows, shares, precision=jax.lax.Precision.HIGHEST)
    # A product: XLA's CPU backend does not vectorise a reduction.
    weights = jnp.full((size,), 1.0 / size, jnp.float32)
    return jnp.matmul(rows, weights, precision=jax.lax.Precision.HIGHEST)


class Statistics(NamedTuple):
    """Statistics of a group's tensors, for the recurrent network.

    Attributes:
      mean_square: ``[n]``, of the parameters.
      inputs: ``[n, 7]``: mean of the rms, 3 variances of the momenta, 3 mean squares of the
        rms's distance to the momenta's means.
    """

    mean_square: jax.Array
    inputs: jax.Array


def statistics(group: TensorGroup, state: GroupState, parameter: jax.Array) -> Statistics:
    """Statistics of the moving averages as they were before the update."""
    first = means(group, jnp.concatenate([jnp.square(parameter), state.momenta, state.rms], 1))
    mean_square, mean_momenta, mean_rms = first[:, 0], first[:, 1:4], first[:, 4:]
    scale = jax.lax.rsqrt(jnp.maximum(mean_square, 1e-9))[:, None]
    centre = mean_momenta.reshape(*mean_momenta.shape, *[1] * len(group.shape))
    spread = jnp.concatenate([state.momenta - centre, state.rms - centre], 1)
    variances = means(group, jnp.square(spread))
    moments = jnp.concatenate([mean_rms * scale, variances * jnp.square(scale)], 1)
    logs = jnp.log(1e-8 + jnp.abs(10.0 * moments))
    return Statistics(mean_square, 0.5 * jnp.clip(logs, -5.0, 5.0))


def accumulated(group: TensorGroup, state: GroupState, gradient: jax.Array) -> GroupState:
    """The moving averages with one more gradient ``[n, 1, *S]``."""
    square = jnp.square(gradient)
    momenta = _average(MOMENTUM_DECAYS, state.momenta, gradient)
    rms = _average((RMS_DECAY,), state.rms, square)
    square = square + adafactor.SQUARE_EPSILON
    if group.factored is None:
        return GroupState(momenta, rms, _average(ADAFACTOR_DECAYS, state.row, square), state.col)
    second, largest = group.factored
    row = _average(ADAFACTOR_DECAYS, state.row, jnp.mean(square, 2 + largest))
    col = _average(ADAFACTOR_DECAYS, state.col, jnp.mean(square, 2 + second))
    return GroupState(momenta, rms, row, col)


def _average(decays: tuple[float, ...], old: jax.Array, new: jax.Array) -> jax.Array:
    decay = jnp.array(decays, jnp.float32).reshape(1, -1, *[1] * (old.ndim - 2))
    return decay * old + (1.0 - decay) * new


class Networks(NamedTuple):
    """The generated network of each of n tensors: 30 -> 4 -> 4 -> 3, ReLU.

    Attributes:
      kernels: ``[n, 30, 4]``, ``[n, 4, 4]``, ``[n, 4, 3]``.
      biases: ``[n, 4]``, ``[n, 4]``, ``[n, 3]``.
    """

    kernels: tuple[jax.Array, jax.Array, jax.Array]
    biases: tuple[jax.Array, jax.Array, jax.Array]


def directions(
    group: TensorGroup,
    networks: Networks,
    state: GroupState,
    gradient: jax.Array,
    parameter: jax.Array,
) -> jax.Array:
    """The networks' steps ``[n, 1, *S]``: direction x exp(0.001 x log-magnitude)."""
    flat = (group.num_tensors, -1, int(np.prod(group.shape)))
    factors, terms = _adafactor_terms(group, networks.kernels[0], state)
    inverse_root = jax.lax.rsqrt(state.rms + adafactor.RMS_EPSILON)
    features = jnp.concatenate(
        [
            *(gradient, jnp.clip(gradient, -0.1, 0.1), parameter, state.momenta, state.rms),
            *(state.momenta * inverse_root, inverse_root, gradient * factors.gradient),
            *(gradient * inverse_root, state.momenta * factors.momentum),
        ],
        axis=1,
    )
    kernel = networks.kernels[0][:, np.array(_FULL_INPUTS)]
    kernel = kernel * _scales(means(group, jnp.square(features)))
    hidden = _product(kernel, features.reshape(flat)).reshape(group.num_tensors, -1, *group.shape)
    bias = networks.biases[0].reshape(group.num_tensors, -1, *[1] * len(group.shape))
    hidden = hidden + terms + bias
    hidden = jax.nn.relu(hidden).reshape(flat)
    for kernel, bias in zip(networks.kernels[1:], networks.biases[1:], strict=True):
        last = kernel is networks.kernels[-1]
        hidden = _product(kernel, hidden) + bias[:, :, None]
        hidden = hidden if last else jax.nn.relu(hidden)
    step = hidden[:, :1] * jnp.exp(0.001 * hidden[:, 1:2])
    return step.reshape(group.num_tensors, 1, *group.shape)


class _Factors(NamedTuple):
    """``[n, 3, *S]``, or what broadcasts to it: what normalises gradients and momenta."""

    gradient: jax.Array
    momentum: jax.Array


def _adafactor_terms(
    group: TensorGroup, kernel: jax.Array, state: GroupState
) -> tuple[_Factors, jax.Array]:
    """Adafactor's factors, and what its row and column inputs add to the first layer."""
    by_row, by_col = kernel[:, np.array(_ROW_INPUTS)], kernel[:, np.array(_COL_INPUTS)]
    if group.factored is None:
        gradient = safe_rsqrt(state.row + adafactor.FACTOR_EPSILON)
        # Squares have 1e-30 added, so the averages are above 0.
        momentum = jax.lax.rsqrt(state.row)
        return _Factors(gradient, momentum), _term(group, by_row + by_col, state.row)
    second, largest = group.factored
    axis = 2 + (second - 1 if second > largest else second)
    mean = jnp.mean(state.row, axis, keepdims=True)
    row = jnp.expand_dims(safe_rsqrt(state.row / (mean + adafactor.FACTOR_EPSILON)), 2 + largest)
    col = jnp.expand_dims(safe_rsqrt(state.col), 2 + second)
    terms = jnp.expand_dims(_term(group, by_row, state.row), 2 + largest)
    terms = terms + jnp.expand_dims(_term(group, by_col, state.col), 2 + second)
    return _Factors(row * col, row * col), terms


def _term(group: TensorGroup, kernel: jax.Array, moments: jax.Array) -> jax.Array:
    """What ``moments`` ``[n, 3, ...]`` and their reciprocal roots add: ``[n, 4, ...]``."""
    features = jnp.concatenate([moments, jax.lax.rsqrt(moments + adafactor.FEATURE_EPSILON)], 1)
    rows = features.reshape(*features.shape[:2], -1)
    if group.factored is None:
        second_moments = means(group, jnp.square(features))
    else:
        # Each number stands for equally many parameters of the tensor.
        second_moments = jnp.mean(jnp.square(rows), 2)
    added = _product(kernel * _scales(second_moments), rows)
    return added.reshape(added.shape[0], -1, *features.shape[2:])


def _scales(second_moments: jax.Array) -> jax.Array:
    """``[n, C]`` to ``[n, C, 1]``: what brings inputs to a second moment of about 1."""
    return jax.lax.rsqrt(_MOMENT_EPSILON + second_moments)[:, :, None]


def _product(kernel: jax.Array, rows: jax.Array) -> jax.Array:
    """kernel ``[n, in, out]``, rows ``[n, in, L]`` -> ``[n, out, L]``."""
    return jnp.einsum("nio,nil->nol", kernel, rows, precision=jax.lax.Precision.HIGHEST)
