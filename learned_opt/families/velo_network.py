"""VeLO's recurrent network, with its inputs, and the bank of networks that it mixes.

Columns are the T tensors, filled up to U columns, a multiple of 8: ``[30, U]`` inputs,
``[H, U]`` state. One product then serves all tensors. XLA's CPU backend multiplies a large
matrix by few columns twice as fast as few rows by a large matrix, and by 16 columns faster
than by 12; loops over whole vectors of columns are the only ones that it vectorises. What is
in the columns beyond T goes nowhere.

What an update cannot do without, at the published size (H = 512, K = 256) and up to 16
tensors: reading 8.9 MB of weights, 8.4 of them the LSTM's, and 22 million multiplications,
nine tenths of them the LSTM's. The parameters' own networks (``velo_tensors``) add about 100
multiplications for each parameter.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt import base
from learned_opt.families import velo_tensors
from learned_opt.families.velo_tensors import Networks

NUM_INPUTS = 30  # of the recurrent network
WIDTHS = (velo_tensors.NUM_INPUTS, 4, 4, 3)  # of the networks in the bank
_TIMESCALES = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
_MAX_RANK = 4
_MIXING_FACTOR = 100.0
_NUM_HALF_LIVES = 10
NUM_LOSS_INPUTS = _NUM_HALF_LIVES - 1
_NO_MINIMUM = 999999999999.0
_COLUMNS = 8


def num_columns(num_tensors: int) -> int:
    """U: T rounded up."""
    return -(-num_tensors // _COLUMNS) * _COLUMNS


class LossBuffer(NamedTuple):
    """How the loss developed.

    Attributes:
      means: ``[10]``, moving averages, from zero, with half-lives of 10 to N updates.
      minima: ``[10]``, the lowest values that the averages had.
    """

    means: jax.Array
    minima: jax.Array


def initial_loss_buffer() -> LossBuffer:
    """The buffer before any loss."""
    return LossBuffer(
        jnp.zeros((_NUM_HALF_LIVES,), jnp.float32),
        jnp.full((_NUM_HALF_LIVES,), _NO_MINIMUM, jnp.float32),
    )


def add_loss(buffer: LossBuffer, loss: jax.Array, count: jax.Array, total: int) -> LossBuffer:
    """The buffer with one more loss, which is cut off at twice the largest average.

    Args:
      buffer: of ``count`` losses.
      loss: scalar.
      count: int32 scalar >= 0.
      total: N >= 1.
    """
    decay, correction = _decay(count + 1, total)
    top = jnp.where(count == 0, loss, jnp.max(buffer.means * correction))
    loss = jnp.minimum(2.0 * jnp.abs(top), loss)
    means = decay * buffer.means + (1.0 - decay) * loss
    return LossBuffer(means, jnp.minimum(buffer.minima, means * correction))


def loss_inputs(buffer: LossBuffer, count: jax.Array, total: int) -> jax.Array:
    """``[9]`` in [-1, 1]: each average between its minimum and the next longer average.

    Zero for a ``count`` of at most 2 losses.
    """
    means = buffer.means * _decay(count, total)[1]
    # At least 1e-8, so that the quotient is finite.
    span = jnp.maximum(1e-8, means[1:] - buffer.minima[:-1])
    inputs = jnp.clip((means[:-1] - buffer.minima[:-1]) / span - 1.0, -1.0, 1.0)
    return jnp.where(count <= 2, 0.0, inputs)


def _decay(count: jax.Array, total: int) -> tuple[jax.Array, jax.Array]:
    """(decays, what corrects averages of ``count`` >= 1 losses for their start at 0)."""
    half_lives = np.logspace(1, np.log10(total), _NUM_HALF_LIVES, dtype=np.float32)
    decay = jnp.asarray(np.exp(-1.0 / half_lives))  # below 1, also in float32
    return decay, 1.0 / (1.0 - jnp.power(decay, count.astype(jnp.float32)))


def recurrent_inputs(
    progress: jax.Array, losses: jax.Array, ranks: Sequence[int], statistics: jax.Array
) -> jax.Array:
    """The recurrent network's inputs ``[30, U]``.

    Args:
      progress: t / N, scalar in [0, 1] (or beyond, where a run is longer than was said).
      losses: ``[9]``.
      ranks: of each tensor, how many of its dimensions are greater than 1.
      statistics: ``[7, T]``, see ``velo_tensors.Statistics``.
    """
    embedded = jnp.tanh(10.0 * (progress - jnp.array(_TIMESCALES, jnp.float32)))
    shared = jnp.concatenate([embedded, losses])[:, None]
    shared = jnp.broadcast_to(shared, (len(shared), len(ranks)))
    # A rank above 4 has no input of its own: all five are 0.
    one_hot = np.equal.outer(np.arange(_MAX_RANK + 1), ranks).astype(np.float32)
    inputs = jnp.concatenate([shared, statistics[:1], one_hot, statistics[1:]])
    return jnp.pad(inputs, ((0, 0), (0, num_columns(len(ranks)) - len(ranks))))


class Weights(NamedTuple):
    """theta as an update uses it.

    A tensor's inputs go through two linear maps to the gates, which are one here.

    Attributes:
      mix, mix_bias: ``[H, 30]``, ``[H, 1]``.
      gates_by_input, gates_by_mix, gates_by_hidden: ``[4H, 30]``, ``[4H, H]``, ``[4H, H]``.
      gates_bias: ``[4H, 1]``.
      hidden, cell: ``[H, 1]``, the learned initial state.
      outputs, outputs_bias: ``[K + 1, H]``, ``[K + 1, 1]``: to what the parameter sets are
        multiplied by in a tensor's mixture, and to its step size.
      bank: ``[159, K]``, the parameter sets.
    """

    mix: jax.Array
    mix_bias: jax.Array
    gates_by_input: jax.Array
    gates_by_mix: jax.Array
    gates_by_hidden: jax.Array
    gates_bias: jax.Array
    hidden: jax.Array
    cell: jax.Array
    outputs: jax.Array
    outputs_bias: jax.Array
    bank: jax.Array


def pack(theta: base.MetaParams) -> Weights:
    """theta as an update uses it."""
    linear = theta["rnn_params"]
    gates, direct = linear["rnn/linear"]["w"].T, linear["linear_2"]
    h = gates.shape[1] // 2
    by_mix, by_hidden = gates[:, :h], gates[:, h:]
    bias = linear["rnn/linear"]["b"] + _product(by_mix, direct["b"])
    # The forget gate, the third, is open at first: 1 is added to its bias.
    bias = bias + jnp.repeat(jnp.array([0.0, 0.0, 1.0, 0.0], jnp.float32), h)
    control, step = linear["rnn_to_controls"], linear["step_size"]
    return Weights(
        mix=linear["linear_1"]["w"].T,
        mix_bias=linear["linear_1"]["b"][:, None],
        gates_by_input=_product(by_mix, direct["w"].T),
        gates_by_mix=by_mix,
        gates_by_hidden=by_hidden,
        gates_bias=bias[:, None],
        hidden=theta["lstm_init_state"]["hidden"].reshape(h, 1),
        cell=theta["lstm_init_state"]["cell"].reshape(h, 1),
        outputs=jnp.concatenate([control["w"], step["w"]], axis=1).T,
        outputs_bias=jnp.concatenate([control["b"], step["b"]])[:, None],
        bank=_bank(theta["ff_mod_stack"]["~"]),
    )


def _bank(sets: base.MetaParams) -> jax.Array:
    """The K parameter sets ``[159, K]``, times what a mixture of them is multiplied by."""
    first = [sets[f"w0__{i}"] for i in range(len(velo_tensors.INPUT_SIZES))]
    parts = [*first, *(sets[name] for name in ("w1", "w2", "b0", "b1", "b2"))]
    count = parts[0].shape[0]
    bank = jnp.concatenate([part.reshape(count, -1) for part in parts], axis=1).T
    return bank * (_MIXING_FACTOR / count)


class RecurrentState(NamedTuple):
    """Of the LSTM: ``[H, U]`` each."""

    hidden: jax.Array
    cell: jax.Array


def recurrent(
    weights: Weights,
    state: RecurrentState,
    is_first: jax.Array,
    inputs: jax.Array,
    num_tensors: int,
) -> tuple[RecurrentState, Networks, jax.Array]:
    """One step of the recurrent network.

    Args:
      weights: see ``Weights``.
      state: of the T tensors.
      is_first: boolean scalar; then the learned initial state takes the place of ``state``.
      inputs: ``[30, U]``.
      num_tensors: T.

    Returns:
      The new state, the T tensors' networks, and their step sizes ``[T]``, which may be
      negative.
    """
    mix = jax.nn.relu(_product(weights.mix, inputs) + weights.mix_bias)
    mix = jnp.max(mix[:, :num_tensors], axis=1)
    hidden = jnp.where(is_first, weights.hidden, state.hidden)
    cell = jnp.where(is_first, weights.cell, state.cell)
    gates = _product(weights.gates_by_hidden, hidden) + weights.gates_bias
    gates = gates + _product(weights.gates_by_input, inputs)
    gates = gates + _product(weights.gates_by_mix, mix)[:, None]
    write, value, forget, read = jnp.split(gates, 4)
    cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(write) * jnp.tanh(value)
    hidden = jax.nn.sigmoid(read) * jnp.tanh(cell)
    outputs = (_product(weights.outputs, hidden) + weights.outputs_bias)[:, :num_tensors]
    networks = _networks(_product(weights.bank, outputs[:-1]))
    return RecurrentState(hidden, cell), networks, outputs[-1]


def _networks(numbers: jax.Array) -> Networks:
    """The tensors' networks out of ``[159, T]``."""
    pairs = list(itertools.pairwise(WIDTHS))
    sizes = [rows * columns for rows, columns in pairs] + list(WIDTHS[1:])
    parts = jnp.split(numbers.T, np.cumsum(sizes)[:-1], axis=1)
    kernels = [p.reshape(-1, *pair) for p, pair in zip(parts[:3], pairs, strict=True)]
    return Networks((kernels[0], kernels[1], kernels[2]), (parts[3], parts[4], parts[5]))


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    # Full precision on accelerators, too.
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
