"""Supervised classification as an inner loop: an ``agents.base.Agent`` without an environment.

What the words of reinforcement learning stand for here: an environment step is a training
example that was learned from, counted again each time it is seen; an iteration is a block of
minibatches; and the episode return is the accuracy on examples that were not learned from, in
[0, 1], after the iteration. These are the validation examples, unless the agent is to be
``measured_on`` the test examples, which is for comparing finished optimizers alone.

The network stands under ``params['actor']``: like an actor it maps an input to logits, and so
optimizers that were trained on actors and critics run here unchanged, and the other way round.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from agents import networks
from agents.actor_critic import dormancy, proportion
from agents.base import Metrics, TrainState
from agents.datasets import Dataset, Examples
from agents.networks import Network


@dataclasses.dataclass(frozen=True)
class SupervisedConfig:
    """The settings of supervised learning, checked before anything is compiled.

    Attributes:
      algorithm: ``supervised``.
      total_timesteps: the horizon in training examples seen; rounded down to whole iterations.
      batch_size: examples in a minibatch.
      num_minibatches: updates in an iteration; its examples are drawn afresh, each at most
        once, so that ``batch_size x num_minibatches`` is at most what there is to learn from.
      widths: of the hidden dense layers.
      activation: a name in ``networks.ACTIVATIONS``.
      l2: weight of half the squared norm of all kernels in the loss, >= 0.
      max_grad_norm: bound on the global norm of the gradient; 0 is no bound.
    """

    algorithm: str = "supervised"
    total_timesteps: int = 51_200
    batch_size: int = 64
    num_minibatches: int = 16
    widths: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    l2: float = 0.0
    max_grad_norm: float = 0.0

    def __post_init__(self):
        if self.algorithm != "supervised":
            raise ValueError(f"unknown agent {self.algorithm!r} for datasets; known: supervised")
        for name in ("batch_size", "num_minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("l2", "max_grad_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        object.__setattr__(self, "widths", tuple(self.widths))
        if any(width < 1 for width in self.widths):
            raise ValueError(f"layer widths must be at least 1, got {self.widths}")
        networks.check_activation(self.activation)
        if self.num_iterations < 1:
            raise ValueError(
                f"total_timesteps={self.total_timesteps} is less than one iteration of "
                f"batch_size x num_minibatches = {self.iteration_size}; give at least "
                f"{self.iteration_size}"
            )

    @property
    def iteration_size(self) -> int:
        """Training examples per iteration."""
        return self.batch_size * self.num_minibatches

    @property
    def updates_per_iteration(self) -> int:
        """One for each minibatch."""
        return self.num_minibatches

    @property
    def num_iterations(self) -> int:
        """Whole iterations within the horizon."""
        return int(self.total_timesteps) // self.iteration_size


class Terms(NamedTuple):
    """The loss and what is shown of it, scalars: ``total`` is ``cross_entropy`` with l2."""

    total: jax.Array
    cross_entropy: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class SupervisedAgent:
    """An ``agents.base.Agent`` that learns to classify a dataset.

    Attributes:
      config: the settings.
      data: what is learned.
      network: the classifier.
      measured_on: ``validation`` or ``test``: what the accuracy is of.
    """

    config: SupervisedConfig
    data: Dataset
    network: Network
    measured_on: str = "validation"

    @property
    def num_iterations(self) -> int:
        return self.config.num_iterations

    @property
    def steps_per_iteration(self) -> int:
        return self.config.iteration_size

    @property
    def updates_per_iteration(self) -> int:
        return self.config.num_minibatches

    def init(self, key: jax.Array, tx: optax.GradientTransformation) -> TrainState:
        """A new network."""
        params_key, key = jax.random.split(key)
        # Nothing is acted on; its width tells how large an example is (see meta.engine.memory).
        observation = jnp.zeros((1, self.data.num_features))
        params = {"actor": self.network.init(params_key, observation)["params"]}
        return TrainState(
            params=params,
            opt_state=tx.init(params),
            env_state=(),
            observation=observation,
            observation_statistics=None,
            reward_scaler=None,
            episode_return=jnp.zeros((1,)),
            episode_length=jnp.zeros((1,), jnp.int32),
            iteration=jnp.int32(0),
            key=key,
        )

    def train_step(
        self, tx: optax.GradientTransformation, state: TrainState
    ) -> tuple[TrainState, Metrics]:
        """One iteration: minibatches of examples drawn afresh, then the accuracy."""
        key, draw_key, update_key = jax.random.split(state.key, 3)
        config = self.config
        indices = _draw(draw_key, len(self.data.train), config.iteration_size)
        indices = indices.reshape(config.num_minibatches, config.batch_size)
        update_keys = jax.random.split(update_key, config.num_minibatches)

        def update(carry, inputs):
            params, opt_state = carry
            index, key = inputs
            grads, (terms, activity) = self._gradient(params, self._take(self.data.train, index))
            context = {
                "key": key,
                "training_proportion": proportion(state.iteration, self.num_iterations),
                # Examples are not learned from twice in an iteration: always its first epoch.
                "batch_proportion": jnp.float32(0.0),
                "dormancy": dormancy(params, {"actor": activity}),
                "loss": terms.total,
            }
            updates, opt_state = tx.update(grads, opt_state, params, **context)
            return (optax.apply_updates(params, updates), opt_state), terms

        learner = state.params, state.opt_state
        (params, opt_state), terms = jax.lax.scan(update, learner, (indices, update_keys))
        state = state._replace(
            params=params,
            opt_state=opt_state,
            episode_return=self.accuracy(params)[None],
            iteration=state.iteration + 1,
            key=key,
        )
        return state, {
            "episode_return": state.episode_return[0],
            "loss": jnp.mean(terms.total),
            "cross_entropy": jnp.mean(terms.cross_entropy),
        }

    def outer_loss(self, state: TrainState) -> tuple[jax.Array, TrainState]:
        """The loss on validation examples, differentiable in ``state.params``.

        On as many as an iteration learns from, drawn afresh, or on all where there are fewer.
        Test examples are never looked at.
        """
        key, draw_key = jax.random.split(state.key)
        held_out = self.data.validation
        size = min(len(held_out), self.config.iteration_size)
        index = _draw(draw_key, len(held_out), size)
        terms, _ = self._loss(state.params, self._take(held_out, index))
        return terms.total, state._replace(key=key)

    def accuracy(self, params: Any) -> jax.Array:
        """The share of right answers on the examples that are ``measured_on``, in [0, 1]."""
        examples = self.data.test if self.measured_on == "test" else self.data.validation
        images, labels = self._take(examples, slice(None))
        logits, _ = self._apply(params, images)
        # NaN logits have no largest one: argmax would call them class 0.
        right = (jnp.argmax(logits, axis=-1) == labels) & jnp.all(jnp.isfinite(logits), axis=-1)
        return jnp.mean(right.astype(jnp.float32))

    def with_horizon(self, num_iterations: int) -> "SupervisedAgent":
        """The same agent for another number of iterations."""
        total = num_iterations * self.config.iteration_size
        config = dataclasses.replace(self.config, total_timesteps=total)
        return dataclasses.replace(self, config=config)

    def on_test(self) -> "SupervisedAgent":
        """The same agent, measured on the test examples."""
        return dataclasses.replace(self, measured_on="test")

    def _gradient(self, params: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, tuple]:
        def loss(params: Any) -> tuple[jax.Array, tuple]:
            terms, activity = self._loss(params, batch)
            return terms.total, (terms, activity)

        grads, aside = jax.grad(loss, has_aux=True)(params)
        if self.config.max_grad_norm > 0:
            clip = optax.clip_by_global_norm(self.config.max_grad_norm)
            grads, _ = clip.update(grads, optax.EmptyState())
        return grads, aside

    def _loss(
        self, params: Any, batch: tuple[jax.Array, jax.Array]
    ) -> tuple[Terms, dict[str, jax.Array]]:
        images, labels = batch
        logits, activity = self._apply(params, images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        cross_entropy = jnp.mean(losses)
        total = cross_entropy
        if self.config.l2 > 0:
            kernels = [layer["kernel"] for layer in params["actor"].values()]
            total = total + 0.5 * self.config.l2 * sum(jnp.sum(jnp.square(k)) for k in kernels)
        return Terms(total, cross_entropy), activity

    def _apply(self, params: Any, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        output = networks.apply(self.network, params["actor"], images)
        return output.values, output.activity

    def _take(self, examples: Examples, index: Any) -> tuple[jax.Array, jax.Array]:
        """Images ``[batch, features]``, scaled to [0, 1] by training images, and labels."""
        # Constants of the compiled program, in their own dtype: one byte for each pixel.
        images, labels = jnp.asarray(examples.images)[index], jnp.asarray(examples.labels)[index]
        return images.astype(jnp.float32) / self.data.scale, labels


def _draw(key: jax.Array, count: int, size: int) -> jax.Array:
    """Which ``size`` of ``count`` examples, none twice, in random order: int32 ``[size]``."""
    # One sort by random words; see ``ActorCriticAgent._minibatch_indices``.
    return jnp.argsort(jax.random.bits(key, (count,)))[:size]


def make_supervised(config: SupervisedConfig, data: Dataset) -> SupervisedAgent:
    """An agent for a dataset; ``ValueError`` where the settings do not fit."""
    if config.iteration_size > len(data.train):
        most = len(data.train) // config.batch_size
        fix = f"num_minibatches at most {most}" if most else f"batch_size at most {len(data.train)}"
        raise ValueError(
            f"an iteration of batch_size x num_minibatches = {config.batch_size} x "
            f"{config.num_minibatches} = {config.iteration_size} examples is more than the "
            f"{len(data.train)} training examples of {data.name!r}; {fix} fits"
        )
    network = Network(config.widths, data.num_classes, config.activation, output_scale=0.01)
    return SupervisedAgent(config, data, network)
