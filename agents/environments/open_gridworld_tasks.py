"""Distributions of gridworld tasks, and draws from them.

Oh et al. 2020 (arXiv 2007.08794) with the distributions of GROOVE (Jackson et al. 2023, arXiv
2310.02782), which OPEN's paper uses (arXiv 2407.07082, tables 8 to 10).

Cells are numbered row by row over the largest grid of a distribution; a smaller grid is its
upper left corner.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents.environments import mazes

Range = tuple[float, float]
Whole = tuple[int, int]


class TaskDistribution(NamedTuple):
    """What tasks are drawn from; a range whose ends are equal is a constant.

    Attributes:
      tabular: what is observed, and whether objects come back where they were; see
        ``open_gridworld``.
      steps: the time limit, log-uniform over whole numbers.
      sizes: of the square grid, uniform over whole numbers, both ends included.
      counts: of objects, likewise.
      types: each object's type; with fewer objects the first ones are there.
      rewards: of each type, uniform.
      p_terminate, p_respawn: of each type, log-uniform.
      walls: the cells, or how many random cells of the largest grid (some of them outside
        of a smaller one).
    """

    tabular: bool
    steps: Whole
    sizes: Whole
    counts: Whole
    types: tuple[int, ...]
    rewards: tuple[Range, ...]
    p_terminate: tuple[Range, ...]
    p_respawn: tuple[Range, ...]
    walls: int | tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Rows and columns of the largest grid."""
        return self.sizes[1]

    @property
    def num_cells(self) -> int:
        """Cells of the largest grid."""
        return self.size**2


class Task(NamedTuple):
    """One gridworld.

    Attributes:
      max_steps: int32 scalar, the time limit.
      walls: bool ``[cells]``, true outside of the grid as well.
      start: int32 scalar, the agent's first cell.
      objects: int32 ``[objects]``, their cells.
      exists: bool ``[objects]``, which objects there are at all.
      rewards, p_terminate, p_respawn: float32 ``[objects]``.
      free_cells: int32 ``[cells]``, those that are no walls, in order, and then the others.
      ranks: int32 ``[cells]``, where each cell stands in ``free_cells``.
      num_free: int32 scalar.
    """

    max_steps: jax.Array
    walls: jax.Array
    start: jax.Array
    objects: jax.Array
    exists: jax.Array
    rewards: jax.Array
    p_terminate: jax.Array
    p_respawn: jax.Array
    free_cells: jax.Array
    ranks: jax.Array
    num_free: jax.Array


def draw_task(key: jax.Array, distribution: TaskDistribution) -> Task:
    """A task of a distribution.

    The agent and the objects start on different free cells. Of 'all', about one task in 10^9
    has fewer free cells than that takes; objects then share cells.
    """
    keys = jax.random.split(key, 8)
    size, steps = distribution.size, distribution.steps
    grid = jax.random.randint(keys[0], (), distribution.sizes[0], size + 1)
    count = jax.random.randint(keys[1], (), distribution.counts[0], distribution.counts[1] + 1)
    cells = np.arange(distribution.num_cells)
    walls = _walls(keys[2], distribution) | (cells // size >= grid) | (cells % size >= grid)
    num_free = jnp.sum(~walls, dtype=jnp.int32)
    free_cells = jnp.argsort(walls, stable=True).astype(jnp.int32)

    num_objects = len(distribution.types)
    shuffled = jnp.argsort(jnp.where(walls, 2.0, jax.random.uniform(keys[3], walls.shape)))
    places = shuffled[jnp.arange(1 + num_objects) % num_free].astype(jnp.int32)
    types = np.asarray(distribution.types)
    return Task(
        max_steps=jnp.round(_log_uniform(keys[4], (steps,))[0]).astype(jnp.int32),
        walls=walls,
        start=places[0],
        objects=places[1:],
        exists=jnp.arange(num_objects) < count,
        rewards=_uniform(keys[5], distribution.rewards)[types],
        p_terminate=_log_uniform(keys[6], distribution.p_terminate)[types],
        p_respawn=_log_uniform(keys[7], distribution.p_respawn)[types],
        free_cells=free_cells,
        ranks=jnp.argsort(free_cells).astype(jnp.int32),
        num_free=num_free,
    )


def _walls(key: jax.Array, distribution: TaskDistribution) -> jax.Array:
    if isinstance(distribution.walls, int):
        cells = jax.random.permutation(key, distribution.num_cells)
        return cells < distribution.walls
    return jnp.asarray(np.isin(np.arange(distribution.num_cells), distribution.walls))


def _uniform(key: jax.Array, ranges: tuple[Range, ...]) -> jax.Array:
    low, high = np.asarray(ranges, np.float32).T
    return low + (high - low) * jax.random.uniform(key, low.shape)


def _log_uniform(key: jax.Array, ranges: tuple[Range, ...]) -> jax.Array:
    """Log-uniform where a range has a width, for which its lower end must be above 0."""
    drawn_from = [(low, high) if low < high else (1.0, 1.0) for low, high in ranges]
    drawn = jnp.exp(_uniform(key, tuple((np.log(low), np.log(high)) for low, high in drawn_from)))
    low, high = np.asarray(ranges, np.float32).T
    return jnp.where(low < high, drawn, low)


def _constants(*values: float) -> tuple[Range, ...]:
    return tuple((value, value) for value in values)


def _random_objects(
    tabular: bool, steps: Whole, sizes: Whole, counts: Whole, walls: int
) -> TaskDistribution:
    """GROOVE's distributions of random tasks: a type for each object."""
    num = counts[1]
    return TaskDistribution(
        tabular=tabular,
        steps=steps,
        sizes=sizes,
        counts=counts,
        types=tuple(range(num)),
        rewards=((0.0, 1.0),) + ((-1.0, 1.0),) * (num - 1),
        p_terminate=((0.01, 1.0),) * num,
        p_respawn=((0.001, 0.1),) * num,
        walls=walls,
    )


def _fixed(
    tabular: bool,
    steps: int,
    size: int,
    types: tuple[int, ...],
    rewards: tuple[float, ...],
    p_terminate: tuple[float, ...],
    p_respawn: tuple[float, ...],
    walls: tuple[int, ...] = (),
) -> TaskDistribution:
    """A single set of rules; only the cells of the agent and the objects are drawn."""
    return TaskDistribution(
        tabular,
        (steps, steps),
        (size, size),
        (len(types), len(types)),
        types,
        _constants(*rewards),
        _constants(*p_terminate),
        _constants(*p_respawn),
        walls,
    )


def _dense(tabular: bool) -> TaskDistribution:
    return _fixed(tabular, 500, 11, (0, 0, 1, 2), (1, -1, -1), (0, 0.5, 0), (0.05, 0.1, 0.5))


def _long(tabular: bool) -> TaskDistribution:
    return _fixed(tabular, 1000, 11, (0, 0, 1, 1), (1, -1), (0, 0.5), (0.01, 1))


def _maze(name: str) -> TaskDistribution:
    random = _random_objects(True, (25, 50), (13, 13), (3, 3), 0)
    return random._replace(rewards=((0.0, 1.0),) * 3, walls=mazes.wall_cells(name))


# Walls with two gaps each, by rows and columns of the grid.
_LONGER_WALLS = tuple(9 * row + 4 for row in range(9) if row not in (1, 7))
_LONG_DENSE_WALLS = tuple(
    11 * row + column
    for row in range(11)
    for column in range(11)
    if (column == 5 and row not in (0, 7)) or (row == 4 and column not in (2, 8))
)

DISTRIBUTIONS = {
    "all": _random_objects(True, (20, 750), (4, 10), (1, 5), 15),
    "rand_all": _random_objects(False, (20, 750), (4, 10), (1, 5), 15),
    "small": _random_objects(True, (20, 100), (4, 6), (1, 3), 7),
    "medium": _random_objects(True, (100, 250), (6, 8), (2, 4), 10),
    "large": _random_objects(True, (250, 750), (8, 10), (2, 5), 15),
    "dense": _dense(True),
    "rand_dense": _dense(False),
    "sparse": _fixed(True, 50, 13, (0, 1), (1, -1), (1, 1), (0, 0)),
    "rand_sparse": _fixed(False, 50, 7, (0, 1, 1), (1, -1), (1, 1), (1, 1)),
    # Of the same name in the paper, but not in the code that it ran: table 9.
    "rand_sparse_paper": _fixed(False, 50, 13, (0, 1), (-1, 1), (1, 1), (0, 0)),
    "long": _long(True),
    "rand_long": _long(False),
    "longer": _fixed(True, 2000, 9, (0, 0, 1, 1, 1), (1, -1), (0.1, 0.8), (0.01, 1), _LONGER_WALLS),
    "long_dense": _fixed(True, 2000, 11, (0,) * 4, (1,), (0,), (0.005,), _LONG_DENSE_WALLS),
    "rand_small": _fixed(False, 500, 7, (0, 0, 1, 1), (1, -1), (0, 0.5), (0.05, 0.1), (9, 25)),
    "rand_very_dense": _fixed(False, 2000, 11, (0,), (1,), (0,), (1,)),
    **{name: _maze(name) for name in mazes.MAZES},
}
