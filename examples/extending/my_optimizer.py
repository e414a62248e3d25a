"""A learned optimizer of one's own: theta is the learning rate and the decay of a momentum.

Imported before a run (``--import=examples/extending/my_optimizer.py``), it goes by the name of
``my_optimizer`` wherever an optimizer is named.
"""

import jax
import jax.numpy as jnp
import optax

import learned_opt


def init(key):
    """Theta before any training."""
    del key  # nothing is drawn
    return {"log_rate": jnp.float32(-4.0), "decay_logit": jnp.float32(0.0)}


def transform(theta):
    """The ordinary optax transformation that theta stands for."""
    momentum = optax.trace(jax.nn.sigmoid(theta["decay_logit"]))
    step = optax.scale(-jnp.exp(theta["log_rate"]))
    return optax.with_extra_args_support(optax.chain(momentum, step))


learned_opt.register("my_optimizer", lambda: learned_opt.LearnedOptimizer(init, transform))
