"""The outer loop by meta-gradients: truncated backpropagation through inner updates.

Lan et al., "Learning to Optimize for Reinforcement Learning", 2024 (arXiv 2302.01470): the
gradient with respect to theta of the agent's loss on fresh data, after K iterations with
theta, averaged over N agents at different stages of their training. Low in variance, but
biased: it does not see beyond K iterations.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.base import LearnedOptimizer, MetaParams
from learned_opt.names import did_you_mean
from meta.engine.population import ProgressFunction, theta_shapes
from meta.engine.tasks import Task, with_lifetime
from meta.runs import progress
from meta.training import outer_optimizer
from meta.training.inner_loop import REMAT, InnerLoop, Stretch
from meta.training.pipeline import Agents, Pipeline

# Agents' returns are logged by their age: this many equal parts of the reset interval.
_AGE_GROUPS = 4


@dataclasses.dataclass(frozen=True)
class MetaGradientConfig:
    """Settings of the outer loop. Defaults are Optim4RL's.

    Attributes:
      num_agents: N, trained side by side; any number, whatever the number of devices.
      agents_per_device: how many a device takes on at once; 0 chooses.
      inner_updates: K, iterations of the agents between two updates of theta.
      pipeline: reset agents in turn; without it they are never reset.
      reset_interval: meta-steps of an agent's life, >= 1.
      num_envs: B of each agent while theta is trained; 0: as its task says.
      optimizer, optimizer_options, learning_rate, learning_rate_decay, clip, clip_size: of
        theta's optimizer, see ``outer_optimizer.make``.
      regularization: weight of the mean squared norm of an inner update in the outer
        objective (a remedy against policy collapse), >= 0.
      second_order: let derivatives flow through the agents' gradients.
      remat: what the backward pass recomputes: ``none``, ``update`` or ``iteration``. No
        effect where the optimizer has a derivative of whole stretches
        (``InnerLoop.recorder``), which recomputes nothing outside its kernel.
    """

    num_agents: int = 64
    agents_per_device: int = 0
    inner_updates: int = 4
    pipeline: bool = True
    reset_interval: int = 64
    num_envs: int = 0
    optimizer: str = "adam"
    optimizer_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    learning_rate: float = 1e-4
    learning_rate_decay: float = 1.0
    clip: str = "norm"
    clip_size: float = 0.5
    regularization: float = 0.0
    second_order: bool = False
    remat: str = "update"

    def __post_init__(self):
        for name in ("num_agents", "inner_updates", "reset_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"outer.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("num_envs", "regularization", "agents_per_device"):
            if getattr(self, name) < 0:
                raise ValueError(f"outer.{name} must be at least 0, got {getattr(self, name)}")
        if self.remat not in REMAT:
            hint = did_you_mean(self.remat, list(REMAT))
            raise ValueError(
                f"outer.remat must be one of {', '.join(REMAT)}, got {self.remat!r}{hint}"
            )


class MetaState(NamedTuple):
    """All that meta-training carries from meta-step to meta-step.

    Attributes:
      theta: the meta-parameters.
      initial_theta: where they began.
      outer_state: of theta's optimizer.
      agents: of each task.
      key: the run's key; new agents' keys are folded from it.
      meta_step: int32 scalar, meta-steps done.
    """

    theta: MetaParams
    initial_theta: MetaParams
    outer_state: optax.OptState
    agents: tuple[Agents, ...]
    key: jax.Array
    meta_step: jax.Array


class MetaGradientTrainer:
    """Trains theta by meta-gradients on one or several tasks.

    Args:
      config: settings.
      optimizer: the family to train.
      tasks: the meta-gradient is the mean over tasks.
      initial_theta: where to start; the family's own if None.
      devices: to shard the agents over.

    Raises:
      ValueError: the optimizer has no theta, or the agents do not fit in memory.
    """

    unit: str = "meta-step"

    def __init__(
        self,
        config: MetaGradientConfig,
        optimizer: LearnedOptimizer,
        tasks: Sequence[Task],
        initial_theta: MetaParams | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        theta_shapes(optimizer)  # raises where there is nothing to train
        self._config = config
        self._optimizer = optimizer
        self._tasks = tasks
        self._initial_theta = initial_theta
        self._interval = config.reset_interval if config.pipeline else 0
        self._outer = outer_optimizer.make(
            config.optimizer,
            config.learning_rate,
            config.optimizer_options,
            clip=config.clip,
            clip_size=config.clip_size,
            learning_rate_decay=config.learning_rate_decay,
        )
        self.pipelines = [self._make_pipeline(task, devices) for task in tasks]
        self._update = jax.jit(self._update_theta)

    def _make_pipeline(self, task: Task, devices: Sequence[jax.Device] | None) -> Pipeline:
        config = self._config
        # Between resets an agent lives for so many iterations; its training proportion, if
        # the optimizer reads it, then runs from 0 to 1 within its life.
        lifetime = self._interval * config.inner_updates or task.agent.num_iterations
        agent = with_lifetime(task.agent, config.num_envs, lifetime)
        loop = InnerLoop(
            agent, self._optimizer, config.inner_updates, config.remat, config.second_order,
            config.regularization,
        )  # fmt: skip
        try:
            return Pipeline(
                loop, config.num_agents, self._interval, config.agents_per_device, devices
            )
        except ValueError as error:
            raise ValueError(f"task {task.name!r}: {error}") from error

    @property
    def env_steps_per_step(self) -> int:
        """Environment steps of one meta-step, of all agents of all tasks."""
        return sum(pipeline.env_steps_per_meta_step for pipeline in self.pipelines)

    def describe_cost(self) -> list[str]:
        config, lines = self._config, []
        life = f"reset every {self._interval} meta-steps" if self._interval else "no resets"
        for task, pipeline in zip(self._tasks, self.pipelines, strict=True):
            cost = pipeline.cost(pipeline.chunk)
            lines.append(
                f"task {task.name} ({task.agent_name}): {config.num_agents} agents ({life}), "
                f"{config.inner_updates} iterations each per meta-step; {pipeline.chunk} at a time "
                f"on each of {pipeline.num_devices} {jax.devices()[0].platform} device(s); "
                f"about {progress.size(cost.total)} per device, {progress.size(cost.state)} of it "
                "states"
            )
        return lines

    def init(self, key: jax.Array) -> MetaState:
        theta_key, agents_key, key = jax.random.split(key, 3)
        theta = self._initial_theta
        if theta is None:
            theta = jax.jit(self._optimizer.init)(theta_key)
        agents = tuple(
            pipeline.start(jax.random.fold_in(agents_key, index))
            for index, pipeline in enumerate(self.pipelines)
        )
        return MetaState(theta, theta, self._outer.init(theta), agents, key, jnp.int32(0))

    def theta(self, state: MetaState) -> MetaParams:
        return state.theta

    def steps_done(self, state: MetaState) -> int:
        return int(state.meta_step)

    def headline(self, metrics: dict[str, float]) -> dict[str, float]:
        return {name: metrics[name] for name in ("outer_loss", "episode_return")}

    def step(
        self, state: MetaState, on_progress: ProgressFunction | None = None
    ) -> tuple[MetaState, dict[str, float]]:
        """One meta-step. The memory of ``state``'s agents is used again: keep the new state."""
        if on_progress is not None:
            on_progress(0.0)  # may stop here, before the state is consumed
        number = self.steps_done(state)
        key = jax.random.fold_in(state.key, number)
        # On every device, as the last meta-step left them: elsewhere (at the start, or read from
        # a checkpoint) the programs would be compiled once more.
        theta, initial_theta, outer_state = self.pipelines[0].place_everywhere(
            (state.theta, state.initial_theta, state.outer_state)
        )
        agents, gradients = [], []
        metrics: dict[str, float] = {}
        for index, (task, pipeline) in enumerate(zip(self._tasks, self.pipelines, strict=True)):
            moved, gradient, stretch = pipeline.advance(
                theta, state.agents[index], number, jax.random.fold_in(key, index)
            )
            agents.append(moved)
            gradients.append(gradient)
            metrics |= self._task_metrics(task, moved, jax.device_get(stretch))
        theta, outer_state, measured = self._update(theta, initial_theta, outer_state, gradients)
        metrics |= {name: float(value) for name, value in jax.device_get(measured).items()}
        for name in ("outer_loss", "episode_return"):
            values = [metrics[f"{name}/{task.name}"] for task in self._tasks]
            metrics[name] = _mean(np.array(values))
        done = jnp.int32(number + 1)
        state = MetaState(theta, initial_theta, outer_state, tuple(agents), state.key, done)
        return state, metrics

    def _task_metrics(self, task: Task, agents: Agents, stretch: Stretch) -> dict[str, float]:
        metrics = {f"{name}/{task.name}": _mean(value) for name, value in stretch._asdict().items()}
        if self._interval:
            group = np.minimum((agents.age - 1) * _AGE_GROUPS // self._interval, _AGE_GROUPS - 1)
            for index in range(_AGE_GROUPS):
                returns = np.asarray(stretch.episode_return)[group == index]
                # Fewer agents than groups, or agents that have not grown old yet: no value.
                if returns.size:
                    metrics[f"return_by_age/{task.name}/{index + 1}"] = _mean(returns)
        return metrics

    def _update_theta(
        self,
        theta: MetaParams,
        initial_theta: MetaParams,
        outer_state: optax.OptState,
        gradients: list[MetaParams],
    ) -> tuple[MetaParams, optax.OptState, dict[str, jax.Array]]:
        """Averages over the agents whose gradient is finite, then over tasks, and updates."""
        means, norms, finite = zip(*map(_finite_mean, gradients), strict=True)
        usable = [jnp.any(mask) for mask in finite]
        count = jnp.maximum(1.0, sum(flag.astype(jnp.float32) for flag in usable))
        gradient = jax.tree.map(lambda *leaves: sum(leaves) / count, *means)
        updates, moved = self._outer.update(gradient, outer_state, theta)
        new_theta = optax.apply_updates(theta, updates)
        # Without a single finite gradient, nothing moves: not even the optimizer's moments.
        some = jnp.any(jnp.stack(usable))
        theta, outer_state = jax.tree.map(
            lambda new, old: jnp.where(some, new, old), (new_theta, moved), (theta, outer_state)
        )
        all_norms = jnp.concatenate(
            [jnp.where(mask, norm, jnp.nan) for mask, norm in zip(finite, norms, strict=True)]
        )
        start = optax.tree.norm(initial_theta)
        change = optax.tree.norm(jax.tree.map(jnp.subtract, theta, initial_theta))
        metrics = {
            "meta_gradient_norm": optax.tree.norm(gradient),
            "meta_gradient_agent_mean": jnp.nanmean(all_norms),
            "meta_gradient_agent_std": jnp.nanstd(all_norms),
            "skipped_gradients": sum((jnp.sum(~mask) for mask in finite), jnp.float32(0.0)),
            "theta_norm": optax.tree.norm(theta),
            # A theta that starts at 0 has no relative change; its norm tells.
            "theta_relative_change": jnp.where(start > 0, change / jnp.maximum(start, 1e-12), 0.0),
        }
        return theta, outer_state, metrics


def _finite_mean(per_agent: MetaParams) -> tuple[MetaParams, jax.Array, jax.Array]:
    """Of leaves ``[N, ...]``: the mean over finite agents, all norms ``[N]``, who is finite."""
    rows = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(per_agent)]
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(row), axis=1) for row in rows))
    finite = jnp.isfinite(norm)
    count = jnp.maximum(1, jnp.sum(finite))  # none: the mean is 0, and nothing is updated

    def mean(leaf: jax.Array) -> jax.Array:
        mask = finite.reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.sum(jnp.where(mask, leaf, 0.0), axis=0) / count

    return jax.tree.map(mean, per_agent), norm, finite


def _mean(values: np.ndarray) -> float:
    """The mean of what is finite; NaN if nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
