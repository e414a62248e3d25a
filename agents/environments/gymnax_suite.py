"""The environments of gymnax: MinAtar, classic control, bsuite and others."""

import dataclasses
import struct
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents.environments import arguments, base, episodes

NEEDS = {  # what an environment takes besides this package
    "MNISTBandit-bsuite": "the four files of MNIST, which gymnax downloads when it makes the "
    "environment: offline, put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
    "t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz of "
    "https://storage.googleapis.com/cvdf-datasets/mnist/ into /tmp/mnist",
}


class GymnaxState(NamedTuple):
    """The state of one environment.

    Attributes:
      inner: gymnax's own state.
      log: the accounts of its episodes.
    """

    inner: Any
    log: episodes.EpisodeLog


@dataclasses.dataclass(frozen=True, eq=False)
class GymnaxEnvironment:
    """A gymnax environment behind the protocol of ``base.Environment``.

    gymnax's own ``step`` resets too, but it hides how long and how good an episode was;
    this goes below it, to ``step_env``, ``reset_env`` and ``is_truncated``. Every episode
    starts from a fresh draw of gymnax's first states: a reset costs little there, and
    much of the variety of MinAtar lies in it.

    Attributes:
      env: the gymnax environment.
      params: its ``EnvParams``.
      spec: what agents must know.
      action_bounds: the environment's own lower and upper bounds, each ``[size]``; None for
        discrete actions.
      num_observations: the number of values where gymnax observes a single integer, which
        is handed on as a one-hot vector; else None.
    """

    env: Any
    params: Any
    spec: base.EnvironmentSpec
    action_bounds: tuple[np.ndarray, np.ndarray] | None
    num_observations: int | None

    def reset(self, key: jax.Array) -> tuple[GymnaxState, jax.Array]:
        first = self._first(key)
        return GymnaxState(first.inner, episodes.new_log()), first.observation

    def step(
        self, key: jax.Array, state: GymnaxState, action: jax.Array
    ) -> tuple[GymnaxState, base.TimeStep]:
        step_key, reset_key = jax.random.split(key)
        observation, inner, reward, terminated, _ = self.env.step_env(
            step_key, state.inner, self._own_action(action), self.params
        )
        inner, log, timestep = episodes.finish_step(
            state.log,
            reached=self._moment(inner, observation),
            restart=self._first(reset_key),
            reward=reward,
            terminated=terminated,
            out_of_time=self.env.is_truncated(inner, self.params),
        )
        return GymnaxState(inner, log), timestep

    def _first(self, key: jax.Array) -> episodes.Moment:
        observation, inner = self.env.reset_env(key, self.params)
        return self._moment(inner, observation)

    def _moment(self, inner: Any, observation: jax.Array) -> episodes.Moment:
        if self.num_observations is not None:
            observation = jax.nn.one_hot(observation, self.num_observations)
        return episodes.Moment(episodes.strong(inner), jnp.asarray(observation, jnp.float32))

    def _own_action(self, action: jax.Array) -> jax.Array:
        if self.action_bounds is None:
            episodes.check_action_shape(action, ())
            return action
        low, high = self.action_bounds
        # Around the middle rather than up from the lower bound: exact where the range is
        # [-1, 1] already, as it mostly is.
        return (low + high) / 2 + episodes.clip_action(action, low.size) * (high - low) / 2


def make(env_id: str, **kwargs: Any) -> GymnaxEnvironment:
    """Makes a gymnax environment.

    Args:
      env_id: gymnax's name for it, e.g. ``Breakout-MinAtar``.
      **kwargs: arguments of the environment's constructor, e.g. ``size`` of DeepSea, and
        fields of its ``EnvParams``, e.g. ``max_steps_in_episode``. A field changes alone:
        what gymnax derived from it (CartPole's ``total_mass``) must be given as well.

    Returns:
      The environment; its ``spec.name`` is ``gymnax/<env_id>``.

    Raises:
      ValueError: an unknown ``env_id`` or argument, a time limit below 1, spaces that the
        protocol has no word for, or files that it needs (``NEEDS``) and cannot read or
        download.
    """
    # Imported here: gymnax makes arrays, and so takes hold of the devices, when imported.
    from gymnax import registration

    arguments.check_known("gymnax environment", env_id, names())
    # gymnax keeps the factories to itself, and their signatures tell which arguments exist.
    own = arguments.defaults_of(registration._registry[env_id])
    what = f"argument of {env_id}"
    of_constructor = arguments.typed(what, {k: v for k, v in kwargs.items() if k in own}, own)
    try:
        env, params = registration.make(env_id, **of_constructor)
    except (OSError, EOFError, struct.error) as error:  # of files: missing, cut off, not a file's
        needs = NEEDS.get(env_id, "files or a network")
        raise ValueError(
            f"{env_id} cannot be made: {error}. It needs {needs}; files that are there already "
            "may be damaged, then remove them"
        ) from error

    fields = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    changes = {k: v for k, v in kwargs.items() if k not in own}
    changes = arguments.typed(what, changes, {**own, **fields})
    # gymnax chooses between such fields and floats, which must then be of one type.
    whole = [k for k, v in changes.items() if type(v) is int and type(getattr(params, k)) is float]
    params = params.replace(**changes | {k: float(changes[k]) for k in whole})
    return _adapt(env_id, env, params)


def names() -> list[str]:
    """The ids that ``make`` takes, those registered with gymnax by others included."""
    from gymnax import registration

    return list(registration.registered_envs)


def _adapt(env_id: str, env: Any, params: Any) -> GymnaxEnvironment:
    action, bounds = _action_space(env_id, env.action_space(params))
    num_observations = _num_observations(env.observation_space(params))
    observation, _ = jax.eval_shape(lambda key: env.reset_env(key, params), jax.random.key(0))
    if not hasattr(observation, "shape"):
        raise ValueError(f"{env_id} observes a tree of arrays; only single arrays are supported")
    shape = observation.shape if num_observations is None else (num_observations,)
    spec = base.EnvironmentSpec(
        name=f"gymnax/{env_id}",
        observation_shape=tuple(shape),
        action=action,
        max_episode_steps=arguments.check_positive_int(
            "max_steps_in_episode", params.max_steps_in_episode
        ),
    )
    return GymnaxEnvironment(env, params, spec, bounds, num_observations)


def _action_space(
    env_id: str, space: Any
) -> tuple[base.Discrete | base.Continuous, tuple[np.ndarray, np.ndarray] | None]:
    """The action space, and the bounds of a continuous one."""
    from gymnax.environments import spaces

    if isinstance(space, spaces.Discrete):
        return base.Discrete(int(space.n)), None
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        low = np.broadcast_to(np.asarray(space.low, np.float32), space.shape)
        high = np.broadcast_to(np.asarray(space.high, np.float32), space.shape)
        if np.all(np.isfinite(low)) and np.all(np.isfinite(high)):
            return base.Continuous(int(space.shape[0])), (low, high)
    raise ValueError(
        f"{env_id} has the action space {space}; supported are Discrete, and Box with one "
        "axis and finite bounds"
    )


def _num_observations(space: Any) -> int | None:
    from gymnax.environments import spaces

    return int(space.n) if isinstance(space, spaces.Discrete) else None
