"""Agents with a network of one's own: a layer of sines, trained by Adam on Catch.

python examples/extending/my_network.py
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

import learned_opt
from lopt_rl.agents import ActorCriticAgent, AgentConfig, environments
from lopt_rl.agents.networks import ActorCritic, Output


class Sines(nn.Module):
    """``[batch, features]`` -> outputs, what they are made of, and how active each neuron was."""

    num_outputs: int

    @nn.compact
    def __call__(self, x):
        hidden = jnp.sin(nn.Dense(32, name="sines")(x))
        small = nn.initializers.normal(0.01)
        outputs = nn.Dense(self.num_outputs, name="output", kernel_init=small)(hidden)
        activity = {
            "sines": jnp.mean(jnp.abs(hidden), axis=0),
            "output": jnp.mean(jnp.abs(outputs), axis=0),
        }
        return Output(outputs, activity, hidden)


env = environments.make("catch")
config = AgentConfig(
    total_timesteps=20_480, num_envs=16, num_steps=32, num_epochs=2, num_minibatches=4
)
network = ActorCritic(actor=Sines(env.spec.action.num_actions), critic=Sines(1))
agent = ActorCriticAgent(config, env, network)
tx = learned_opt.make("adam", learning_rate=0.01, anneal=True).transform({})
state = agent.init(jax.random.key(0), tx)


def iterate(state, _):
    """One iteration of PPO, and the return of the last episodes."""
    state, metrics = agent.train_step(tx, state)
    return state, metrics["episode_return"]


_, returns = jax.jit(lambda state: jax.lax.scan(iterate, state, length=config.num_iterations))(
    state
)
print(f"mean return: {returns[:5].mean():.2f} at first, {returns[-5:].mean():.2f} at last")
