"""The eight gridworlds of Optim4RL: rooms with objects that come back after they were taken.

Lan et al. 2024 (arXiv 2302.01470). OPEN's gridworlds have other rules: see
``open_gridworld``.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents.environments import arguments, base, chance, episodes

# (rows, columns) of each action: stay; up, right, down, left; then the diagonals.
MOVES = ((0, 0), (-1, 0), (0, 1), (1, 0), (0, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))

_ABSENT = -1  # in place of the cell of an object that is not there


class Object(NamedTuple):
    """One object of a gridworld.

    Attributes:
      reward: for collecting it.
      p_terminate: probability in [0, 1] that collecting it ends the episode.
      p_respawn: probability in [0, 1], for each step while it is absent, to come back.
    """

    reward: float
    p_terminate: float
    p_respawn: float


class Room(NamedTuple):
    """A rectangle of free cells within a border of walls, and what lies in it.

    Attributes:
      rows, columns: of free cells.
      objects: in the order of their maps in the observation.
      max_steps: the time limit.
    """

    rows: int
    columns: int
    objects: tuple[Object, ...]
    max_steps: int

    @property
    def num_cells(self) -> int:
        """Free cells; numbered row by row from 0."""
        return self.rows * self.columns


def _objects(copies: int, p_respawn: float) -> tuple[Object, ...]:
    good, bad = Object(1.0, 0.0, p_respawn), Object(-1.0, 0.5, p_respawn)
    return (good,) * copies + (bad,) * copies


ROOMS = {
    "small_sparse_short": Room(3, 8, _objects(1, 0.05), 50),
    "small_sparse_long": Room(8, 3, _objects(1, 0.05), 500),
    "small_dense_short": Room(4, 6, _objects(1, 0.5), 50),
    "small_dense_long": Room(6, 4, _objects(1, 0.5), 500),
    "big_sparse_short": Room(10, 12, _objects(2, 0.05), 50),
    "big_sparse_long": Room(12, 10, _objects(2, 0.05), 500),
    "big_dense_short": Room(9, 13, _objects(2, 0.5), 50),
    "big_dense_long": Room(13, 9, _objects(2, 0.5), 500),
}


def moved(
    cell: jax.Array, action: jax.Array, moves: tuple[tuple[int, int], ...], rows: int, columns: int
) -> jax.Array:
    """The cell that one of ``moves`` leads to; a move off the grid leads nowhere."""
    offsets = np.asarray(moves, np.int32)
    row = cell // columns + jnp.asarray(offsets[:, 0])[action]
    column = cell % columns + jnp.asarray(offsets[:, 1])[action]
    on_grid = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    return jnp.where(on_grid, row * columns + column, cell)


class GridworldState(NamedTuple):
    """The state of one environment.

    Attributes:
      agent: int32 scalar, the agent's cell.
      objects: int32 ``[objects]``, each object's cell, or -1 where it is absent.
      log: the accounts of its episodes.
    """

    agent: jax.Array
    objects: jax.Array
    log: episodes.EpisodeLog


@dataclasses.dataclass(frozen=True, eq=False)
class Gridworld:
    """A room behind the protocol of ``base.Environment``.

    One step, in this order. The agent moves to one of the nine cells around and under it
    (``MOVES``); a move into a wall leaves it where it is. It collects every object on its
    cell, and each gives its reward and ends the episode with its probability,
    independently. Then every absent object, those just collected included, comes back
    with its ``p_respawn``, on a free cell drawn uniformly. Free means not a wall: other
    objects and the agent do not stand in the way, so objects may share a cell, and one that
    comes back under the agent is collected by the next step if the agent stays.

    At a reset the agent and the objects are put on different cells.

    An observation is float32 ``[rows + 2, columns + 2, objects + 1]`` of 0 and 1: a map per
    object and last one of the agent, with the border of walls, which is always 0.

    Attributes:
      room: the constants.
      spec: what agents must know.
    """

    room: Room
    spec: base.EnvironmentSpec

    def reset(self, key: jax.Array) -> tuple[GridworldState, jax.Array]:
        agent, objects = self._first(chance.words(key, self._num_places))
        return GridworldState(agent, objects, episodes.new_log()), self._observe(agent, objects)

    def step(
        self, key: jax.Array, state: GridworldState, action: jax.Array
    ) -> tuple[GridworldState, base.TimeStep]:
        """Takes one step, as above; an action is an index into ``MOVES``."""
        episodes.check_action_shape(action, ())
        count = len(self.room.objects)
        # All of the step's randomness at once: every draw is a chain of small kernels.
        words = chance.words(key, 3 * count + self._num_places)
        endings, returns, cells = words[: 3 * count].reshape(3, count)
        rewards, p_terminate, p_respawn = np.asarray(self.room.objects, np.float64).T
        agent = moved(state.agent, action, MOVES, self.room.rows, self.room.columns)
        collected = state.objects == agent
        reward = jnp.sum(jnp.where(collected, np.float32(rewards), 0))
        terminated = jnp.any(collected & chance.happens(endings, p_terminate))
        absent = collected | (state.objects == _ABSENT)
        comes_back = chance.happens(returns, p_respawn)
        new_cells = jnp.where(comes_back, chance.below(cells, self.room.num_cells), _ABSENT)
        objects = jnp.where(absent, new_cells, state.objects)
        # Cells stand for the observations until it is settled which are wanted: to fill and
        # to choose between maps costs more than all the rest of a step.
        reached, restart = (agent, objects), self._first(words[3 * count :])
        cells, log, timestep = episodes.finish_step(
            state.log,
            reached=episodes.Moment(reached, jnp.int32(0)),
            restart=episodes.Moment(restart, jnp.int32(0)),
            reward=reward,
            terminated=terminated,
            out_of_time=state.log.running_length + 1 >= self.spec.max_episode_steps,
        )
        timestep = timestep._replace(
            observation=self._observe(*cells), final_observation=self._observe(*reached)
        )
        return GridworldState(cells[0], cells[1], log), timestep

    @property
    def _num_places(self) -> int:
        return len(self.room.objects) + 1

    def _first(self, words: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The cells of a fresh start, from random words ``[objects + 1]``."""
        places = chance.distinct_below(words, self.room.num_cells)
        return places[0], places[1:]

    def _observe(self, agent: jax.Array, objects: jax.Array) -> jax.Array:
        height, width, maps = self.spec.observation_shape
        cells = jnp.concatenate([objects, agent[None]])
        columns = self.room.columns
        on_map = (cells // columns + 1) * width + cells % columns + 1
        # A few writes into zeros; comparing every map cell takes five times as long.
        nowhere = height * width * maps
        index = jnp.where(cells == _ABSENT, nowhere, on_map * maps + jnp.arange(maps))
        observation = jnp.zeros((nowhere,), jnp.float32).at[index].set(1.0, mode="drop")
        return observation.reshape(height, width, maps)


def make(
    env_id: str,
    *,
    max_steps_in_episode: int | None = None,
    **unknown: Any,
) -> Gridworld:
    """Makes one of the eight gridworlds.

    Args:
      env_id: a name in ``ROOMS``, e.g. ``big_dense_long``.
      max_steps_in_episode: another time limit than the gridworld's own.
      **unknown: there are no further arguments.

    Returns:
      The environment; its ``spec.name`` is ``gridworld/<env_id>``.

    Raises:
      ValueError: an unknown ``env_id`` or argument, or a time limit below 1.
    """
    arguments.check_known("gridworld", env_id, ROOMS)
    for name in unknown:
        arguments.check_known(f"argument of {env_id}", name, ("max_steps_in_episode",))
    room = ROOMS[env_id]
    limit = room.max_steps if max_steps_in_episode is None else max_steps_in_episode
    spec = base.EnvironmentSpec(
        name=f"gridworld/{env_id}",
        observation_shape=(room.rows + 2, room.columns + 2, len(room.objects) + 1),
        action=base.Discrete(len(MOVES)),
        max_episode_steps=arguments.check_positive_int("max_steps_in_episode", limit),
    )
    return Gridworld(room, spec)


def names() -> list[str]:
    """The ids that ``make`` takes."""
    return list(ROOMS)
