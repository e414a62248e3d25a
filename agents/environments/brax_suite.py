"""The environments of Brax: ant, humanoid and the other robots."""

import contextlib
import dataclasses
import inspect
import io
import math
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agents.environments import arguments, base, episodes

BACKENDS = ("generalized", "positional", "spring", "mjx")

_NOISE = ("Failed to import warp", "Failed to import mujoco_warp")
_WARNING_NOISE = ("Brax System, piplines", "JAXopt is no longer maintained")
_MUJOCO_NOISE = ("compiler attribute 'settotalmass' is deprecated",)


class Simulation(NamedTuple):
    """What Brax needs to go on from: the lasting part of its ``State``.

    Its reward, done and metrics are results, not state; they are left out, which keeps
    what a scan carries small.

    Attributes:
      pipeline_state: the physics.
      observation: float32 ``[observation size]``.
      info: the environment's own notes; empty for most.
    """

    pipeline_state: Any
    observation: jax.Array
    info: dict[str, Any]


class BraxState(NamedTuple):
    """The state of one environment.

    Attributes:
      now: the simulation.
      first: the simulation at the environment's first reset, where each episode starts.
      log: the accounts of its episodes.
    """

    now: Simulation
    first: Simulation
    log: episodes.EpisodeLog


@dataclasses.dataclass(frozen=True, eq=False)
class BraxEnvironment:
    """A Brax environment behind the protocol of ``base.Environment``.

    An environment's episodes all start from the state that its ``reset`` drew, as with
    Brax's own ``AutoResetWrapper``: parallel environments differ in it, episodes of one do
    not. A fresh draw would have to be there at every step, since under ``vmap`` both sides
    of a choice are computed, and drawing one runs the kinematics of all the robot's parts;
    a copy is twice the memory but no work.

    Attributes:
      env: the Brax environment, without any of Brax's wrappers.
      metrics: the shapes and dtypes of the metrics that the environment reports.
      spec: what agents must know.
      action_repeat: how many of the simulator's steps one action lasts.
    """

    env: Any
    metrics: dict[str, jax.ShapeDtypeStruct]
    spec: base.EnvironmentSpec
    action_repeat: int

    def reset(self, key: jax.Array) -> tuple[BraxState, jax.Array]:
        first = _lasting(self.env.reset(key))
        # A copy, so that the two can be donated; under jit it costs nothing.
        now = jax.tree.map(jnp.copy, first)
        return BraxState(now, first, episodes.new_log()), first.observation

    def step(
        self, key: jax.Array, state: BraxState, action: jax.Array
    ) -> tuple[BraxState, base.TimeStep]:
        """Takes one step, and goes back to the first state where it ended the episode.

        Environments whose actuators have another range than [-1, 1] rescale actions themselves.
        """
        del key  # Brax draws at resets alone
        action = episodes.clip_action(action, int(self.env.action_size))
        reached, reward, terminated = self._act(state.now, action)
        now, log, timestep = episodes.finish_step(
            state.log,
            reached=episodes.Moment(reached, reached.observation),
            restart=episodes.Moment(state.first, state.first.observation),
            reward=reward,
            terminated=terminated,
            out_of_time=state.log.running_length + 1 >= self.spec.max_episode_steps,
        )
        return BraxState(now, state.first, log), timestep

    def _act(
        self, simulation: Simulation, action: jax.Array
    ) -> tuple[Simulation, jax.Array, jax.Array]:
        """One action for ``action_repeat`` steps of the simulator, or until it terminates."""
        if self.action_repeat == 1:
            return self._simulate(simulation, action)

        def repeat(carry, _):
            simulation, total_reward, terminated = carry
            following, reward, ends = self._simulate(simulation, action)
            # An episode that is over stays as it ended, for the rest of the repeats.
            simulation = episodes.select(terminated, simulation, following)
            total_reward += jnp.where(terminated, jnp.float32(0), reward)
            return (simulation, total_reward, terminated | ends), None

        start = (simulation, jnp.float32(0), jnp.bool_(False))
        return jax.lax.scan(repeat, start, length=self.action_repeat)[0]

    def _simulate(
        self, simulation: Simulation, action: jax.Array
    ) -> tuple[Simulation, jax.Array, jax.Array]:
        """One step of the simulator: (simulation, reward, terminated)."""
        from brax import envs

        # The dictionaries are copied because Brax's environments write into them.
        state = self.env.step(
            envs.State(
                pipeline_state=simulation.pipeline_state,
                obs=simulation.observation,
                reward=jnp.float32(0),
                done=jnp.float32(0),
                metrics={k: jnp.zeros(v.shape, v.dtype) for k, v in self.metrics.items()},
                info=dict(simulation.info),
            ),
            action,
        )
        reward = jnp.asarray(state.reward, jnp.float32)
        return _lasting(state), reward, jnp.asarray(state.done) > 0.5


def make(
    env_id: str,
    *,
    backend: str | None = None,
    episode_length: int = 1000,
    action_repeat: int = 1,
    **kwargs: Any,
) -> BraxEnvironment:
    """Makes a Brax environment.

    Args:
      env_id: Brax's name for it, e.g. ``ant``.
      backend: the physics: one of ``BACKENDS``. By default ``positional``, which the OPEN
        paper uses for ant; for swimmer ``generalized``, the only one it has.
      episode_length: the time limit, in steps of the simulator.
      action_repeat: how many steps of the simulator one action lasts; their rewards are
        summed. An episode has ``ceil(episode_length / action_repeat)`` steps of the agent.
      **kwargs: arguments of the environment's constructor, e.g. ``healthy_z_range`` of ant.

    Returns:
      The environment; its ``spec.name`` is ``brax/<env_id>``.

    Raises:
      ValueError: an unknown ``env_id``, backend or argument, an environment that lacks the
        backend, an ``episode_length`` or ``action_repeat`` below 1, or observations that
        are not a single array.
    """
    envs = _import_envs()
    arguments.check_known("Brax environment", env_id, names())
    backend = _default_backend(env_id) if backend is None else backend
    arguments.check_known("Brax backend", backend, BACKENDS)
    kwargs = arguments.typed(f"argument of {env_id}", kwargs, _argument_defaults(env_id))
    episode_length = arguments.check_positive_int("episode_length", episode_length)
    action_repeat = arguments.check_positive_int("action_repeat", action_repeat)

    with _silenced():
        try:
            env = envs.get_environment(env_id, backend=backend, **kwargs)
        except ValueError as error:
            raise ValueError(
                f"Brax cannot make {env_id} with backend {backend!r} and {kwargs}: {error} "
                f"The default backend is {_default_backend(env_id)!r}."
            ) from error
        first = jax.eval_shape(env.reset, jax.random.key(0))
    if not hasattr(first.obs, "shape"):
        raise ValueError(f"{env_id} observes a tree of arrays; only single arrays are supported")
    spec = base.EnvironmentSpec(
        name=f"brax/{env_id}",
        observation_shape=tuple(first.obs.shape),
        action=base.Continuous(int(env.action_size)),
        max_episode_steps=math.ceil(episode_length / action_repeat),
    )
    return BraxEnvironment(env, first.metrics, spec, action_repeat)


def names() -> list[str]:
    """The ids that ``make`` takes, those registered with Brax by others included."""
    # Brax has no public list of them.
    return list(_import_envs()._envs)


def _default_backend(env_id: str) -> str:
    # Swimmer exists for one backend alone.
    return "generalized" if env_id == "swimmer" else "positional"


def _argument_defaults(env_id: str) -> dict[str, Any]:
    """The constructor's arguments, those it hands on to ``PipelineEnv`` included."""
    envs = _import_envs()
    known = arguments.defaults_of(envs.PipelineEnv) | arguments.defaults_of(envs._envs[env_id])
    # ``sys`` is the robot itself, which the environment loads; ``backend`` is ours to give.
    return {name: value for name, value in known.items() if name not in ("sys", "backend")}


def _lasting(state: Any) -> Simulation:
    return Simulation(
        pipeline_state=episodes.strong(state.pipeline_state),
        observation=jnp.asarray(state.obs, jnp.float32),
        info=episodes.strong(state.info),
    )


def _import_envs() -> types.ModuleType:
    """``brax.envs``, imported on first use, for that takes seconds and prints."""
    with _silenced():
        from brax import envs, fluid

    _keep_clip_arguments(fluid)
    return envs


def _keep_clip_arguments(fluid: Any) -> None:
    """Lets Brax's fluid forces (swimmer's) call ``jnp.clip`` with its former ``a_min``.

    JAX has renamed that argument to ``min``, and Brax is no longer maintained. Only the
    name ``jp`` inside that one module is replaced; JAX itself stays as it is.
    """
    if "a_min" in inspect.signature(fluid.jp.clip).parameters:
        return

    def clip(array, a_min=None, a_max=None):
        return jnp.clip(array, a_min, a_max)

    numpy = types.ModuleType(jnp.__name__)
    vars(numpy).update(vars(jnp), clip=clip)
    fluid.jp = numpy


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Drops the known notices of Brax and MuJoCo that no user can act on, and no others.

    They are printed lines about packages that are not needed, Python warnings about
    maintenance, and a MuJoCo warning that would leave a ``MUJOCO_LOG.TXT`` behind in the
    current directory.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            for start in _WARNING_NOISE:
                warnings.filterwarnings("ignore", message=start)
            with _mujoco_silenced():
                yield
    finally:
        for line in printed.getvalue().splitlines(keepends=True):
            if not line.startswith(_NOISE):
                sys.stdout.write(line)


@contextlib.contextmanager
def _mujoco_silenced() -> Iterator[None]:
    import mujoco

    previous = mujoco.get_mju_user_warning()

    def handle(message: str) -> None:
        if message.startswith(_MUJOCO_NOISE):
            return
        if previous is None:
            warnings.warn(message, stacklevel=2)
        else:
            previous(message)

    mujoco.set_mju_user_warning(handle)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(previous)
