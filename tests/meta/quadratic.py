"""An agent whose training can be worked out by hand: gradient descent on a quadratic."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from agents.base import Metrics, TrainState

CURVATURE = jnp.array([1.0, 0.3, 0.1])


class QuadraticAgent:
    """Minimises sum(curvature * params^2) / 2 from a start that its key decides.

    The episode return is minus the loss.
    """

    num_iterations = 8
    steps_per_iteration = 1
    updates_per_iteration = 1

    def init(self, key: jax.Array, tx: optax.GradientTransformation) -> TrainState:
        start, key = jax.random.split(key)
        params = {"actor": {"w": 1.0 + jax.random.uniform(start, (3,))}}
        return TrainState(
            params=params,
            opt_state=tx.init(params),
            env_state=(),
            observation=jnp.zeros((1, 1)),
            observation_statistics=None,
            reward_scaler=None,
            episode_return=jnp.zeros((1,)),
            episode_length=jnp.zeros((1,), jnp.int32),
            iteration=jnp.int32(0),
            key=key,
        )

    def train_step(
        self, tx: optax.GradientTransformation, state: TrainState
    ) -> tuple[TrainState, Metrics]:
        grads = jax.grad(loss)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state._replace(
            params=params,
            opt_state=opt_state,
            iteration=state.iteration + 1,
            episode_return=jnp.full((1,), -loss(params)),
        )
        return state, {}

    def outer_loss(self, state: TrainState) -> tuple[jax.Array, TrainState]:
        return loss(state.params), state


def loss(params: Any) -> jax.Array:
    return 0.5 * jnp.sum(CURVATURE * jnp.square(params["actor"]["w"]))
