"""A learned optimizer inside rejax's PPO, beside Adam, on CartPole.

Actor and critic have an optimizer each there, made in one method: overriding it is all.

    pip install rejax
    python examples/rejax_ppo.py
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags, logging
from flax.training.train_state import TrainState
from gymnax.environments.classic_control.cartpole import CartPole
from rejax.algos.algorithm import register_init
from rejax.algos.ppo import PPO

import learned_opt
from lopt_rl.meta.results import bootstrap

_OPTIMIZER = flags.DEFINE_string(
    "optimizer", str(pathlib.Path(__file__).with_name("cartpole_open.npz")), "Optimizer file."
)
_SEEDS = flags.DEFINE_integer("num_seeds", 8, "Agents trained with each optimizer.", lower_bound=2)

ADAM_RATES = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1)
# What configs/cartpole_open.py trains with.
SETTINGS = {
    "total_timesteps": 40_960,
    "num_envs": 16,
    "num_steps": 32,
    "num_epochs": 2,
    "num_minibatches": 4,
    "max_grad_norm": 0.5,
    "agent_kwargs": {"hidden_layer_sizes": (16, 16), "activation": "tanh"},
    "eval_freq": 40_960,
}
UPDATES_PER_BATCH = SETTINGS["num_epochs"] * SETTINGS["num_minibatches"]
TOTAL_UPDATES = SETTINGS["total_timesteps"] // (16 * 32) * UPDATES_PER_BATCH


class OneDone(CartPole):
    """CartPole as rejax expects environments: termination and truncation in one flag."""

    def step(self, key, state, action, params=None):
        observation, state, reward, terminated, truncated, info = super().step(
            key, state, action, params
        )
        return observation, state, reward, terminated | truncated, info


def with_optimizers(make_tx) -> type[PPO]:
    """PPO that trains with ``make_tx(role)`` for the roles actor and critic."""

    class OtherPPO(PPO):
        @register_init
        def initialize_network_params(self, rng):
            states = super().initialize_network_params(rng)
            for role in ("actor", "critic"):
                tx = optax.chain(optax.clip_by_global_norm(self.max_grad_norm), make_tx(role))
                params = states[f"{role}_ts"].params
                states[f"{role}_ts"] = TrainState.create(apply_fn=(), params=params, tx=tx)
            return states

    return OtherPPO


def train(make_tx, keys: jax.Array) -> jax.Array:
    """One agent per key; the mean return of 128 episodes of each after training: ``[S]``."""
    algorithm = with_optimizers(make_tx).create(env=OneDone(), **SETTINGS)
    _, (_, returns) = jax.vmap(algorithm.train)(keys)
    return jnp.mean(returns[:, -1], axis=-1)


def adam(rate):
    """Adam for either role, its learning rate annealed to 0."""
    return lambda role: optax.adam(optax.linear_schedule(rate, 0.0, TOTAL_UPDATES))


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)
    trained = learned_opt.load(_OPTIMIZER.value)

    def learned(role):
        return trained.as_optax(
            total_updates=TOTAL_UPDATES,
            updates_per_batch=UPDATES_PER_BATCH,
            epochs_per_batch=SETTINGS["num_epochs"],
            role=role,
        )

    tuning_keys, keys = jax.random.split(jax.random.key(0), (2, _SEEDS.value))
    tuned = jax.jit(jax.vmap(lambda rate: train(adam(rate), tuning_keys)))(jnp.array(ADAM_RATES))
    means = np.round(np.mean(tuned, axis=1), 1)
    best = ADAM_RATES[int(np.argmax(means))]
    print(f"Adam, annealed: mean returns {means.tolist()} by learning rate {ADAM_RATES}")
    for name, make_tx in (("learned", learned), (f"Adam, annealed from {best}", adam(best))):
        returns = np.asarray(jax.jit(lambda keys, tx=make_tx: train(tx, keys))(keys), np.float64)
        iqm = bootstrap.interval(returns)
        print(
            f"{name}: returns {np.round(returns, 1).tolist()}, "
            f"IQM {iqm.point:.1f} [{iqm.low:.1f}, {iqm.high:.1f}]"
        )


if __name__ == "__main__":
    app.run(main)
