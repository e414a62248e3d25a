"""What every environment of every suite must keep to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import environments
from tests.marks import slow_but

NUM_ENVS = 3
NUM_STEPS = 30

FULL_NAMES = [
    name
    for name in environments.names()
    # This one downloads its images when it is made.
    if "/" in name and name != "gymnax/MNISTBandit-bsuite"
]
GRIDWORLD_NAMES = [name for name in FULL_NAMES if "gridworld/" in name]
GYMNAX_NAMES = [name for name in FULL_NAMES if name.startswith("gymnax/")]

# Brax takes seconds to trace, and most of a minute to compile; MinAtar compiles for seconds.
FAST_TO_RUN = [
    "gridworld/big_dense_long",
    "gridworld/small_dense_short",
    "open_gridworld/dense",
    "gymnax/Breakout-MinAtar",
    "gymnax/CartPole-v1",
    "gymnax/DeepSea-bsuite",
    "brax/fast",
]
FAST_NAMES = [*FAST_TO_RUN, *GYMNAX_NAMES[::4], *GRIDWORLD_NAMES[::4]]


def make_with_limit(name, limit):
    argument = "episode_length" if name.startswith("brax/") else "max_steps_in_episode"
    return environments.make(name, **{argument: limit})


def sample_action(key, space):
    if isinstance(space, environments.Discrete):
        return jax.random.randint(key, (), 0, space.num_actions)
    return jax.random.uniform(key, (space.size,), minval=-1, maxval=1)


def rollout(env, num_steps=NUM_STEPS, num_envs=NUM_ENVS):
    """First observations ``[B, ...]`` and the time steps ``[T, B, ...]`` of random actions."""

    def run(key):
        reset_key, action_key, step_key = jax.random.split(key, 3)
        state, observation = env.reset(reset_key)

        def step(state, keys):
            return env.step(keys[1], state, sample_action(keys[0], env.spec.action))

        keys = jnp.stack(
            [jax.random.split(action_key, num_steps), jax.random.split(step_key, num_steps)], 1
        )
        return observation, jax.lax.scan(step, state, keys)[1]

    batched = jax.vmap(run, out_axes=(0, 1))
    return jax.device_get(jax.jit(batched)(jax.random.split(jax.random.key(0), num_envs)))


def signature(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), tree)


@pytest.mark.parametrize("name", slow_but(FAST_NAMES, FULL_NAMES))
def test_a_step_keeps_the_state_s_types_and_gives_what_the_spec_says(name):
    env = environments.make(name)
    spec = env.spec
    assert spec.name == name
    assert spec.max_episode_steps >= 1
    state, observation = jax.eval_shape(env.reset, jax.random.key(0))
    action = jax.eval_shape(lambda key: sample_action(key, spec.action), jax.random.key(0))
    next_state, timestep = jax.eval_shape(env.step, jax.random.key(0), state, action)

    assert signature(next_state) == signature(state)
    assert (observation.shape, observation.dtype) == (spec.observation_shape, jnp.float32)
    assert signature(timestep) == environments.TimeStep(
        observation=(spec.observation_shape, jnp.float32, False),
        reward=((), jnp.float32, False),
        terminated=((), jnp.bool_, False),
        truncated=((), jnp.bool_, False),
        final_observation=(spec.observation_shape, jnp.float32, False),
        episode_return=((), jnp.float32, False),
        episode_length=((), jnp.int32, False),
    )


@pytest.mark.parametrize("name", slow_but(FAST_TO_RUN, FULL_NAMES))
def test_episodes_end_by_the_limit_and_are_accounted_for(name):
    limit = 7
    env = make_with_limit(name, limit)
    assert env.spec.max_episode_steps == limit
    _, steps = rollout(env)
    assert not np.any(steps.terminated & steps.truncated)
    done = steps.terminated | steps.truncated
    assert np.all(np.isfinite(steps.observation))
    # Where an episode goes on, there is one observation; where it ends, two.
    np.testing.assert_array_equal(steps.observation[~done], steps.final_observation[~done])

    for b in range(NUM_ENVS):
        total, length, last_return, last_length = np.float32(0), 0, 0, 0
        for t in range(NUM_STEPS):
            total, length = total + steps.reward[t, b], length + 1
            assert length <= limit
            assert not steps.truncated[t, b] or length == limit
            assert done[t, b] or length < limit
            if done[t, b]:
                last_return, last_length = total, length
                total, length = np.float32(0), 0
            np.testing.assert_allclose(steps.episode_return[t, b], last_return, rtol=1e-6)
            assert steps.episode_length[t, b] == last_length


@pytest.mark.parametrize("name", ["gymnax/CartPole-v1", "gridworld/big_dense_long", "brax/fast"])
def test_runs_are_functions_of_their_key(name):
    first, second = (rollout(environments.make(name), num_steps=5) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize(
    "name", ["gymnax/Breakout-MinAtar", "gridworld/big_dense_long", "brax/fast"]
)
def test_state_can_be_donated(name):
    env = environments.make(name)
    state, _ = env.reset(jax.random.key(0))
    action = sample_action(jax.random.key(1), env.spec.action)
    step = jax.jit(env.step, donate_argnums=1)
    for key in jax.random.split(jax.random.key(2), 2):
        state, timestep = step(key, state, action)
    assert np.all(np.isfinite(timestep.observation))


@pytest.mark.parametrize(
    "name", ["gymnax/CartPole-v1", "gymnax/Pendulum-v1", "gridworld/small_dense_long", "brax/fast"]
)
def test_an_action_of_another_shape_is_an_error(name):
    env = environments.make(name)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    with pytest.raises(ValueError, match="must have shape"):
        jax.eval_shape(env.step, jax.random.key(0), state, jnp.zeros((2, 3)))
