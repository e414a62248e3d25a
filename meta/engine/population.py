"""The population engine: many inner loops at once, batched and sharded.

A member is one agent that trains with one theta from one key. Members are independent, so
P of them are run as waves: each device takes ``members_per_device`` of them at a time,
``vmap``ped, and waves follow each other. What a wave computes for a member depends on
``members_per_device`` alone, not on how many devices there are.

A wave is advanced some iterations per call, so that a run can report progress, record
curves and stop within seconds however long its horizon is. The number of iterations is an
argument of one compiled program: how a run is cut into calls changes nothing in it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from agents.base import Agent, TrainState, mean_return
from learned_opt.base import LearnedOptimizer, MetaParams
from meta.engine import memory
from meta.engine.pace import Pace

# Called between compiled calls with the share done, in [0, 1]. May raise to stop.
ProgressFunction = Callable[[float], None]
Series = dict[str, np.ndarray]  # name -> [P, K]
_Logged = tuple[np.ndarray, np.ndarray, Series]  # returns, whether parameters are finite, probed

_AXIS = "members"
_OWN, _ALL = PartitionSpec(_AXIS), PartitionSpec()  # a device's own part; the whole, on each


class Recording(NamedTuple):
    """What was logged of P runs at K points.

    Attributes:
      env_steps: int ``[K]``, environment steps done at each point.
      episode_return: float32 ``[P, K]``, the return of the last finished episode, averaged
        over the parallel environments where one has finished; NaN where the agent's parameters
        are not finite, and where no episode has finished.
      no_episode: bool ``[P, K]``, where it is NaN for the latter reason alone.
      probed: name -> ``[P, K]``, what the engine's probe gave; empty without one.
    """

    env_steps: np.ndarray
    episode_return: np.ndarray
    no_episode: np.ndarray
    probed: Series


class Engine:
    """Runs inner loops of one agent with one family of optimizers.

    Args:
      optimizer: the family; each member has a theta of its own.
      agent: the inner loop.
      members_per_device: how many members a device runs at once; 0 chooses by the memory
        there is and by what is fast on the kind of device.
      devices: to share the members among.
      probe: what to record of a state besides its return: state -> scalars by name.
      series: makes of these, over the points of a run, what the recording holds.
    """

    def __init__(
        self,
        optimizer: LearnedOptimizer,
        agent: Agent,
        *,
        members_per_device: int = 0,
        devices: Sequence[jax.Device] | None = None,
        probe: Callable[[TrainState], dict[str, jax.Array]] = lambda state: {},
        series: Callable[[Series], Series] = lambda probed: probed,
    ):
        if members_per_device < 0:
            raise ValueError(
                f"members_per_device must be at least 0 (0: automatic), got {members_per_device}"
            )
        self._optimizer = optimizer
        self._agent = agent
        self._probe, self._series = probe, series
        self._requested = members_per_device
        self._devices = devices or jax.devices()
        self._mesh = Mesh(np.array(self._devices), (_AXIS,))
        self._per_device = functools.partial(jax.shard_map, mesh=self._mesh, check_vma=False)
        self._pace = Pace()

    @property
    def num_devices(self) -> int:
        return len(self._devices)

    def members_per_device(self, population: int) -> int:
        """How many members each device runs at once.

        Where it is chosen automatically, the first population P decides, and later ones run
        in waves of the same size: another size would be another program to compile.
        """
        if not self._requested:
            wanted = memory.share_of(population, self._devices)
            self._requested = memory.members_that_fit(
                self._optimizer, self._agent, wanted, self._devices
            )
        return self._requested

    def run(
        self,
        thetas: MetaParams,
        keys: jax.Array,
        *,
        points: int = 1,
        on_progress: ProgressFunction | None = None,
    ) -> Recording:
        """Trains P agents to their horizon.

        Args:
          thetas: meta-parameters, each leaf ``[P, ...]``.
          keys: typed keys ``[P]``; a member is a function of its theta and its key.
          points: how many points of the learning curve to record, the last one being the
            end of training; 1 records the end alone.
          on_progress: called between compiled calls.

        Returns:
          The recording, the same on all processes.
        """
        population = len(keys)
        wave = self.members_per_device(population) * self.num_devices
        record_at = _record_points(self._agent.num_iterations, points)
        starts = range(0, population, wave)
        columns = []
        for index, start in enumerate(starts):
            # The last wave is filled up with repetitions of the last member.
            members = np.minimum(np.arange(start, start + wave), population - 1)
            report = part_of(on_progress, index, len(starts))
            columns.append(self._run_wave(thetas, keys, members, record_at, report))
        returns, finite, probed = jax.tree.map(
            lambda *waves: np.concatenate(waves)[:population], *columns
        )
        env_steps = np.array(record_at) * self._agent.steps_per_iteration
        no_episode = np.isnan(returns) & finite
        return Recording(env_steps, returns, no_episode, self._series(probed))

    def _run_wave(
        self,
        thetas: MetaParams,
        keys: jax.Array,
        members: np.ndarray,
        record_at: list[int],
        report: ProgressFunction,
    ) -> _Logged:
        """What was logged of the wave, each ``[wave, K]``."""
        thetas, keys = self._take(thetas, keys, jnp.asarray(members))
        state = self._start(thetas, keys)
        recorded: list[_Logged] = []
        for count, done in self._pace.calls(record_at):
            state, row = self._advance(thetas, state, jnp.int32(count))
            row = jax.tree.map(np.asarray, row)  # waits for the result
            if done == record_at[len(recorded)]:
                recorded.append(row)
            report(done / record_at[-1])
        stacked: _Logged = jax.tree.map(lambda *rows: np.stack(rows, axis=1), *recorded)
        return stacked

    @functools.cached_property
    def _take(self) -> Callable:
        """Picks the members of a wave, placed on their devices."""

        def take(thetas, keys, members):
            return jax.tree.map(lambda leaf: leaf[members], (thetas, keys))

        return jax.jit(take, out_shardings=NamedSharding(self._mesh, _OWN))

    @functools.cached_property
    def _start(self) -> Callable[[MetaParams, jax.Array], TrainState]:
        def start(theta: MetaParams, key: jax.Array) -> TrainState:
            return self._agent.init(key, self._optimizer.transform(theta))

        return jax.jit(self._per_device(jax.vmap(start), in_specs=(_OWN, _OWN), out_specs=_OWN))

    @functools.cached_property
    def _advance(self) -> Callable:
        """(thetas, states, count) -> (states, what is logged, ``[wave]`` on every device)."""

        def train_step(theta: MetaParams, state: TrainState) -> TrainState:
            return self._agent.train_step(self._optimizer.transform(theta), state)[0]

        def advance(thetas, state, count):
            body = lambda _, state: jax.vmap(train_step)(thetas, state)  # noqa: E731
            state = jax.lax.fori_loop(0, count, body, state)
            return state, (*jax.vmap(_finite_return)(state), jax.vmap(self._probe)(state))

        program = self._per_device(advance, in_specs=(_OWN, _OWN, _ALL), out_specs=(_OWN, _OWN))
        everywhere = NamedSharding(self._mesh, _ALL)

        def gathered(thetas, state, count):
            state, row = program(thetas, state, count)
            return state, jax.lax.with_sharding_constraint(row, everywhere)

        return jax.jit(gathered, donate_argnums=1)


def part_of(on_progress: ProgressFunction | None, index: int, count: int) -> ProgressFunction:
    """Reports the progress of one of ``count`` equal parts as that of the whole."""

    def report(share: float) -> None:
        if on_progress is not None:
            on_progress((index + share) / count)

    return report


def _finite_return(state: TrainState) -> tuple[jax.Array, jax.Array]:
    """The last episodes' mean return or NaN, and whether the agent's parameters are finite."""
    finite = all_finite(state.params)
    return jnp.where(finite, mean_return(state.episode_return), jnp.nan), finite


def all_finite(tree: Any) -> jax.Array:
    """Whether all numbers of a tree of arrays are finite, bool scalar."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _record_points(num_iterations: int, points: int) -> list[int]:
    """Up to ``points`` distinct iteration counts, evenly spaced, ending at the last."""
    if points < 1:
        raise ValueError(f"points must be at least 1, got {points}")
    ideal = np.linspace(0, num_iterations, min(points, num_iterations) + 1)[1:]
    return sorted({round(value) for value in ideal.tolist()})


def theta_shapes(optimizer: LearnedOptimizer) -> MetaParams:
    """Theta as shapes; ``ValueError`` if the optimizer has none."""
    shapes = jax.eval_shape(optimizer.init, jax.random.key(0))
    if not jax.tree.leaves(shapes):
        raise ValueError("this optimizer has no meta-parameters, so there is nothing to train")
    return shapes


def broadcast_theta(theta: MetaParams, count: int) -> MetaParams:
    """One theta for all of ``count`` members."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), theta)


def seed_keys(key: jax.Array, first: int, count: int) -> jax.Array:
    """Typed keys ``[count]`` of the seeds ``first .. first + count - 1``."""
    return jax.vmap(lambda seed: jax.random.fold_in(key, seed))(jnp.arange(first, first + count))
