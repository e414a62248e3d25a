"""A learned optimizer inside sbx-rl (Stable-Baselines3 in JAX), beside Adam, on CartPole.

sbx makes actor's and critic's optimizer with one call of the policy's ``optimizer_class``, so
the optimizer is told which is which by a function of the parameters. Environments run in
Python there: a minute or two for each optimizer.

    pip install sbx-rl
    python examples/sbx_ppo.py
"""

import pathlib
from typing import Any

import numpy as np
import optax
import sbx
from absl import app, flags
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import learned_opt

_OPTIMIZER = flags.DEFINE_string(
    "optimizer", str(pathlib.Path(__file__).with_name("cartpole_open.npz")), "Optimizer file."
)
_SEEDS = flags.DEFINE_integer("num_seeds", 2, "Agents trained with each optimizer.", lower_bound=1)
_TIMESTEPS = flags.DEFINE_integer("total_timesteps", 40_960, "Of each agent.", lower_bound=512)

NUM_ENVS, NUM_STEPS, EPOCHS, MINIBATCHES = 16, 32, 2, 4


def role(params: Any) -> str:
    """The critic is the network whose last layer gives one number."""
    layers = params["params"]
    return "critic" if layers[max(layers)]["bias"].shape == (1,) else "actor"


def final_return(optimizer_class: Any, learning_rate: Any, seed: int) -> float:
    """Mean return of 20 episodes of a trained agent."""
    env = make_vec_env("CartPole-v1", n_envs=NUM_ENVS, seed=seed)
    agent = sbx.PPO(
        "MlpPolicy",
        env,
        learning_rate=learning_rate,
        n_steps=NUM_STEPS,
        n_epochs=EPOCHS,
        batch_size=NUM_ENVS * NUM_STEPS // MINIBATCHES,
        ent_coef=0.01,
        policy_kwargs={"net_arch": [16, 16], "optimizer_class": optimizer_class},
        seed=seed,
    )
    agent.learn(_TIMESTEPS.value)
    mean_return, _ = evaluate_policy(agent, env, n_eval_episodes=20)
    return float(mean_return)


def main(_) -> None:
    trained = learned_opt.load(_OPTIMIZER.value)
    batches = -(-_TIMESTEPS.value // (NUM_ENVS * NUM_STEPS))
    tx = trained.as_optax(
        total_updates=batches * EPOCHS * MINIBATCHES,
        updates_per_batch=EPOCHS * MINIBATCHES,
        epochs_per_batch=EPOCHS,
        role=role,
    )

    def learned(learning_rate: float) -> optax.GradientTransformation:
        del learning_rate  # sbx hands one to every optimizer; this one has none
        return tx

    # Adam: the best of five rates in examples/rejax_ppo.py, annealed as there.
    contestants = {"learned": (learned, 0.0), "Adam": (optax.adam, lambda left: 0.01 * left)}
    for name, (optimizer_class, learning_rate) in contestants.items():
        returns = [final_return(optimizer_class, learning_rate, s) for s in range(_SEEDS.value)]
        print(f"{name}: returns {np.round(returns, 1).tolist()}, mean {np.mean(returns):.1f}")


if __name__ == "__main__":
    app.run(main)
