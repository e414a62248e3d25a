"""Actor and critic networks, their initialisation, and action distributions.

``params`` is ``{'actor': {...}, 'critic': {...}}``. By default these are two separate networks.
A shared network (as in Optim4RL's gridworlds) is stored under the same two names: the actor
holds the trunk and the policy's head, and the critic, which has its head alone, reads the
actor's last hidden layer. So the value loss reaches the trunk through ``params['actor']``, and
whatever is done per network (gradient clipping, a mask for the actor) treats the trunk as a
part of the actor.
"""

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


def check_activation(name: Any, field: str = "activation") -> None:
    """Raises a ValueError that lists the known ones if there is no such activation."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown {field} {name!r}; known: {', '.join(ACTIVATIONS)}")


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

    def initialise(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        # A convolution's kernel [height, width, in, out] is the matrix of its patches.
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = (rows, columns) if rows >= columns else (columns, rows)
        basis = _orthogonal_columns(jax.random.normal(key, tall, dtype))
        return (scale * (basis if rows >= columns else basis.T)).reshape(shape)

    return initialise


def _convolve(x: jax.Array, kernel: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    """A convolution of stride 1 that keeps the size, as one matrix product over patches.

    What Flax calls in place of ``lax.conv_general_dilated``, for ``[batch, height, width, in]``
    and ``[height, width, in, out]``. On CPUs it is 2 to 5 times faster for the small kernels
    and few channels of gridworlds, most of all under ``vmap`` over agents, where XLA makes
    a grouped convolution of one with batched kernels.
    """
    del args, kwargs  # strides 1, padding SAME, no dilation: all that `Network` asks for
    batch, height, width, _ = x.shape
    rows, columns, _, filters = kernel.shape
    top, left = (rows - 1) // 2, (columns - 1) // 2
    padding = ((0, 0), (top, rows - 1 - top), (left, columns - 1 - left), (0, 0))
    padded = jnp.pad(x, padding)
    patches = jnp.stack(
        [padded[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)],
        axis=-2,
    )
    flat = patches.reshape(batch * height * width, -1) @ kernel.reshape(-1, filters)
    return flat.reshape(batch, height, width, filters)


Activity = Any  # layer name -> mean |activation| of each neuron, over a batch


class Output(NamedTuple):
    """What a network computes for a batch.

    Attributes:
      values: ``[batch, O]``.
      activity: layer name -> mean |activation| per neuron ``[neurons]`` (per filter, over
        positions as well, of a convolution), after the nonlinearity; the output layer's
        is of the outputs themselves.
      features: ``[batch, F]``, what the output layer reads.
    """

    values: jax.Array
    activity: dict[str, jax.Array]
    features: jax.Array


class Network(nn.Module):
    """Convolutions, if any, then a multi-layer perceptron; says how active its neurons were.

    Attributes:
      widths: of the hidden dense layers.
      num_outputs: O.
      activation: a name in ``ACTIVATIONS``.
      output_scale: of the orthogonal initialisation of the output layer.
      with_log_std: adds a free parameter ``log_std`` ``[O]``, started at 0.
      convolutions: (filters, kernel size) of each, of stride 1 and with zeros around the
        borders so that the size stays (Flax' and TensorFlow's ``SAME``).
      observation_shape: (height, width, channels) of what is convolved.
    """

    widths: tuple[int, ...]
    num_outputs: int
    activation: str
    output_scale: float
    with_log_std: bool = False
    convolutions: tuple[tuple[int, int], ...] = ()
    observation_shape: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array) -> Output:
        """``[batch, features]``, flat whatever the observation's shape -> ``Output``."""
        activity = {}
        activate, hidden_init = ACTIVATIONS[self.activation], orthogonal(math.sqrt(2))
        if self.convolutions:
            x = x.reshape(x.shape[0], *self.observation_shape)
        for i, (filters, size) in enumerate(self.convolutions):
            convolution = nn.Conv(
                filters,
                (size, size),
                kernel_init=hidden_init,
                conv_general_dilated=_convolve,
                name=f"Conv_{i}",
            )
            x = activate(convolution(x))
            activity[f"Conv_{i}"] = jnp.mean(jnp.abs(x), axis=(0, 1, 2))
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.widths):
            x = activate(nn.Dense(width, kernel_init=hidden_init, name=f"Dense_{i}")(x))
            activity[f"Dense_{i}"] = jnp.mean(jnp.abs(x), axis=0)
        last = f"Dense_{len(self.widths)}"
        output_init = orthogonal(self.output_scale)
        values = nn.Dense(self.num_outputs, kernel_init=output_init, name=last)(x)
        activity[last] = jnp.mean(jnp.abs(values), axis=0)
        if self.with_log_std:
            self.param("log_std", nn.initializers.zeros, (self.num_outputs,))
        return Output(values, activity, x)


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
    """The two networks of an agent.

    Attributes:
      actor: from observations to the policy.
      critic: from observations to values, or if shared, from the actor's last hidden layer.
      shared: whether the actor's hidden layers are the critic's as well.
    """

    actor: Network
    critic: Network
    shared: bool = False

    def init(self, key: jax.Array, observation: jax.Array, equal_hidden: bool) -> Any:
        """params ``{'actor': ..., 'critic': ...}`` for observations like ``[1, features]``.

        With ``equal_hidden`` both networks start from one key, so that their hidden layers
        start equal where they are of equal sizes (as OPEN's released code does).
        """
        actor_key, critic_key = jax.random.split(key)
        critic_key = actor_key if equal_hidden else critic_key
        actor = self.actor.init(actor_key, observation)["params"]
        critic_input = self._critic_input(actor, observation)
        return {"actor": actor, "critic": self.critic.init(critic_key, critic_input)["params"]}

    def policy(self, params: Any, observation: jax.Array) -> tuple[Distribution, Activity]:
        """Observations ``[batch, features]`` -> (distribution, activity by layer)."""
        output = apply(self.actor, params["actor"], observation)
        return Distribution(output.values, params["actor"].get("log_std")), output.activity

    def value(self, params: Any, observation: jax.Array) -> tuple[jax.Array, Activity]:
        """Observations ``[batch, features]`` -> (values ``[batch]``, activity by layer).

        The activity is of the critic's own layers. A shared trunk is written here again, and
        XLA computes it once where ``policy`` is called on the same observations.
        """
        critic_input = self._critic_input(params["actor"], observation)
        output = apply(self.critic, params["critic"], critic_input)
        return output.values[:, 0], output.activity

    def _critic_input(self, actor: Any, observation: jax.Array) -> jax.Array:
        if not self.shared:
            return observation
        return apply(self.actor, actor, observation).features


def apply(network: Network, params: Any, x: jax.Array) -> Output:
    """What a network with these params computes for a batch ``[batch, features]``."""
    output = network.apply({"params": params}, x)
    assert isinstance(output, Output)  # no mutable collections are asked for
    return output


def make_actor_critic(
    action: Discrete | Continuous,
    widths: tuple[int, ...],
    activation: str,
    *,
    critic_widths: tuple[int, ...] | None = None,
    critic_activation: str | None = None,
    convolutions: tuple[tuple[int, int], ...] = (),
    observation_shape: tuple[int, ...] = (),
    shared: bool = False,
) -> ActorCritic:
    """Networks for an action space, with settings as ``AgentConfig`` explains them.

    ``observation_shape``, of one observation, is only read where there are convolutions.

    Raises:
      ValueError: unknown activation, a width, filter count or kernel size below 1, or
        convolutions over observations that are not (height, width, channels).
    """
    critic_activation = activation if critic_activation is None else critic_activation
    if critic_widths is None:
        critic_widths = () if shared else widths
    for name in (activation, critic_activation):
        check_activation(name)
    for sizes in (widths, critic_widths):
        if any(width < 1 for width in sizes):
            raise ValueError(f"layer widths must be at least 1, got {sizes}")
    _check_convolutions(convolutions, observation_shape)
    actor = Network(
        widths=tuple(widths),
        num_outputs=action.size if isinstance(action, Continuous) else action.num_actions,
        activation=activation,
        output_scale=0.01,
        with_log_std=isinstance(action, Continuous),
        convolutions=tuple(convolutions),
        observation_shape=tuple(observation_shape),
    )
    critic = Network(
        widths=tuple(critic_widths),
        num_outputs=1,
        activation=critic_activation,
        output_scale=1.0,
        convolutions=() if shared else tuple(convolutions),
        observation_shape=tuple(observation_shape),
    )
    return ActorCritic(actor, critic, shared)


def _check_convolutions(
    convolutions: tuple[tuple[int, int], ...], observation_shape: tuple[int, ...]
) -> None:
    if any(len(sizes) != 2 or min(sizes) < 1 for sizes in convolutions):
        raise ValueError(
            "convolutions are pairs (filters, kernel size), each at least 1, got "
            f"{tuple(convolutions)}"
        )
    if convolutions and len(observation_shape) != 3:
        raise ValueError(
            "convolutions need observations of the shape (height, width, channels), and these "
            f"are {tuple(observation_shape)}; leave convolutions empty"
        )
