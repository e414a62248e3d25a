"""Your own Haiku network as a learned optimizer: trained by ES on Catch, saved and loaded."""

import haiku as hk
import jax
import jax.numpy as jnp

import learned_opt
from lopt_rl.configs import blocks, demo
from lopt_rl.meta.training import evolution, experiment


def network(features):
    """A parameter's gradient and momenta to its direction and log-magnitude: [D, 4] -> [D, 2]."""
    hidden = jnp.tanh(hk.Linear(8)(features))
    learned = hk.Linear(2, w_init=jnp.zeros)(hidden)
    return learned + features[:, 1:2] * jnp.array([1.0, 0.0])  # begins as momentum SGD


transformed = hk.without_apply_rng(hk.transform(network))
rule = learned_opt.UpdateRule(("gradient", "momentum"), 0.003, magnitude_multiplier=1.0)
learned_opt.register("my_haiku", lambda: learned_opt.from_haiku(transformed, rule))
config = blocks.experiment({"catch": demo.get_config().tasks.catch}, optimizer="my_haiku")
config.outer.update(population_size=16, sigma=0.1, learning_rate=0.1)
run = experiment.build(config.to_dict())
state, held_out = run.trainer.init(run.keys.training), jax.random.split(run.keys.validation, 16)
before, _ = evolution.validate(run.trainer.theta(state), run.tasks, run.engines, held_out)
for generation in range(10):
    state, metrics = run.trainer.step(state)
    print(f"generation {generation}: mean fitness {metrics['fitness_mean']:.2f}", flush=True)
theta = run.trainer.theta(state)
after, _ = evolution.validate(theta, run.tasks, run.engines, held_out)
print(f"mean return on held-out seeds: {before:.2f} before training, {after:.2f} after")
learned_opt.save("my_haiku.npz", "my_haiku", theta)
loaded = learned_opt.load("my_haiku.npz")
params = {"layer": {"kernel": jnp.eye(3)}}
txs = run.optimizer.transform(theta), loaded.as_optax(total_updates=1)
one, two = (tx.update(params, tx.init(params), params)[0]["layer"]["kernel"] for tx in txs)
print("equal updates after loading:", bool(jnp.array_equal(one, two)))
