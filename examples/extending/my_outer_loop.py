"""An outer loop of one's own: random search, which tries a theta near the best one so far.

The file registers it and is a config that uses it:

python launchers/train.py --config=examples/extending/my_outer_loop.py --workdir=runs/mine

Where other configs name ``random_search``, import the file first (``--import=...``).
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict

from lopt_rl.configs import blocks
from lopt_rl.meta.results import plot_style
from lopt_rl.meta.training import evolution, outer_loop


@dataclasses.dataclass(frozen=True)
class RandomSearchConfig:
    """Settings: the fields of the config's block ``outer`` that are this loop's own.

    Attributes:
      sigma: standard deviation of what is added to theta.
      num_seeds: agents that a theta trains on each task.
    """

    sigma: float = 0.5
    num_seeds: int = 2


class State(NamedTuple):
    """What a checkpoint holds: one pytree of arrays."""

    theta: Any
    score: jax.Array
    key: jax.Array
    trials: jax.Array


class RandomSearch:
    """The outer loop, as ``outer_loop.MetaTrainer`` describes one."""

    unit = "trial"

    def __init__(self, config, optimizer, tasks, engines, initial_theta):
        self.config, self.optimizer, self.tasks, self.engines = config, optimizer, tasks, engines
        self.start = initial_theta

    @property
    def env_steps_per_step(self):
        return self.config.num_seeds * sum(task.env_steps for task in self.tasks)

    def describe_cost(self):
        return [f"{self.config.num_seeds} inner runs per trial and task"]

    def init(self, key):
        theta = self.optimizer.init(key) if self.start is None else self.start
        return State(theta, jnp.float32(-jnp.inf), key, jnp.int32(0))

    def step(self, state, on_progress=None):
        """Tries one theta; a failed one scores NaN and is never kept."""
        key, seeds_key = jax.random.split(jax.random.fold_in(state.key, state.trials))
        flat, unravel = ravel_pytree(state.theta)
        tried = unravel(flat + self.config.sigma * jax.random.normal(key, flat.shape))
        keys = jax.random.split(seeds_key, self.config.num_seeds)
        score, _ = evolution.validate(tried, self.tasks, self.engines, keys, on_progress)
        better = score > float(state.score)
        theta, best = (tried, jnp.float32(score)) if better else (state.theta, state.score)
        metrics = {"tried": score, "kept": int(better)}
        return State(theta, best, state.key, state.trials + 1), metrics

    def theta(self, state):
        return state.theta

    def steps_done(self, state):
        return int(state.trials)

    def headline(self, metrics):
        return {"tried": metrics["tried"]}


def plot(rows, tasks, path, shown):
    """What was tried, by trial."""
    del tasks, shown
    figure = plot_style.new_figure(2.0)
    axis = figure.add_subplot()
    axis.plot([row["meta_step"] for row in rows], [row["tried"] for row in rows])
    plot_style.dress(axis, "Random search", "trial", "normalised return")
    plot_style.save(figure, path)


outer_loop.register(
    outer_loop.OuterLoop(
        name="random_search",
        title="random search",
        length="num_trials",
        settings=RandomSearchConfig,
        make=RandomSearch,
        plot=plot,
        caption="returns of what was tried, by trial.",
        smoke={"num_trials": 3},
    )
)


def get_config(mode: str = "full") -> ConfigDict:
    """Optim4RL's linear optimizer on Catch, with 50 trials."""
    smoke = blocks.check_mode(mode)
    outer = ConfigDict(outer_loop.block("random_search", num_steps=50))
    tasks = {"catch": blocks.task("catch", 10_240)}
    config = blocks.experiment(tasks, optimizer="linear", outer=outer)
    return blocks.shrink(config) if smoke else config
