"""A learned optimizer in a plain Flax ``TrainState``: an actor-critic for a contextual bandit.

python examples/flax_train_state.py
"""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from absl import app, flags
from flax.training.train_state import TrainState

import learned_opt

_OPTIMIZER = flags.DEFINE_string(
    "optimizer", str(pathlib.Path(__file__).with_name("cartpole_open.npz")), "Optimizer file."
)

NUM_UPDATES, BATCH = 600, 64


class Network(nn.Module):
    """The submodules' names, actor and critic, are what a learned optimizer goes by."""

    def setup(self):
        self.actor = nn.Sequential([nn.Dense(16), nn.tanh, nn.Dense(4)])
        self.critic = nn.Sequential([nn.Dense(16), nn.tanh, nn.Dense(1)])

    def __call__(self, context):
        return self.actor(context), self.critic(context)[..., 0]


def update(state: TrainState, key: jax.Array) -> tuple[TrainState, jax.Array]:
    """One policy gradient step; the right one of 4 arms is where the context is largest."""
    context_key, arm_key = jax.random.split(key)
    context = jax.random.normal(context_key, (BATCH, 4))
    logits, _ = state.apply_fn(state.params, context)
    arm = jax.random.categorical(arm_key, logits)
    reward = (arm == jnp.argmax(context, axis=1)).astype(jnp.float32)

    def loss(params):
        logits, value = state.apply_fn(params, context)
        log_prob = jnp.take_along_axis(nn.log_softmax(logits), arm[:, None], axis=1)[:, 0]
        advantage = jax.lax.stop_gradient(reward - value)
        return jnp.mean(-advantage * log_prob + 0.5 * (value - reward) ** 2)

    return state.apply_gradients(grads=jax.grad(loss)(state.params)), jnp.mean(reward)


def main(_) -> None:
    network = Network()
    params = network.init(jax.random.key(0), jnp.zeros((1, 4)))
    learned = learned_opt.load(_OPTIMIZER.value).as_optax(total_updates=NUM_UPDATES)
    for name, tx in (("learned", learned), ("Adam, 0.01", optax.adam(0.01))):
        state = TrainState.create(apply_fn=network.apply, params=params, tx=tx)
        keys = jax.random.split(jax.random.key(1), NUM_UPDATES)
        _, rewards = jax.jit(lambda state, keys: jax.lax.scan(update, state, keys))(state, keys)
        print(f"{name}: reward {rewards[:20].mean():.2f} at first, {rewards[-20:].mean():.2f} last")


if __name__ == "__main__":
    app.run(main)
