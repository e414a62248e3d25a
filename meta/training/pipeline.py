"""Pipeline training: N agents at all stages of their training, sharded over devices.

Lan et al. 2024 (arXiv 2302.01470), section 5: agent i is reset at the meta-steps whose number
modulo the reset interval is its own index, the indices being spread evenly over the interval. So
the optimizer sees young and old agents at every meta-step. N has nothing to do with the
number of devices: each device takes its share of the agents through the inner loop, some
at a time, in place.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from agents.base import TrainState
from learned_opt.base import MetaParams
from meta.engine import memory
from meta.engine.population import all_finite, theta_shapes
from meta.training.inner_loop import InnerLoop, Stretch

_AXIS = "agents"
_OWN, _ALL = PartitionSpec(_AXIS), PartitionSpec()  # a device's own part; the whole, on each
# On CPUs, more agents than this at once were never faster.
_CPU_AGENTS = 8
_CPU_BYTES = 32 * 2**20


class Agents(NamedTuple):
    """N agents under way.

    Attributes:
      states: their training states, each leaf ``[N, ...]``.
      age: int32 ``[N]``, meta-steps since the last reset.
      failed: bool ``[N]``, whose parameters are not finite; they are reset at the next meta-step.
    """

    states: TrainState
    age: np.ndarray
    failed: np.ndarray


def reset_indices(num_agents: int, reset_interval: int) -> np.ndarray:
    """At which step of each reset interval an agent is reset: int ``[N]``."""
    return np.linspace(0, reset_interval - 1, num_agents).astype(np.int64)


def reset_turns(meta_step: int, num_agents: int, reset_interval: int) -> np.ndarray:
    """Whose turn it is: bool ``[N]``.

    Nobody's at meta-step 0, when all are new, and without an interval (0).
    """
    if not reset_interval or meta_step == 0:
        return np.zeros(num_agents, bool)
    return reset_indices(num_agents, reset_interval) == meta_step % reset_interval


class Cost(NamedTuple):
    """Bytes on one device.

    Attributes:
      state: of all its agents.
      kept: what one chunk keeps for the backward pass.
      temporary: of a chunk's rollout and of one update, forward and backward.
    """

    state: int
    kept: int
    temporary: int

    @property
    def total(self) -> int:
        return self.state + self.kept + self.temporary


class Pipeline:
    """N agents of one task.

    Attributes:
      num_devices: how many of the devices are used.
      chunk: how many agents each takes through the inner loop at once.
      agent_shapes: one agent's state, as shapes.

    Args:
      loop: their inner loop.
      num_agents: N.
      reset_interval: meta-steps, >= 1; 0: agents are never reset.
      agents_per_device: how many a device takes through the inner loop at once; 0 chooses.
      devices: to shard over; as many are used as divide N.

    Raises:
      ValueError: a number is out of range, or it does not fit in memory.
    """

    def __init__(
        self,
        loop: InnerLoop,
        num_agents: int,
        reset_interval: int,
        agents_per_device: int = 0,
        devices: Sequence[jax.Device] | None = None,
    ):
        devices = list(jax.devices() if devices is None else devices)
        self.num_devices = max(n for n in range(1, len(devices) + 1) if num_agents % n == 0)
        self._devices = devices[: self.num_devices]
        self._loop = loop
        self._num_agents = num_agents
        self._local = num_agents // self.num_devices  # agents on each device
        self._reset_interval = reset_interval
        mesh = Mesh(np.array(self._devices), (_AXIS,))
        self._sharded, self._everywhere = NamedSharding(mesh, _OWN), NamedSharding(mesh, _ALL)
        self._per_device = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
        self.agent_shapes = jax.eval_shape(loop.init, jax.random.key(0))
        self.chunk = self._choose_chunk(agents_per_device)
        self._check_memory()

    @property
    def env_steps_per_meta_step(self) -> int:
        """Of all agents: K iterations and the outer loss's rollout."""
        per_agent = (self._loop.inner_updates + 1) * self._loop.agent.steps_per_iteration
        return self._num_agents * per_agent

    def start(self, key: jax.Array) -> Agents:
        """N new agents."""
        keys = jax.random.split(key, self._num_agents)
        none = np.zeros(self._num_agents, bool)
        return Agents(self._start(keys), np.zeros(self._num_agents, np.int32), none)

    def advance(
        self, theta: MetaParams, agents: Agents, meta_step: int, key: jax.Array
    ) -> tuple[Agents, MetaParams, Stretch]:
        """Resets whose turn it is, then takes every agent through a stretch.

        Args:
          theta: the meta-parameters.
          agents: consumed: their memory is used again.
          meta_step: number of the meta-step, from 0.
          key: of the new agents.

        Returns:
          (agents, meta-gradients with leaves ``[N, ...]``, measurements with leaves ``[N]``).
        """
        turns = reset_turns(meta_step, self._num_agents, self._reset_interval) | agents.failed
        # They are not on their devices when read from a checkpoint.
        states = jax.device_put(agents.states, self._sharded)
        for index in np.flatnonzero(turns):
            states = self._renew(states, jnp.int32(index), jax.random.fold_in(key, int(index)))
        states, gradients, stretch, finite = self._advance(theta, states)
        age = np.where(turns, 0, agents.age) + 1
        return Agents(states, age.astype(np.int32), ~np.asarray(finite)), gradients, stretch

    def place_everywhere(self, tree: Any) -> Any:
        """Arrays on all devices, whole."""
        return jax.device_put(tree, self._everywhere)

    @functools.cached_property
    def _start(self) -> Callable[[jax.Array], TrainState]:
        # One by one: orthogonal initialisers side by side can block XLA's CPU client.
        start = lambda keys: jax.lax.map(self._loop.init, keys)  # noqa: E731
        return jax.jit(self._per_device(start, in_specs=_OWN, out_specs=_OWN))

    @functools.cached_property
    def _renew(self) -> Callable[[TrainState, jax.Array, jax.Array], TrainState]:
        """Puts a new agent at an index, in place, on the device that holds it."""

        def renew(states: TrainState, index: jax.Array, key: jax.Array) -> TrainState:
            new = self._loop.init(key)
            local = index - jax.lax.axis_index(_AXIS) * self._local
            here = (local >= 0) & (local < self._local)
            position = jnp.clip(local, 0, self._local - 1)
            return jax.tree.map(
                lambda all_of, one: all_of.at[position].set(jnp.where(here, one, all_of[position])),
                states,
                new,
            )

        program = self._per_device(renew, in_specs=(_OWN, _ALL, _ALL), out_specs=_OWN)
        return jax.jit(program, donate_argnums=0)

    @functools.cached_property
    def _advance(self) -> Any:  # jitted
        """(theta, states) -> (states, gradients, measurements, finite)."""
        one = jax.value_and_grad(self._loop.objective, has_aux=True)

        def chunk(theta: MetaParams, states: TrainState) -> tuple:
            if self.chunk == 1:  # an axis of one costs transpositions
                outputs = one(theta, jax.tree.map(lambda leaf: leaf[0], states))
                outputs = jax.tree.map(lambda leaf: leaf[None], outputs)
            else:
                outputs = jax.vmap(one, (None, 0))(theta, states)
            (_, (states, stretch)), gradients = outputs
            return states, (gradients, stretch, jax.vmap(all_finite)(states.params))

        def advance(theta: MetaParams, states: TrainState) -> tuple:
            shapes = jax.eval_shape(chunk, theta, self._slice(states, 0))[1]
            results = jax.tree.map(
                lambda leaf: jnp.zeros((self._local, *leaf.shape[1:]), leaf.dtype), shapes
            )

            def body(index: jax.Array, carry: tuple) -> tuple:
                states, results = carry
                start = index * self.chunk
                moved, found = chunk(theta, self._slice(states, start))
                put = lambda whole, part: jax.lax.dynamic_update_slice_in_dim(  # noqa: E731
                    whole, part, start, 0
                )
                return jax.tree.map(put, states, moved), jax.tree.map(put, results, found)

            count = self._local // self.chunk
            states, results = jax.lax.fori_loop(0, count, body, (states, results))
            return states, *results

        program = self._per_device(advance, in_specs=(_ALL, _OWN), out_specs=_OWN)

        def gathered(theta: MetaParams, states: TrainState) -> tuple:
            states, *results = program(theta, states)
            # On every device, so that the mean over agents is the same sum everywhere.
            return states, *jax.lax.with_sharding_constraint(results, self._everywhere)

        return jax.jit(gathered, donate_argnums=1)

    def lower(self) -> Any:
        """The program of a meta-step, lowered from shapes alone, for memory analysis."""
        theta = theta_shapes(self._loop.optimizer)
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), self._num_agents))
        return self._advance.lower(theta, jax.eval_shape(self._start, keys))

    def _slice(self, states: TrainState, start: jax.Array | int) -> TrainState:
        take = lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, self.chunk)  # noqa: E731
        return jax.tree.map(take, states)

    def cost(self, chunk: int) -> Cost:
        """The memory that a chunk size takes, estimated from shapes alone."""
        loop, agent, state = self._loop, self._loop.agent, self.agent_shapes
        learner = memory.tree_bytes((state.params, state.opt_state))
        updates = agent.updates_per_iteration
        # For each update its state before; within an iteration that is recomputed, for its
        # own updates, and the states between iterations beside them.
        kept = learner * (updates if loop.remat == "iteration" else loop.inner_updates * updates)
        if loop.remat == "iteration":
            kept += loop.inner_updates * memory.tree_bytes(state)
        if loop.remat == "none":  # and the inside of each update, about three times its state
            kept *= 4
        if loop.recorder is not None:  # the gradients, and the state before the stretch
            kept = loop.updates * memory.tree_bytes(state.params) + learner
        # An update's forward and backward arrays, about six times its state (measured).
        temporary = 6 * learner + 3 * memory.rollout_bytes(agent, state)
        return Cost(self._local * memory.tree_bytes(state), chunk * kept, chunk * temporary)

    def _choose_chunk(self, asked: int) -> int:
        one = self.cost(1)
        if asked:
            wanted = asked
        elif self._devices[0].platform == "cpu":
            wanted = min(_CPU_AGENTS, _CPU_BYTES // one.temporary)
        else:
            free = memory.budget(self._devices) - one.state
            wanted = int(free // (one.kept + one.temporary))
        most = max(1, min(self._local, wanted))
        return max(n for n in range(1, most + 1) if self._local % n == 0)

    def _check_memory(self) -> None:
        cost, budget = self.cost(self.chunk), memory.budget(self._devices)
        if cost.total > budget:
            gib = 2**30
            raise ValueError(
                f"{self._num_agents} agents on {self.num_devices} device(s) need about "
                f"{cost.total / gib:.1f} GiB on each ({cost.state / gib:.1f} for their states, "
                f"{cost.kept / gib:.1f} kept for the backward pass of {self.chunk} agent(s), "
                f"{cost.temporary / gib:.1f} temporary), but only {budget / gib:.1f} GiB may be "
                "used: reduce outer.num_agents, outer.inner_updates or outer.agents_per_device, "
                "or set outer.remat to 'iteration'"
            )
