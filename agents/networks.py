"""Actor and critic networks, their initialisation, and action distributions.

Actor and critic are two separate networks; ``params`` is
``{'actor': {...}, 'critic': {...}}``.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from agents.environments.base import Continuous, Discrete

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "swish": nn.swish,
    "gelu": nn.gelu,
    "elu": nn.elu,
}


@jax.custom_batching.sequential_vmap
def _orthogonal_columns(draws: jax.Array) -> jax.Array:
    """An orthonormal basis of the columns of ``[n, m]`` with n >= m, uniformly distributed.

    Under ``vmap`` this runs one matrix at a time: a batched QR decomposition inside a
    compiled program can deadlock XLA's CPU client when two of them run on a pool of two
    threads.
    """
    q, r = jnp.linalg.qr(draws)
    # The signs of r's diagonal make the distribution uniform (Haar); sign(0) would drop a
    # column, but a Gaussian draw is singular with probability 0.
    return q * jnp.sign(jnp.diagonal(r))


def orthogonal(scale: float) -> Callable[..., jax.Array]:
    """An initialiser with orthogonal rows or columns, safe under ``vmap`` on CPUs.

    Saxe et al. 2013 (arXiv 1312.6120). Use it in place of Flax's own wherever an
    initialisation may be vmapped inside ``jit``.
    """

    def initialise(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
        rows, columns = shape
        tall = (rows, columns) if rows >= columns else (columns, rows)
        basis = _orthogonal_columns(jax.random.normal(key, tall, dtype))
        return scale * (basis if rows >= columns else basis.T)

    return initialise


Activity = Any  # layer name -> mean |activation| of each neuron, over a batch


class MLP(nn.Module):
    """A multi-layer perceptron that also says how active its neurons were.

    Attributes:
      widths: of the hidden layers.
      num_outputs: O.
      activation: a name in ``ACTIVATIONS``.
      output_scale: of the orthogonal initialisation of the output layer.
      with_log_std: adds a free parameter ``log_std`` ``[O]``, started at 0.
    """

    widths: tuple[int, ...]
    num_outputs: int
    activation: str
    output_scale: float
    with_log_std: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """``[batch, features]`` -> (``[batch, O]``, layer name -> mean |activation| per neuron).

        The activity is averaged over the batch, after the nonlinearity; the output layer's
        is of the outputs themselves.
        """
        activity = {}
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, kernel_init=orthogonal(math.sqrt(2)), name=f"Dense_{i}")(x)
            x = ACTIVATIONS[self.activation](x)
            activity[f"Dense_{i}"] = jnp.mean(jnp.abs(x), axis=0)
        last = f"Dense_{len(self.widths)}"
        x = nn.Dense(self.num_outputs, kernel_init=orthogonal(self.output_scale), name=last)(x)
        activity[last] = jnp.mean(jnp.abs(x), axis=0)
        if self.with_log_std:
            self.param("log_std", nn.initializers.zeros, (self.num_outputs,))
        return x, activity


class Distribution(NamedTuple):
    """An action distribution over a batch.

    ``parameters`` are logits ``[batch, A]`` (``log_std`` None: categorical) or means
    ``[batch, A]`` of a diagonal Gaussian with ``log_std`` ``[A]``.
    """

    parameters: jax.Array
    log_std: jax.Array | None

    def sample(self, noise: jax.Array) -> jax.Array:
        """Actions, int32 ``[batch]`` or float32 ``[batch, A]``, from ``draw_noise``."""
        if self.log_std is None:
            return jnp.argmax(self.parameters + noise, axis=-1)
        return self.parameters + jnp.exp(self.log_std) * noise

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log-probability (density) of actions: ``[batch]``."""
        if self.log_std is None:
            log_probs = jax.nn.log_softmax(self.parameters)
            # A product with a one-hot row is cheaper than a gather in the backward pass.
            chosen = jax.nn.one_hot(action, log_probs.shape[-1], dtype=log_probs.dtype)
            return jnp.sum(log_probs * chosen, axis=-1)
        z = (action - self.parameters) * jnp.exp(-self.log_std)
        per_dimension = -0.5 * jnp.square(z) - self.log_std - 0.5 * math.log(2 * math.pi)
        return jnp.sum(per_dimension, axis=-1)

    def entropy(self) -> jax.Array:
        """Entropy in nats: ``[batch]``."""
        if self.log_std is None:
            log_probs = jax.nn.log_softmax(self.parameters)
            return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        per_dimension = self.log_std + 0.5 * (1.0 + math.log(2 * math.pi))
        return jnp.broadcast_to(jnp.sum(per_dimension), self.parameters.shape[:-1])


def draw_noise(
    key: jax.Array, action: Discrete | Continuous, leading: tuple[int, ...]
) -> jax.Array:
    """The randomness of actions, ``[*leading, A]``, drawn ahead for many steps at once.

    One large draw costs little more than one small one, as each draw is a chain of small
    kernels. Gumbel noise for discrete actions (added to logits, its argmax is a sample),
    normal noise for continuous ones.
    """
    if isinstance(action, Continuous):
        return jax.random.normal(key, (*leading, action.size))
    return jax.random.gumbel(key, (*leading, action.num_actions))


class ActorCritic(NamedTuple):
    """The two networks of an agent."""

    actor: MLP
    critic: MLP

    def init(self, key: jax.Array, observation: jax.Array, equal_hidden: bool) -> Any:
        """params ``{'actor': ..., 'critic': ...}`` for observations like ``[1, features]``.

        Args:
          key: a typed key.
          observation: an example.
          equal_hidden: start both networks from one key, so that their hidden layers start
            equal (as OPEN's released code does).
        """
        actor_key, critic_key = jax.random.split(key)
        critic_key = actor_key if equal_hidden else critic_key
        return {
            "actor": self.actor.init(actor_key, observation)["params"],
            "critic": self.critic.init(critic_key, observation)["params"],
        }

    def policy(self, params: Any, observation: jax.Array) -> tuple[Distribution, Activity]:
        """Observations ``[batch, features]`` -> (distribution, activity by layer)."""
        output, activity = self.actor.apply({"params": params["actor"]}, observation)
        return Distribution(output, params["actor"].get("log_std")), activity

    def value(self, params: Any, observation: jax.Array) -> tuple[jax.Array, Activity]:
        """Observations ``[batch, features]`` -> (values ``[batch]``, activity by layer)."""
        output, activity = self.critic.apply({"params": params["critic"]}, observation)
        return output[:, 0], activity


def make_actor_critic(
    action: Discrete | Continuous, widths: tuple[int, ...], activation: str
) -> ActorCritic:
    """Networks for an action space.

    Raises:
      ValueError: unknown activation, or a width below 1.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
    if any(width < 1 for width in widths):
        raise ValueError(f"layer widths must be at least 1, got {widths}")
    continuous = isinstance(action, Continuous)
    num_outputs = action.size if isinstance(action, Continuous) else action.num_actions
    build = functools.partial(MLP, widths=tuple(widths), activation=activation)
    return ActorCritic(
        actor=build(num_outputs=num_outputs, output_scale=0.01, with_log_std=continuous),
        critic=build(num_outputs=1, output_scale=1.0),
    )
