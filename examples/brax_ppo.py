"""A learned optimizer inside Brax's own PPO, beside Adam, on the inverted pendulum.

Brax's PPO makes its Adam itself and calls ``update(grads, state)`` without the parameters: the
optimizer is put in Adam's place while ``train`` is called, and keeps a copy of the parameters.
Brax 0.14 also calls a function that JAX 0.10 has no more, which is given back to it here.

    python examples/brax_ppo.py
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import optax
from absl import app, flags
from brax import envs
from brax.training.agents.ppo import networks, train

import learned_opt

_OPTIMIZER = flags.DEFINE_string(
    "optimizer", str(pathlib.Path(__file__).with_name("cartpole_open.npz")), "Optimizer file."
)
_TIMESTEPS = flags.DEFINE_integer("num_timesteps", 163_840, "Of training.", lower_bound=2048)
_RATE = flags.DEFINE_float("learning_rate", 0.003, "Adam's.", lower_bound=0.0)
_SEED = flags.DEFINE_integer("seed", 0, "Seed.")

NUM_ENVS, UNROLL, EPOCHS, MINIBATCHES = 64, 32, 2, 4


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """``jax.device_put_replicated``, as it was: one copy for each device."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (len(devices), *jnp.shape(x))), tree)


def final_return(tx: optax.GradientTransformation, seed: int) -> float:
    """Mean return of a trained agent's evaluation episodes (of 200 steps)."""
    batch_size = NUM_ENVS // MINIBATCHES
    make_networks = functools.partial(
        networks.make_ppo_networks,
        policy_hidden_layer_sizes=(16, 16),
        value_hidden_layer_sizes=(16, 16),
    )
    with (
        mock.patch.object(optax, "adam", return_value=tx),
        mock.patch.object(jax, "device_put_replicated", replicate, create=True),
    ):
        _, _, metrics = train.train(
            environment=envs.get_environment("inverted_pendulum", backend="spring"),
            num_timesteps=_TIMESTEPS.value,
            episode_length=200,
            num_envs=NUM_ENVS,
            unroll_length=UNROLL,
            batch_size=batch_size,
            num_minibatches=MINIBATCHES,
            num_updates_per_batch=EPOCHS,
            num_evals=2,
            normalize_observations=True,
            network_factory=make_networks,
            seed=seed,
        )
    return float(metrics["eval/episode_reward"])


def main(_) -> None:
    batches = -(-_TIMESTEPS.value // (NUM_ENVS * UNROLL))
    total_updates = batches * EPOCHS * MINIBATCHES
    learned = learned_opt.load(_OPTIMIZER.value).as_optax(
        total_updates=total_updates,
        updates_per_batch=EPOCHS * MINIBATCHES,
        epochs_per_batch=EPOCHS,
        actor_key="policy",
        keep_params=True,
    )
    print(f"learned: return {final_return(learned, _SEED.value):.1f}")
    adam = optax.adam(optax.linear_schedule(_RATE.value, 0.0, total_updates))
    print(f"Adam, annealed from {_RATE.value}: return {final_return(adam, _SEED.value):.1f}")


if __name__ == "__main__":
    app.run(main)
