"""Watching a trained agent for an episode, and choosing how to draw it.

Axes: T steps, B environments that are watched side by side.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from agents import ActorCriticAgent, networks, rollout, task_presets
from agents.base import TrainState
from agents.environments.brax_suite import BraxEnvironment
from agents.environments.gridworld import Gridworld
from agents.environments.open_gridworld import OpenGridworld
from meta.report.films import classic_control, frames
from meta.report.films.frames import Map, Sticks

WATCHED = 16  # B
MAX_STEPS = 300  # T
_MOST_FRAMES = 150
_CAPSULE, _CYLINDER, _PLANE = 3, 5, 0  # MuJoCo's numbers of shapes


class Footage(NamedTuple):
    """One episode of a trained agent.

    Attributes:
      looks: what it is drawn from, each leaf ``[T, ...]``.
      returns: ``[T]`` undiscounted return up to each frame, the first one 0.
      ended: whether the episode ended within ``MAX_STEPS``.
    """

    looks: Any
    returns: np.ndarray
    ended: bool


def what_is_drawn(env: Any) -> str:
    """What a reader has to know of an environment's drawing; empty where it speaks for itself."""
    if _as_bars(env):
        return "Bars: the first numbers that the agent sees, each divided by its largest size"
    return ""


def _as_bars(env: Any) -> bool:
    known = isinstance(env, OpenGridworld | BraxEnvironment | Gridworld)
    is_map = len(env.spec.observation_shape) in (2, 3)
    return not (known or is_map or _scene(env))


def _scene(env: Any) -> Callable[[np.ndarray], frames.Scene] | None:
    suite, _, _ = env.spec.name.partition("/")
    name = task_presets.short_name(env.spec.name)
    return classic_control.SCENES.get(name) if suite == "gymnax" else None


def watch(agent: ActorCriticAgent, state: TrainState, key: jax.Array) -> Footage:
    """Lets a trained agent act in B fresh environments; its actions are drawn, as in training.

    Returns:
      The first episode of that environment whose return (up to the end or ``MAX_STEPS``) is
      the median.
    """
    steps = min(MAX_STEPS, agent.env.spec.max_episode_steps)
    program = jax.jit(_act, static_argnums=(0, 1))
    looks, final_observations, rewards, ended = program(agent, steps, state, key)
    rewards, ended = np.asarray(rewards), np.asarray(ended)
    before = np.cumsum(ended, axis=0) - ended  # episodes that ended earlier
    first = before == 0
    totals = (rewards * first).sum(axis=0)
    chosen = int(np.argsort(totals, kind="stable")[(WATCHED - 1) // 2])
    length = int(first[:, chosen].sum())
    is_over = bool(ended[:length, chosen].any())
    returns = np.concatenate([[0.0], np.cumsum(rewards[:length, chosen])])
    picked = jax.tree.map(lambda leaf: np.array(leaf)[: length + 1, chosen], looks)
    if is_over:  # the last state is the next episode's start already
        for leaf in jax.tree.leaves(picked):
            leaf[-1] = leaf[-2]
        if "observation" in picked:  # but what was seen last is known
            picked["observation"][-1] = np.asarray(final_observations)[length - 1, chosen]
    return Footage(picked, returns, is_over)


def _act(
    agent: ActorCriticAgent, steps: int, state: TrainState, key: jax.Array
) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
    """What is drawn ``[T + 1, B, ...]``; ``[T, B]``: final observations, rewards and ends."""
    env = agent.env
    reset_key, noise_key, step_key = jax.random.split(key, 3)
    noise = networks.draw_noise(noise_key, env.spec.action, (steps, WATCHED))
    step_keys = jax.random.split(step_key, (steps, WATCHED))

    def step(carry, inputs):
        env_state, observation = carry
        flat = rollout.seen(state.observation_statistics, observation)
        following, _, _, outcome = rollout.act(
            env, agent.network, state.params, env_state, flat, *inputs
        )
        ended = outcome.terminated | outcome.truncated
        look = _look(env, env_state, observation)
        shown = look, outcome.final_observation, outcome.reward, ended
        return (following, outcome.observation), shown

    last, (looks, final_observations, rewards, ended) = jax.lax.scan(
        step, rollout.reset_as_trained(env, state, reset_key, WATCHED), (noise, step_keys)
    )
    final = _look(env, *last)
    looks = jax.tree.map(lambda all_, one: jnp.concatenate([all_, one[None]]), looks, final)
    return looks, final_observations, rewards, ended


def _look(env: Any, env_state: Any, observation: jax.Array) -> Any:
    """What the drawing needs of B environments."""
    if isinstance(env, BraxEnvironment):
        x = env_state.now.pipeline_state.x
        return {"position": x.pos, "rotation": x.rot}
    if isinstance(env, OpenGridworld):
        task = env_state.task
        return {
            "agent": env_state.agent,
            "objects": env_state.objects,
            "present": env_state.present,
            "walls": task.walls,
            "rewards": task.rewards,
        }
    return {"observation": observation}


def draw(env: Any, footage: Footage) -> bytes:
    """A GIF of an episode; where an environment has no drawing, of what the agent sees.

    Raises:
      ValueError: a robot without shapes, or nothing finite to draw.
    """
    every = -(-len(footage.returns) // _MOST_FRAMES)
    looks = jax.tree.map(lambda leaf: leaf[::every], footage.looks)
    returns = footage.returns[::every]
    if isinstance(env, BraxEnvironment):
        return frames.stick_animation(_sticks(env, looks), returns, every)
    if isinstance(env, OpenGridworld):
        return frames.map_animation(_open_gridworld(env, looks), returns, every)
    seen = looks["observation"]
    scene = _scene(env) or (classic_control.bars if _as_bars(env) else None)
    if scene is not None:
        shown = scene(seen)
        return frames.scene_animation(shown, len(seen), returns, every)
    return frames.map_animation(_channels(env, seen), returns, every)


def _channels(env: Any, observations: np.ndarray) -> Map:
    """A map from what the agent sees."""
    if observations.ndim == 3:  # one map
        observations = observations[..., None]
    count = observations.shape[-1]
    if isinstance(env, Gridworld):
        # The agent has the last map, and belongs on top.
        things = ["agent", *(f"reward {thing.reward:+g}" for thing in env.room.objects)]
        observations = np.concatenate([observations[..., -1:], observations[..., :-1]], axis=-1)
        shown = frames.from_channels(observations, things)
        walls = np.ones(shown.cells.shape[1:], bool)
        walls[1:-1, 1:-1] = False
        return shown._replace(cells=np.where(walls, -2, shown.cells))
    default = ("filled cell",) if count == 1 else tuple(f"map {i + 1}" for i in range(count))
    names = frames.CHANNELS.get(task_presets.short_name(env.spec.name), default)
    return frames.from_channels(observations, names)


def _open_gridworld(env: OpenGridworld, looks: dict[str, np.ndarray]) -> Map:
    size = env.distribution.size
    cells = np.where(looks["walls"], -2, -1)  # [T, cells]
    for thing in range(looks["objects"].shape[1]):
        there = np.flatnonzero(looks["present"][:, thing])
        cells[there, looks["objects"][there, thing]] = thing + 1
    cells[np.arange(len(cells)), looks["agent"]] = 0
    shown = np.any(looks["present"], axis=0).tolist()
    names = [
        f"reward {reward:+.3g}" if there else ""
        for reward, there in zip(looks["rewards"][0].tolist(), shown, strict=True)
    ]
    return Map(cells.reshape(-1, size, size), ("agent", *names))


def _sticks(env: BraxEnvironment, looks: dict[str, np.ndarray]) -> Sticks:
    """The robot's shapes as sticks: capsules and cylinders by their axis, others by their centre.

    Brax's own viewer would load its scripts from the network.
    """
    model = env.env.sys.mj_model
    if model.nbody - 1 != looks["position"].shape[1]:
        raise ValueError(f"there is no drawing for {env.spec.name}: bodies and links differ")
    ends, radii = [], []
    for shape in range(model.ngeom):
        body, kind = int(model.geom_bodyid[shape]) - 1, int(model.geom_type[shape])
        if body < 0 or kind == _PLANE:  # fixed to the world
            continue
        radius, half = (float(value) for value in model.geom_size[shape][:2])
        half = half if kind in (_CAPSULE, _CYLINDER) else 0.0
        axis = _rotate(np.asarray(model.geom_quat[shape]), np.array([0.0, 0.0, half]))
        both = [np.asarray(model.geom_pos[shape]) + sign * axis for sign in (-1.0, 1.0)]
        rotation, position = looks["rotation"][:, body], looks["position"][:, body]
        ends.append(np.stack([position + _rotate(rotation, end) for end in both], axis=1))
        radii.append(min(radius, 0.3))
    if not ends:
        raise ValueError(f"there is no drawing for {env.spec.name}: it has no shapes")
    return Sticks(np.stack(ends, axis=1), np.array(radii))


def _rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """A vector ``[3]`` turned by unit quaternions ``[..., 4]`` (real part first)."""
    real, imaginary = quaternion[..., :1], quaternion[..., 1:]
    cross = np.cross(imaginary, vector)
    return vector + 2.0 * (real * cross + np.cross(imaginary, cross))
