"""What an agent is: a training step that takes any optimizer."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from agents import normalization


class TrainState(NamedTuple):
    """Everything that one agent's training carries from iteration to iteration.

    The optimizer is not part of it: it is an argument of every function that needs it.

    Attributes:
      params: ``{'actor': ..., 'critic': ...}``.
      opt_state: the optimizer's state.
      env_state: of B parallel environments.
      observation: ``[B, features]``, to act on next; normalised if the agent normalises.
      observation_statistics: running statistics, or None where not normalised.
      reward_scaler: or None where rewards are not scaled.
      episode_return, episode_length: ``[B]``, of the last finished episode; before the first
        has finished, the return is NaN and the length 0. ``mean_return`` averages them.
      iteration: int32 scalar, iterations done.
      key: the key of all randomness to come.
    """

    params: Any
    opt_state: optax.OptState
    env_state: Any
    observation: jax.Array
    observation_statistics: normalization.Statistics | None
    reward_scaler: normalization.RewardScaler | None
    episode_return: jax.Array
    episode_length: jax.Array
    iteration: jax.Array
    key: jax.Array


Metrics = dict[str, jax.Array]  # name -> float32 scalar


def mean_return(episode_return: jax.Array) -> jax.Array:
    """The mean of the last finished episodes, over the environments where one has finished.

    Args:
      episode_return: ``[B]``, NaN where none has.

    Returns:
      float32 scalar; NaN where none has finished in any.
    """
    finished = ~jnp.isnan(episode_return)
    # Not the sum over the count: where all have finished, this is the plain mean to the bit.
    mean = jnp.mean(jnp.where(finished, episode_return, 0.0))
    return mean * (len(episode_return) / jnp.sum(finished))  # 0 * inf is NaN


class Agent(Protocol):
    """One inner loop: an algorithm in an environment over a horizon.

    ``tx`` is an optax transformation that accepts the update context (see
    ``learned_opt.base``). All functions are pure and can be jitted, vmapped and scanned.
    """

    @property
    def num_iterations(self) -> int:
        """Iterations until the horizon."""
        ...

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps in one iteration."""
        ...

    @property
    def updates_per_iteration(self) -> int:
        """Optimizer updates in one iteration: epochs x minibatches."""
        ...

    def init(self, key: jax.Array, tx: optax.GradientTransformation) -> TrainState:
        """A new agent in freshly reset environments."""
        ...

    def train_step(
        self, tx: optax.GradientTransformation, state: TrainState
    ) -> tuple[TrainState, Metrics]:
        """One iteration: a rollout and all its epochs and minibatches."""
        ...

    def outer_loss(self, state: TrainState) -> tuple[jax.Array, TrainState]:
        """The agent's loss on a fresh rollout, differentiable in ``state.params``.

        The rollout's data are constants (``stop_gradient``), so the gradient is that of
        the policy and value losses alone. The returned state carries the moved
        environments.
        """
        ...
