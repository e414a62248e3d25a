"""A stretch of an inner loop that theta can be differentiated through.

The very same ``agent.train_step`` that evolution strategies run; what meta-gradients need
beyond it is put around the optimizer: where derivatives are cut, what is recomputed in
the backward pass rather than kept, and what is measured of the updates.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from agents.base import Agent, TrainState, mean_return
from learned_opt import flat, kernels
from learned_opt.base import LearnedOptimizer, MetaParams
from meta.engine.watching import Measure, Update, WatchedState, watched

# What the backward pass recomputes: nothing; the inside of each optimizer update; or each
# whole iteration (and then, within it, the inside of each update).
REMAT = ("none", "update", "iteration")


class UpdateStatistics(NamedTuple):
    """Sums over the inner updates of one stretch, float32 scalars.

    Attributes:
      squared_norm: of the update.
      relative_norm: of the update over the parameters' norm.
      agreement: share of the parameters whose update goes against the gradient's sign.
      num_updates: so far.
    """

    squared_norm: jax.Array
    relative_norm: jax.Array
    agreement: jax.Array
    num_updates: jax.Array


class Stretch(NamedTuple):
    """What one agent's stretch of training gives.

    Attributes:
      outer_loss: the agent's loss on fresh data after the last update.
      episode_return: of the last finished episodes, averaged over the environments where one
        has finished; NaN where none has.
      update_norm: root mean square norm of the updates.
      relative_update: mean norm of an update over that of the parameters.
      sign_agreement: in [0, 1], share of the elements of updates that go against the sign of
        the gradient.
    """

    outer_loss: jax.Array
    episode_return: jax.Array
    update_norm: jax.Array
    relative_update: jax.Array
    sign_agreement: jax.Array


def differentiable(
    tx: optax.GradientTransformationExtraArgs, *, second_order: bool, remat: bool
) -> optax.GradientTransformationExtraArgs:
    """The same transformation, differentiable as meta-gradients want it.

    Args:
      tx: the optimizer.
      second_order: whether derivatives flow through the gradients, losses and activities that
        the optimizer sees. If not, these are constants, and the backward pass needs neither
        the rollouts nor the agent's loss.
      remat: recompute the inside of an update in the backward pass.
    """

    def update(grads: Any, state: Any, params: Any, **context: Any) -> tuple[Any, Any]:
        if not second_order:
            grads, context = jax.lax.stop_gradient((grads, context))

        def apply(grads: Any, state: Any, params: Any, context: dict) -> tuple[Any, Any]:
            return tx.update(grads, state, params, **context)

        return (jax.checkpoint(apply) if remat else apply)(grads, state, params, context)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _zeros() -> UpdateStatistics:
    return UpdateStatistics(*(jnp.float32(0.0) for _ in UpdateStatistics._fields))


def _measure(update: Update, state: WatchedState) -> tuple[UpdateStatistics, jax.Array | None]:
    """Statistics of one update; with all of the stretch's gradients where they are recorded."""
    squared = optax.tree.norm(update.updates, squared=True)
    # Only the squared norm may enter the outer loss; a root's derivative at 0 is not finite.
    constant = jax.lax.stop_gradient((squared, update.grads, update.updates, update.params))
    size, grads, updates, params = constant
    record = state.gradients
    if record is not None:
        row = flat.flatten(grads, flat.layout_of(params))
        number = state.statistics.num_updates.astype(jnp.int32)
        record = jax.lax.dynamic_update_index_in_dim(record, row, number, 0)
    against = [
        jnp.sum(jnp.sign(u) * jnp.sign(g) < 0)
        for u, g in zip(jax.tree.leaves(updates), jax.tree.leaves(grads), strict=True)
    ]
    elements = sum(leaf.size for leaf in jax.tree.leaves(updates))
    # 1e-12 keeps the ratio finite for parameters that are all 0.
    relative = jnp.sqrt(size) / (optax.tree.norm(params) + 1e-12)
    agreement = sum(against) / max(elements, 1)
    return UpdateStatistics(squared, relative, agreement, jnp.float32(1.0)), record


_MEASURE = Measure(lambda params: (_zeros(), None), _measure)


class InnerLoop(NamedTuple):
    """An agent's training with one family of optimizers, cut into stretches.

    Attributes:
      agent: the inner loop.
      optimizer: the family.
      inner_updates: K, iterations of the agent in a stretch.
      remat: a name in ``REMAT``.
      second_order: see ``differentiable``.
      regularization: weight of the mean squared norm of an update in the outer objective.
    """

    agent: Agent
    optimizer: LearnedOptimizer
    inner_updates: int
    remat: str
    second_order: bool
    regularization: float

    def init(self, key: jax.Array) -> TrainState:
        """A new agent. The state's structure does not depend on theta."""
        shapes = jax.eval_shape(self.optimizer.init, jax.random.key(0))
        return self.agent.init(key, self._transform(jax.tree.map(jnp.zeros_like, shapes)))

    def _transform(self, theta: MetaParams) -> optax.GradientTransformationExtraArgs:
        tx = self.optimizer.transform(theta)
        remat = self.remat != "none"
        return watched(differentiable(tx, second_order=self.second_order, remat=remat), _MEASURE)

    def objective(
        self, theta: MetaParams, state: TrainState
    ) -> tuple[jax.Array, tuple[TrainState, Stretch]]:
        """K iterations with theta, then the loss on a fresh rollout.

        Differentiable in theta through all optimizer updates of the stretch. The state that
        the stretch began with and the one it ends with are constants (truncation).

        Returns:
          (outer loss with regularisation, (state to go on from, what was measured)).
        """
        before = jax.lax.stop_gradient(state)
        before = before._replace(opt_state=before.opt_state._replace(statistics=_zeros()))
        recorder = self.recorder
        state = (
            self._recorded(recorder, theta, before) if recorder else self._trained(theta, before)
        )
        loss, state = self.agent.outer_loss(state)
        sums = state.opt_state.statistics  # at least one update was made, so num_updates >= 1
        penalty = sums.squared_norm / sums.num_updates
        stretch = Stretch(
            outer_loss=loss,
            episode_return=mean_return(state.episode_return),
            update_norm=jnp.sqrt(jax.lax.stop_gradient(penalty)),
            relative_update=sums.relative_norm / sums.num_updates,
            sign_agreement=sums.agreement / sums.num_updates,
        )
        value = loss + self.regularization * penalty
        return value, jax.lax.stop_gradient((state, stretch))

    @property
    def recorder(self) -> kernels.Stretch | None:
        """The optimizer's derivative of a whole stretch, where it has one that can be used.

        Then only the gradients are kept for the backward pass, and nothing else is computed
        again, whatever ``remat`` says.
        """
        return None if self.second_order else kernels.stretch_of(self.optimizer)

    @property
    def updates(self) -> int:
        """S, optimizer updates in a stretch."""
        return self.inner_updates * self.agent.updates_per_iteration

    def _trained(self, theta: MetaParams, state: TrainState) -> TrainState:
        """After K iterations."""
        tx = self._transform(theta)

        def step(state: TrainState, _: None) -> tuple[TrainState, None]:
            return self.agent.train_step(tx, state)[0], None

        if self.remat == "iteration":
            step = jax.checkpoint(step)
        return jax.lax.scan(step, state, None, length=self.inner_updates)[0]

    def _recorded(
        self, recorder: kernels.Stretch, theta: MetaParams, before: TrainState
    ) -> TrainState:
        """The same with the derivative of ``recorder``.

        Agents move their parameters by the sum of the updates, so these alone are differentiated.
        """
        size = flat.layout_of(before.params).num_parameters
        record = jnp.zeros((self.updates, size), jnp.float32)
        opt_state = before.opt_state._replace(gradients=record)
        theta_constant = jax.lax.stop_gradient(theta)
        after = self._trained(theta_constant, before._replace(opt_state=opt_state))
        after = jax.lax.stop_gradient(after)
        opt_state = after.opt_state
        known = kernels.StretchResult(after.params, opt_state.statistics.squared_norm)
        result = recorder(theta, before.opt_state.inner, opt_state.gradients, known)
        statistics = opt_state.statistics._replace(squared_norm=result.squared_norm)
        opt_state = opt_state._replace(statistics=statistics, gradients=None)
        return after._replace(params=result.params, opt_state=opt_state)
