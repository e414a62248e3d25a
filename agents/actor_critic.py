"""PPO and A2C as one actor-critic training step that takes any optimizer."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from agents import losses, normalization, rollout
from agents.base import Metrics, TrainState, mean_return
from agents.config import AgentConfig
from agents.environments.base import Environment, reset_parallel
from agents.networks import ActorCritic, make_actor_critic
from agents.rollout import Batch
from learned_opt.base import key_names

# Keeps the dormancy of a layer defined where all its neurons are silent.
DORMANCY_EPSILON = 1e-11


@dataclasses.dataclass(frozen=True)
class ActorCriticAgent:
    """An ``agents.base.Agent``: PPO or A2C, by ``config.algorithm``."""

    config: AgentConfig
    env: Environment
    network: ActorCritic

    @property
    def num_iterations(self) -> int:
        return self.config.num_iterations

    @property
    def steps_per_iteration(self) -> int:
        return self.config.batch_size

    @property
    def updates_per_iteration(self) -> int:
        return self.config.updates_per_iteration

    def init(self, key: jax.Array, tx: optax.GradientTransformation) -> TrainState:
        """A new agent in freshly reset environments."""
        config = self.config
        params_key, env_key, key = jax.random.split(key, 3)
        env_state, observation = reset_parallel(self.env, env_key, config.num_envs)
        observation = rollout.flatten_observation(observation)
        params = self.network.init(params_key, observation[:1], config.equal_hidden)
        statistics = None
        if config.normalize_observations:
            statistics = normalization.initial_statistics(observation.shape[1:])
            statistics = normalization.update_statistics(statistics, observation)
            observation = normalization.normalize(statistics, observation)
        scale = config.normalize_rewards
        return TrainState(
            params=params,
            opt_state=tx.init(params),
            env_state=env_state,
            observation=observation,
            observation_statistics=statistics,
            reward_scaler=normalization.initial_reward_scaler(config.num_envs) if scale else None,
            episode_return=jnp.full((config.num_envs,), jnp.nan),
            episode_length=jnp.zeros((config.num_envs,), jnp.int32),
            iteration=jnp.int32(0),
            key=key,
        )

    def train_step(
        self, tx: optax.GradientTransformation, state: TrainState
    ) -> tuple[TrainState, Metrics]:
        """One iteration: a rollout, then epochs of minibatch updates."""
        key, rollout_key, shuffle_key, update_key = jax.random.split(state.key, 4)
        learner = state.params, state.opt_state
        state, batch = self._rollout(state, rollout_key)
        indices = self._minibatch_indices(shuffle_key)
        update_keys = jax.random.split(update_key, len(indices))
        epochs = jnp.arange(len(indices)) // self.config.num_minibatches

        def update(carry, inputs):
            params, opt_state = carry
            index, key, epoch = inputs
            minibatch = jax.tree.map(lambda x: x[index], batch)
            grads, terms, activity = self._gradient(params, minibatch)
            context = {
                "key": key,
                "training_proportion": proportion(state.iteration, self.num_iterations),
                "batch_proportion": proportion(epoch, self.config.num_epochs),
                "dormancy": dormancy(params, activity),
                "loss": terms.total,
            }
            updates, opt_state = tx.update(grads, opt_state, params, **context)
            return (optax.apply_updates(params, updates), opt_state), terms

        (params, opt_state), terms = jax.lax.scan(update, learner, (indices, update_keys, epochs))
        state = state._replace(
            params=params, opt_state=opt_state, iteration=state.iteration + 1, key=key
        )
        return state, self._metrics(state, terms)

    def outer_loss(self, state: TrainState) -> tuple[jax.Array, TrainState]:
        """The loss on a fresh rollout, differentiable in ``state.params``."""
        key, rollout_key = jax.random.split(state.key)
        moved, batch = self._rollout(state, rollout_key)
        terms, _ = self._loss(state.params, batch)
        moved = moved._replace(params=state.params, opt_state=state.opt_state, key=key)
        return terms.total, moved

    def _rollout(self, state: TrainState, key: jax.Array) -> tuple[TrainState, Batch]:
        """One rollout, flat ``[T * B]``, whose data are constants for any derivative.

        Meta-gradients flow through the optimizer's updates, not through the environment or
        the advantages. Without ``stop_gradient`` on what was acted with, the ratio of PPO
        would be 1 in derivative too, and the policy part of an outer gradient would vanish.
        """
        state = jax.lax.stop_gradient(state)
        state, batch = rollout.collect(
            self.config, self.env, self.network, state.params, state, key
        )
        return state, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    def _minibatch_indices(self, key: jax.Array) -> jax.Array:
        """Which items each update of an iteration uses: ``[epochs * M, minibatch size]``."""
        size, epochs = self.config.batch_size, self.config.num_epochs
        if self.config.num_minibatches == 1:  # the order within a batch does not matter
            return jnp.broadcast_to(jnp.arange(size), (epochs, size))
        # One sort by random words. Equal words (probability below size^2 / 2^33) keep their
        # order, which `jax.random.permutation` avoids by sorting several times.
        order = jnp.argsort(jax.random.bits(key, (epochs, size)), axis=1)
        return order.reshape(-1, self.config.minibatch_size)

    def _gradient(self, params: Any, batch: Batch) -> tuple[Any, losses.LossTerms, dict]:
        """Clipped gradients, loss terms and activity by network and layer."""

        def loss(params: Any) -> tuple[jax.Array, tuple[losses.LossTerms, dict]]:
            terms, activity = self._loss(params, batch)
            return terms.total, (terms, activity)

        grads, (terms, activity) = jax.grad(loss, has_aux=True)(params)
        if self.config.max_grad_norm > 0:
            clip = optax.clip_by_global_norm(self.config.max_grad_norm)
            # Each network apart, so that one's large gradient does not shrink the other's.
            grads = {name: clip.update(g, optax.EmptyState())[0] for name, g in grads.items()}
        return grads, terms, activity

    def _loss(self, params: Any, batch: Batch) -> tuple[losses.LossTerms, dict]:
        """Loss terms on a flat batch, and the forward pass's activity."""
        config = self.config
        policy, actor_activity = self.network.policy(params, batch.observation)
        value, critic_activity = self.network.value(params, batch.observation)
        log_prob = policy.log_prob(batch.action)
        advantage = batch.advantage
        if config.normalize_advantages:
            advantage = losses.standardize(advantage)
        if config.algorithm == "ppo":
            policy_loss = losses.ppo_policy_loss(
                log_prob, batch.log_prob, advantage, config.clip_epsilon
            )
            value_loss = losses.ppo_value_loss(
                value, batch.value, batch.target, config.clip_epsilon
            )
        else:
            policy_loss = losses.a2c_policy_loss(log_prob, advantage)
            value_loss = losses.a2c_value_loss(value, batch.target)
        entropy = jnp.mean(policy.entropy())
        total = policy_loss + config.value_coefficient * value_loss
        total = total - config.entropy_coefficient * entropy
        activity = {"actor": actor_activity, "critic": critic_activity}
        return losses.LossTerms(total, policy_loss, value_loss, entropy), activity

    def _metrics(self, state: TrainState, terms: losses.LossTerms) -> Metrics:
        return {
            "episode_return": mean_return(state.episode_return),
            "episode_length": jnp.mean(state.episode_length.astype(jnp.float32)),
            "loss": jnp.mean(terms.total),
            "policy_loss": jnp.mean(terms.policy),
            "value_loss": jnp.mean(terms.value),
            "entropy": jnp.mean(terms.entropy),
        }


def proportion(index: jax.Array, count: int) -> jax.Array:
    """index / (count - 1) in [0, 1], and 0 where there is one."""
    return jnp.minimum(index / max(count - 1, 1), 1.0).astype(jnp.float32)


def dormancy(params: Any, activity: dict[str, dict[str, jax.Array]]) -> Any:
    """The dormancy score of the neuron that each parameter feeds.

    OPEN paper, equation 6: activity over its mean in the layer.

    Args:
      params: ``{network: {layer: {'kernel', 'bias'}, 'log_std'}}``.
      activity: ``{network: {layer: mean |activation| [neurons]}}``.

    Returns:
      A tree like ``params``: ``[neurons]`` for kernels ``(in, neurons)`` and biases, and 1
      for parameters that feed no neuron (``log_std``).
    """

    def score(path, leaf):
        names = key_names(path)
        layer = activity.get(names[0], {}).get(names[1])
        if layer is None:
            return jnp.ones((), leaf.dtype)
        raised = layer + DORMANCY_EPSILON
        return raised / jnp.mean(raised)

    return jax.tree_util.tree_map_with_path(score, params)


def make_agent(config: AgentConfig, env: Environment) -> ActorCriticAgent:
    """An agent for an environment.

    Raises:
      ValueError: the settings do not fit the environment.

    Example:
      >>> import jax
      >>> import optax
      >>> from agents import AgentConfig, environments, make_agent
      >>> config = AgentConfig(
      ...     total_timesteps=64, num_envs=4, num_steps=8, num_minibatches=2, widths=(8,)
      ... )
      >>> agent = make_agent(config, environments.make("catch"))
      >>> tx = optax.with_extra_args_support(optax.adam(1e-3))
      >>> state = agent.init(jax.random.key(0), tx)
      >>> state, metrics = jax.jit(lambda state: agent.train_step(tx, state))(state)
      >>> int(state.iteration), agent.num_iterations, agent.updates_per_iteration
      (1, 2, 8)
    """
    network = make_actor_critic(
        env.spec.action,
        config.widths,
        config.activation,
        critic_widths=config.critic_widths,
        critic_activation=config.critic_activation,
        convolutions=config.convolutions,
        observation_shape=env.spec.observation_shape,
        shared=config.network == "shared",
    )
    return ActorCriticAgent(config, env, network)
