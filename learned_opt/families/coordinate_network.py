"""The network that OPEN applies to every parameter: a GRU and a small MLP.

``CoordinateNetwork`` is the definition, in Flax. ``evaluate`` computes the same outputs
for all D parameters at once on feature-major arrays, and is what optimizers run; a test
holds the two together.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

LAYER_NORM_EPSILON = 1e-6


class CoordinateNetwork(nn.Module):
    """GRU, then two layers of (dense, layer norm, ReLU), then a linear output.

    Module names are chosen so that the sorted parameter tree, flattened, is in the order
    of OPEN's published weights.

    Attributes:
      hidden_size: H, of the GRU.
      width: of the two dense layers.
      num_outputs: O.
    """

    hidden_size: int
    width: int
    num_outputs: int

    @nn.compact
    def __call__(self, hidden: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(hidden ``[..., H]``, inputs ``[..., F]``) -> (new hidden, outputs ``[..., O]``)."""
        hidden, x = nn.GRUCell(self.hidden_size, name="gru")(hidden, inputs)
        for layer in range(2):
            x = nn.Dense(self.width, name=f"layer{layer}_dense")(x)
            x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name=f"layer{layer}_norm")(x)
            x = nn.relu(x)
        return hidden, nn.Dense(self.num_outputs, name="layer2_dense")(x)

    def initial_theta(self, key: jax.Array, num_inputs: int) -> Any:
        """Flax's default initialisation (orthogonal and LeCun normal kernels)."""
        hidden = jnp.zeros((self.hidden_size,), jnp.float32)
        inputs = jnp.zeros((num_inputs,), jnp.float32)
        return self.init(key, hidden, inputs)["params"]


def evaluate(
    theta: Any, hidden: jax.Array, inputs: jax.Array, shared: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The network for all parameters at once.

    Two identities save work: sigmoid(x) = (1 + tanh(x / 2)) / 2, with the halving moved
    into the weights, and a dense layer with centred weights gives outputs that layer norm
    need not centre.

    Args:
      theta: parameters of a ``CoordinateNetwork`` with F inputs.
      hidden: GRU state ``[H, D]``.
      inputs: ``[R, D]``, the inputs that differ between parameters: the first R of F.
      shared: ``[F - R]``, the inputs that are the same for all parameters: the last.

    Returns:
      (new hidden ``[H, D]``, outputs ``[O, D]``).
    """
    hidden = gru_step(theta["gru"], hidden, inputs, shared)
    x = hidden
    for layer in range(2):
        x = _dense_norm_relu(theta[f"layer{layer}_dense"], theta[f"layer{layer}_norm"], x)
    output = theta["layer2_dense"]
    return hidden, output["kernel"].T @ x + output["bias"][:, None]


def gru_step(gru: Any, hidden: jax.Array, inputs: jax.Array, shared: jax.Array) -> jax.Array:
    """One step of the GRU for all parameters."""
    size, num_rows = hidden.shape[0], inputs.shape[0]
    half = jnp.repeat(jnp.array([0.5, 0.5, 1.0], jnp.float32), size)  # of reset, update, candidate
    kernel = jnp.concatenate([gru["ir"]["kernel"], gru["iz"]["kernel"], gru["in"]["kernel"]], 1)
    bias = jnp.concatenate([gru["ir"]["bias"], gru["iz"]["bias"], gru["in"]["bias"]])
    recurrent = jnp.concatenate([gru["hr"]["kernel"], gru["hz"]["kernel"], gru["hn"]["kernel"]], 1)
    bias = (bias + shared @ kernel[num_rows:]) * half
    from_inputs = (kernel[:num_rows] * half[None]).T @ inputs
    from_hidden = (recurrent * half[None]).T @ hidden
    gates = jnp.tanh(from_inputs[: 2 * size] + from_hidden[: 2 * size] + bias[: 2 * size, None])
    reset, update = 0.5 + 0.5 * gates[:size], 0.5 + 0.5 * gates[size:]
    recurrent_candidate = from_hidden[2 * size :] + gru["hn"]["bias"][:, None]
    candidate = jnp.tanh(
        from_inputs[2 * size :] + bias[2 * size :, None] + reset * recurrent_candidate
    )
    return candidate + update * (hidden - candidate)


def _dense_norm_relu(dense: Any, norm: Any, x: jax.Array) -> jax.Array:
    """``[W_in, D]`` -> ``[W_out, D]``."""
    kernel = dense["kernel"] - jnp.mean(dense["kernel"], axis=1, keepdims=True)
    bias = dense["bias"] - jnp.mean(dense["bias"])
    x = kernel.T @ x
    # A sum of rows, not a reduction over the leading axis: XLA's CPU backend does not
    # vectorise the latter (measured: 100 times slower on [16, 60000]). The bias is added
    # in both places, so that the sum with it need not be written to memory.
    variance = sum(jnp.square(row + b) for row, b in zip(x, bias, strict=True)) / x.shape[0]
    x = (x + bias[:, None]) * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)[None]
    return nn.relu(x * norm["scale"][:, None] + norm["bias"][:, None])
