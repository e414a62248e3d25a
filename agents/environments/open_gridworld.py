"""The gridworlds of OPEN: an agent draws its task at the start of its life.

The rules are those of Oh et al. 2020 (arXiv 2007.08794) as in GROOVE; the tasks are in
``open_gridworld_tasks``. Optim4RL's gridworlds have other rules: see ``gridworld``.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents.environments import arguments, base, chance, episodes
from agents.environments.gridworld import moved
from agents.environments.open_gridworld_tasks import (
    DISTRIBUTIONS,
    Task,
    TaskDistribution,
    draw_task,
)

# (rows, columns) of each action: up, down, left, right, stay.
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))

_TIME_SCALE = 0.001  # what a step adds to the observation of time


class OpenGridworldState(NamedTuple):
    """The state of one environment.

    Attributes:
      agent: int32 scalar, the agent's cell.
      objects: int32 ``[objects]``, each object's cell, or where it was if it is absent.
      present: bool ``[objects]``.
      task: the rules; the same in all parallel environments of an agent.
      log: the accounts of its episodes.
    """

    agent: jax.Array
    objects: jax.Array
    present: jax.Array
    task: Task
    log: episodes.EpisodeLog


@dataclasses.dataclass(frozen=True, eq=False)
class OpenGridworld:
    """A distribution of gridworlds behind the protocol of ``base.TaskEnvironment``.

    One step, in this order. The agent moves; into a wall or off the grid, it stays where it
    is. Objects that were present before the step on its new cell are collected: each gives
    its reward, and the episode ends with the sum of their ``p_terminate`` (at most 1). Every
    object that was absent before the step comes back with its ``p_respawn``.

    The agent starts each episode on the task's cell. With ``tabular``, so do the objects,
    and they come back where they were. Otherwise objects start on free cells drawn for
    each episode, and come back on free cells drawn uniformly: neither walls nor the agent's
    cell nor those of objects that are present or come back too.

    An observation is float32, with 0.001 times the episode's steps as its last number.
    Before it stands, with C cells of the largest grid: if ``tabular``, a one-hot vector of
    ``C x 2^objects``, at ``cell + C x sum of 2^i over the objects i that are present``; else
    one of C for the agent's cell, and for each type of object C numbers, 1 where one is.

    Attributes:
      distribution: of the tasks.
      max_steps: a time limit in place of every task's own, or None.
      spec: what agents must know; its time limit is the longest of any task.
    """

    distribution: TaskDistribution
    max_steps: int | None
    spec: base.EnvironmentSpec

    def sample_task(self, key: jax.Array) -> Task:
        task = draw_task(key, self.distribution)
        if self.max_steps is None:
            return task
        return task._replace(max_steps=jnp.int32(self.max_steps))

    def reset(self, key: jax.Array) -> tuple[OpenGridworldState, jax.Array]:
        task_key, key = jax.random.split(key)
        return self.reset_in(self.sample_task(task_key), key)

    def reset_in(self, task: Task, key: jax.Array) -> tuple[OpenGridworldState, jax.Array]:
        objects = self._first_objects(task, chance.words(key, task.objects.size))
        state = OpenGridworldState(task.start, objects, task.exists, task, episodes.new_log())
        return state, self._observe(task.start, objects, task.exists, jnp.int32(0))

    def step(
        self, key: jax.Array, state: OpenGridworldState, action: jax.Array
    ) -> tuple[OpenGridworldState, base.TimeStep]:
        """Takes one step, as above; an action is an index into ``MOVES``."""
        episodes.check_action_shape(action, ())
        task, count = state.task, len(self.distribution.types)
        words = chance.words(key, 3 * count + 1)
        returns, cells, firsts = words[1:].reshape(3, count)

        agent = self._move(task, state.agent, action)
        collected = state.present & (state.objects == agent)
        reward = jnp.sum(jnp.where(collected, task.rewards, 0.0))
        p_end = jnp.minimum(jnp.sum(jnp.where(collected, task.p_terminate, 0.0)), 1.0)
        remain = state.present & ~collected
        comes_back = task.exists & ~state.present & chance.happens(returns, task.p_respawn)
        objects = state.objects
        if not self.distribution.tabular:
            taken = jnp.append(jnp.where(remain, task.ranks[objects], -1), task.ranks[agent])
            ranks = chance.distinct_below(cells, task.num_free, taken, wanted=comes_back)
            objects = jnp.where(comes_back, task.free_cells[ranks], objects)

        time = state.log.running_length + 1
        # As in `gridworld`, observations are made when it is settled which are wanted.
        reached = (agent, objects, remain | comes_back)
        following, log, timestep = episodes.finish_step(
            state.log,
            reached=episodes.Moment(reached, jnp.int32(0)),
            restart=episodes.Moment(
                (task.start, self._first_objects(task, firsts), task.exists), jnp.int32(0)
            ),
            reward=reward,
            terminated=chance.happens(words[0], p_end),
            out_of_time=time >= task.max_steps,
        )
        last = self._observe(*reached, time)
        agent, objects, present = following
        timestep = timestep._replace(
            observation=self._observe(agent, objects, present, log.running_length),
            final_observation=last,
        )
        return OpenGridworldState(agent, objects, present, task, log), timestep

    def _move(self, task: Task, agent: jax.Array, action: jax.Array) -> jax.Array:
        """The cell that an action leads to."""
        cell = moved(agent, action, MOVES, self.distribution.size, self.distribution.size)
        # What lies beyond a smaller grid counts as walls.
        return jnp.where(task.walls[cell], agent, cell)

    def _first_objects(self, task: Task, words: jax.Array) -> jax.Array:
        """The objects' cells at the start of an episode, from words ``[objects]``."""
        if self.distribution.tabular:
            return task.objects
        taken = task.ranks[task.start][None]
        return task.free_cells[chance.distinct_below(words, task.num_free, taken)]

    def _observe(
        self, agent: jax.Array, objects: jax.Array, present: jax.Array, time: jax.Array
    ) -> jax.Array:
        (size,) = self.spec.observation_shape
        cells, types = self.distribution.num_cells, np.asarray(self.distribution.types)
        if self.distribution.tabular:
            which = jnp.sum(jnp.where(present, 2 ** np.arange(types.size), 0))
            index = (agent + cells * which)[None]
        else:
            of_objects = objects + cells * (1 + types.astype(np.int32))
            index = jnp.append(jnp.where(present, of_objects, size), agent)
        values = jnp.append(jnp.ones(index.shape), time * _TIME_SCALE)
        # Writes beyond the end are those of absent objects.
        index = jnp.append(index, size - 1)
        return jnp.zeros((size,), jnp.float32).at[index].set(values, mode="drop")


def make(env_id: str, *, max_steps_in_episode: int | None = None, **unknown: Any) -> OpenGridworld:
    """Makes a distribution of gridworlds.

    Args:
      env_id: a name in ``open_gridworld_tasks.DISTRIBUTIONS``, e.g. ``rand_all``, which
        OPEN's released gridworld weights were trained on (the paper names it 'all').
      max_steps_in_episode: a time limit in place of every task's own.
      **unknown: there are no further arguments.

    Returns:
      The environment; its ``spec.name`` is ``open_gridworld/<env_id>``.

    Raises:
      ValueError: an unknown ``env_id`` or argument, or a time limit below 1.
    """
    arguments.check_known("gridworld of OPEN", env_id, DISTRIBUTIONS)
    for name in unknown:
        arguments.check_known(f"argument of {env_id}", name, ("max_steps_in_episode",))
    if max_steps_in_episode is not None:
        max_steps_in_episode = arguments.check_positive_int(
            "max_steps_in_episode", max_steps_in_episode
        )
    return from_distribution(
        f"open_gridworld/{env_id}", DISTRIBUTIONS[env_id], max_steps_in_episode
    )


def from_distribution(
    name: str, distribution: TaskDistribution, max_steps: int | None = None
) -> OpenGridworld:
    """An environment of a distribution of one's own; arguments as ``OpenGridworld`` has them."""
    num_types, num_objects = max(distribution.types) + 1, len(distribution.types)
    blocks = 2**num_objects if distribution.tabular else 1 + num_types
    spec = base.EnvironmentSpec(
        name=name,
        observation_shape=(distribution.num_cells * blocks + 1,),
        action=base.Discrete(len(MOVES)),
        max_episode_steps=distribution.steps[1] if max_steps is None else max_steps,
    )
    return OpenGridworld(distribution, max_steps, spec)


def names() -> list[str]:
    """The ids that ``make`` takes."""
    return list(DISTRIBUTIONS)
