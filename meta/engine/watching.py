"""An optimizer that is watched: what its updates do, summed inside the inner loop.

``watched`` puts a measure around any optimizer. The sums travel in its state, and updates stay
what they are. ``make_engine`` is the population engine that records the sums.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from agents.base import Agent
from learned_opt import base
from learned_opt.base import LearnedOptimizer, MetaParams
from meta.engine.population import Engine, Series


class Update(NamedTuple):
    """One update: the optimizer ``tx``, what it was given, and the ``updates`` that it gave."""

    tx: optax.GradientTransformationExtraArgs
    grads: base.Params
    updates: base.Params
    params: base.Params
    context: dict[str, Any]


class WatchedState(NamedTuple):
    """An optimizer's state, and what was measured of its updates.

    Checkpoints of meta-training hold these names.

    Attributes:
      inner: the optimizer's own state.
      statistics: a tree of sums over the updates so far.
      gradients: what the measure keeps of those so far, to compare the next one with.
    """

    inner: optax.OptState
    statistics: Any
    gradients: Any


class Measure(NamedTuple):
    """What is measured of updates.

    Attributes:
      init: params -> (statistics, gradients) before the first update; the statistics are 0.
      of: (update, state before it) -> (statistics, gradients); the statistics are added to
        those so far.
      scalars: statistics -> scalars by name, as an engine records them.
      series: what the sums of these between two points say, by name, each ``[P, K]``.
    """

    init: Callable[[base.Params], tuple[Any, Any]]
    of: Callable[[Update, WatchedState], tuple[Any, Any]]
    scalars: Callable[[Any], dict[str, jax.Array]] = lambda statistics: statistics
    series: Callable[[Series], Series] = lambda sums: sums


def watched(
    tx: optax.GradientTransformationExtraArgs, measure: Measure
) -> optax.GradientTransformationExtraArgs:
    """The same transformation with its updates measured."""

    def init(params: base.Params) -> WatchedState:
        return WatchedState(tx.init(params), *measure.init(params))

    def update(
        grads: base.Params, state: WatchedState, params: base.Params = None, **context: Any
    ) -> tuple[base.Params, WatchedState]:
        updates, inner = tx.update(grads, state.inner, params, **context)
        statistics, gradients = measure.of(Update(tx, grads, updates, params, context), state)
        sums = jax.tree.map(jnp.add, state.statistics, statistics)
        return updates, WatchedState(inner, sums, gradients)

    return optax.GradientTransformationExtraArgs(init, update)


def make_engine(
    optimizer: LearnedOptimizer, agent: Agent, *, measure: Measure, members_per_device: int = 0
) -> Engine:
    """The population engine with its optimizer watched.

    What is recorded at a point is of the updates since the point before.

    Args:
      optimizer, agent, members_per_device: as ``Engine`` takes them.
      measure: what is recorded.
    """

    def transform(theta: MetaParams) -> optax.GradientTransformationExtraArgs:
        return watched(optimizer.transform(theta), measure)

    return Engine(
        LearnedOptimizer(optimizer.init, transform),
        agent,
        members_per_device=members_per_device,
        probe=lambda state: measure.scalars(state.opt_state.statistics),
        series=lambda probed: measure.series({n: since(v) for n, v in probed.items()}),
    )


def since(sums: np.ndarray) -> np.ndarray:
    """What came to sums ``[P, K]`` since the point before, float64.

    Those of whole numbers are counted modulo 2**32. Sums of float32 are good to four digits and
    more over one of 40 stretches.
    """
    if np.issubdtype(sums.dtype, np.integer):
        whole: np.ndarray = np.diff(sums.astype(np.int64), axis=1, prepend=0)
        return np.mod(whole, 2**32).astype(np.float64)
    return np.diff(sums.astype(np.float64), axis=1, prepend=0.0)
