"""VeLO: an LSTM over tensors which generates the network that updates each parameter.

Metz et al., "VeLO: Training Versatile Learned Optimizers by Scaling Up", 2022
(arXiv 2211.09760), with the inputs and constants of the published optimizer
(google/learned_optimization, ``research/general_lopt/hyper_v2.py``).

An update: statistics of each of T tensors, how far training is and how the loss develops go
into an LSTM (one state for each tensor); its output mixes a bank of parameter sets into one
small network for each tensor; that network, applied to every parameter of the tensor
(``velo_tensors``), gives the step. VeLO has no learning rate: it is told the length of the
run, ``total_updates``, and the loss.

The loss of reinforcement learning is no measure of progress (the data change with the
policy), while VeLO was trained on supervised losses; see ``VeloConfig.loss``.
"""

import dataclasses
import functools
import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt import base, flat
from learned_opt.families import velo_network, velo_tensors

# Beyond so many updates the published optimizer is used with accumulated gradients.
MAX_UPDATES = 150_000
LOSSES = ("agent", "constant")
_GRADIENT_CLIP = 1000.0
_STEP_SIZE = 0.001


@dataclasses.dataclass(frozen=True)
class VeloConfig:
    """Settings of VeLO; the defaults fit the published weights.

    Attributes:
      total_updates: N, updates of the whole run, in an agent iterations x epochs x
        minibatches; >= 1. Needed by ``transform``; theta alone can be made without it.
      loss: what VeLO is told as the loss. ``agent``: the loss whose gradient is given (the
        context's ``loss``), in PPO the surrogate loss, which hovers around a value that
        tells nothing of the return. ``constant``: a loss that never changes, which VeLO
        reads as no progress (each loss input is -1, after two updates of 0).
      accumulate: gradients (and losses) are averaged over so many updates, and all but the
        last of them are zero; an int >= 1, or ``auto``: ceil(N / 150,000), as published.
      lstm_hidden_size: H, units of the LSTM (published: 512).
      num_parameter_sets: K, networks in the bank that is mixed (published: 256).
    """

    total_updates: int | None = None
    loss: str = "agent"
    accumulate: int | str = "auto"
    lstm_hidden_size: int = 512
    num_parameter_sets: int = 256

    def __post_init__(self):
        for name in ("total_updates", "accumulate", "lstm_hidden_size", "num_parameter_sets"):
            value = getattr(self, name)
            if (name, value) in (("total_updates", None), ("accumulate", "auto")):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                instead = ", or 'auto'" if name == "accumulate" else ""
                raise ValueError(
                    f"{name} must be a whole number of at least 1{instead}, got {value!r}"
                )
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {self.loss!r}")

    @property
    def updates_per_step(self) -> int:
        """Updates whose gradients are averaged into one step of VeLO."""
        if self.accumulate != "auto":
            return int(self.accumulate)
        return math.ceil((self.total_updates or 1) / MAX_UPDATES)

    @property
    def num_steps(self) -> int:
        """Steps that VeLO itself takes in the run; >= 1."""
        return max(1, (self.total_updates or 1) // self.updates_per_step)


class VeloState(NamedTuple):
    """State for D parameters in T tensors with any elements.

    Attributes:
      averages: ``[A]``, the moving averages of all groups of tensors (``velo_tensors.joined``).
      recurrent: of the LSTM, tensors in the order of the groups; before the first step zero
        and not read: the learned initial state takes its place.
      losses: the loss so far.
      num_steps: int32 scalar, steps made so far.
      pending: what waits for the next step; empty where gradients are not accumulated.
    """

    averages: jax.Array
    recurrent: velo_network.RecurrentState
    losses: velo_network.LossBuffer
    num_steps: jax.Array
    pending: "tuple[()] | Pending"


class Pending(NamedTuple):
    """Sum of gradients ``[D]``, sum of losses, and how many there are."""

    gradients: jax.Array
    loss: jax.Array
    waiting: jax.Array


def make_velo(config: VeloConfig) -> base.LearnedOptimizer:
    """VeLO as a ``LearnedOptimizer``; needs ``params``, and ``loss`` where that is told.

    theta has the names and shapes of the published optimizer's tree; with the default sizes
    2,320,385 numbers. ``rnn_params/linear`` has no effect there and here. ``init`` draws
    theta as the reference does before any training: an optimizer, but not VeLO.

    Raises:
      ValueError: by ``transform``, where ``total_updates`` is missing.
    """

    def transform(theta: base.MetaParams) -> optax.GradientTransformationExtraArgs:
        if config.total_updates is None:
            raise ValueError(
                "VeLO must be told the length of the run: give the option total_updates, for "
                "an agent iterations x epochs x minibatches, e.g. "
                "learned_opt.make('velo', total_updates=10_000)"
            )
        # Packed here and not in the update, which runs in loops.
        weights = velo_network.pack(theta)
        return flat.transformation(
            functools.partial(_initial_state, config),
            functools.partial(_update, config, weights),
        )

    return base.LearnedOptimizer(functools.partial(_initial_theta, config), transform)


def _initial_theta(config: VeloConfig, key: jax.Array) -> base.MetaParams:
    h, k = config.lstm_hidden_size, config.num_parameter_sets
    keys = iter(jax.random.split(key, 32))

    def normal(shape: tuple[int, ...], fan_in: int) -> jax.Array:
        draws = jax.random.truncated_normal(next(keys), -2.0, 2.0, shape, jnp.float32)
        return draws / math.sqrt(fan_in)  # fan_in >= 1

    def linear(inputs: int, outputs: int) -> dict[str, jax.Array]:
        return {"b": jnp.zeros((outputs,), jnp.float32), "w": normal((inputs, outputs), inputs)}

    widths, num_inputs = velo_network.WIDTHS, velo_network.NUM_INPUTS
    bank = {f"b{i}": jnp.zeros((k, n), jnp.float32) for i, n in enumerate(widths[1:])}
    for i, size in enumerate(velo_tensors.INPUT_SIZES):
        bank[f"w0__{i}"] = normal((k, size, widths[1]), widths[0])
    for i in (1, 2):
        bank[f"w{i}"] = normal((k, *widths[i : i + 2]), widths[i])
    return {
        "ff_mod_stack": {"~": bank},
        "lstm_init_state": {name: jnp.zeros((1, h), jnp.float32) for name in ("hidden", "cell")},
        "rnn_params": {
            **{name: linear(num_inputs, h) for name in ("linear", "linear_1", "linear_2")},
            "rnn/linear": linear(2 * h, 4 * h),
            "rnn_to_controls": linear(h, k),
            "step_size": linear(h, 1),
        },
    }


def _initial_state(config: VeloConfig, params: base.Params) -> VeloState:
    layout = flat.layout_of(params)
    groups = velo_tensors.tensor_groups(layout.shapes)
    columns = velo_network.num_columns(sum(group.num_tensors for group in groups))
    size = (config.lstm_hidden_size, columns)
    pending: tuple[()] | Pending = ()
    if config.updates_per_step > 1:
        sums = jnp.zeros((layout.num_parameters,), jnp.float32)
        pending = Pending(sums, jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))
    return VeloState(
        velo_tensors.joined([velo_tensors.initial_state(group) for group in groups]),
        velo_network.RecurrentState(*(jnp.zeros(size, jnp.float32) for _ in range(2))),
        velo_network.initial_loss_buffer(),
        jnp.zeros((), jnp.int32),
        pending,
    )


def _update(
    config: VeloConfig,
    weights: velo_network.Weights,
    grads: base.Params,
    state: VeloState,
    params: base.Params = None,
    **context: Any,
) -> tuple[base.Params, VeloState]:
    """One inner update: a step of VeLO, or its gradient set aside for a later one."""
    base.require_params("velo", params)
    told = ("loss",) if config.loss == "agent" else ()
    base.require_context("velo", told, context)
    loss = jnp.asarray(context["loss"] if told else 0.0, jnp.float32)
    if not isinstance(state.pending, Pending):
        return _step(config, weights, grads, loss, state, params)
    layout = flat.layout_of(params)
    sums = Pending(
        state.pending.gradients + flat.flatten(grads, layout),
        state.pending.loss + loss,
        state.pending.waiting + 1,
    )

    def step(sums: Pending) -> tuple[base.Params, VeloState]:
        share = 1.0 / config.updates_per_step
        mean = flat.unflatten(sums.gradients * share, _in_float32(layout))
        updates, new = _step(config, weights, mean, sums.loss * share, state, params)
        return updates, new._replace(pending=jax.tree.map(jnp.zeros_like, sums))

    def wait(sums: Pending) -> tuple[base.Params, VeloState]:
        return jax.tree.map(jnp.zeros_like, params), state._replace(pending=sums)

    return jax.lax.cond(sums.waiting == config.updates_per_step, step, wait, sums)


def _step(
    config: VeloConfig,
    weights: velo_network.Weights,
    grads: base.Params,
    loss: jax.Array,
    state: VeloState,
    params: base.Params,
) -> tuple[base.Params, VeloState]:
    """One step of VeLO."""
    layout = flat.layout_of(params)
    groups = velo_tensors.tensor_groups(layout.shapes)
    count = state.num_steps + 1
    losses, seen = _told(config, state, loss)
    leaves = layout.treedef.flatten_up_to(params)
    parameters = [velo_tensors.gather(group, leaves) for group in groups]
    before = velo_tensors.split(groups, state.averages)
    known = [
        velo_tensors.statistics(group, old, parameter)
        for group, old, parameter in zip(groups, before, parameters, strict=True)
    ]
    mean_square = jnp.concatenate([statistics.mean_square for statistics in known])
    inputs = velo_network.recurrent_inputs(
        state.num_steps.astype(jnp.float32) / config.num_steps,  # num_steps >= 1
        seen,
        [sum(n > 1 for n in layout.shapes[i]) for group in groups for i in group.members],
        jnp.concatenate([statistics.inputs for statistics in known]).T,
    )
    recurrent, networks, sizes = velo_network.recurrent(
        weights, state.recurrent, state.num_steps == 0, inputs, len(mean_square)
    )
    # The step of a tensor is in proportion to the size of its parameters.
    sizes = -_STEP_SIZE * sizes * jnp.sqrt(mean_square + 1e-9)  # a mean of squares: >= 0
    leaves = layout.treedef.flatten_up_to(grads)
    updates: dict[int, jax.Array] = {}
    after, start = [], 0
    for group, old, parameter in zip(groups, before, parameters, strict=True):
        part = slice(start, start + group.num_tensors)
        start += group.num_tensors
        gradient = velo_tensors.gather(group, leaves)
        gradient = jnp.clip(gradient, -_GRADIENT_CLIP, _GRADIENT_CLIP)
        new = velo_tensors.accumulated(group, old, gradient)
        after.append(new)
        own = jax.tree.map(operator.itemgetter(part), networks)
        step = velo_tensors.directions(group, own, new, gradient, parameter)
        step = step * sizes[part].reshape(-1, *[1] * (step.ndim - 1))
        updates.update(velo_tensors.scatter(group, step, layout.shapes))
    averages = velo_tensors.joined(after)
    new_state = VeloState(averages, recurrent, losses, count, state.pending)
    return _tree(updates, layout), new_state


def _told(
    config: VeloConfig, state: VeloState, loss: jax.Array
) -> tuple[velo_network.LossBuffer, jax.Array]:
    """The new loss buffer, and the inputs that it gives."""
    count = state.num_steps + 1
    if config.loss == "constant":
        # What the buffer's inputs are, but for rounding, if the loss never changes.
        any_told = (count > 2).astype(jnp.float32)
        return state.losses, jnp.full((velo_network.NUM_LOSS_INPUTS,), -1.0, jnp.float32) * any_told
    losses = velo_network.add_loss(state.losses, loss, state.num_steps, config.num_steps)
    return losses, velo_network.loss_inputs(losses, count, config.num_steps)


def _in_float32(layout: flat.Layout) -> flat.Layout:
    """The layout of the same tree in float32, which means of gradients keep until they are used."""
    return layout._replace(dtypes=(jnp.float32,) * layout.num_tensors)


def _tree(updates: dict[int, jax.Array], layout: flat.Layout) -> base.Params:
    """A tree with the layout's shapes and dtypes; tensors without elements stay as such."""
    leaves = [
        updates[i].astype(dtype) if i in updates else jnp.zeros(shape, dtype)
        for i, (shape, dtype) in enumerate(zip(layout.shapes, layout.dtypes, strict=True))
    ]
    return layout.treedef.unflatten(leaves)
