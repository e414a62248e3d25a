"""Training one agent to its horizon on one device."""

import jax
import jax.numpy as jnp

from agents.base import TrainState
from learned_opt.base import LearnedOptimizer, MetaParams
from meta.engine.pace import Pace
from meta.engine.tasks import Task
from meta.runs import progress


def train(
    optimizer: LearnedOptimizer,
    theta: MetaParams,
    task: Task,
    key: jax.Array,
    bar: progress.Progress,
) -> TrainState:
    """Trains one agent to the task's horizon, on one device; returns its last state.

    Raises:
      progress.Stopped: stopped by a signal, within seconds.
    """
    agent = task.agent

    def advance(theta: MetaParams, state: TrainState, count: jax.Array) -> TrainState:
        tx = optimizer.transform(theta)
        return jax.lax.fori_loop(0, count, lambda _, s: agent.train_step(tx, s)[0], state)

    start = jax.jit(lambda theta, key: agent.init(key, optimizer.transform(theta)))
    go_on = jax.jit(advance, donate_argnums=1)
    state = start(theta, key)
    # How training is cut into calls changes nothing in it: it is one compiled program.
    for count, done in Pace().calls([agent.num_iterations]):
        state = jax.block_until_ready(go_on(theta, state, jnp.int32(count)))
        bar.share(done / agent.num_iterations)
    return state
