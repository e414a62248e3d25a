"""OPEN's gridworlds: rules by hand, the distributions, and dynamic programming."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agents import AgentConfig, environments, make_agent
from agents.environments import episodes, mazes, open_gridworld, open_gridworld_tasks
from agents.environments.open_gridworld import MOVES, OpenGridworldState
from agents.environments.open_gridworld_tasks import DISTRIBUTIONS, TaskDistribution
from tests.marks import slow_but

UP, DOWN, LEFT, RIGHT, STAY = range(5)
EVALUATED = (
    "rand_all", "rand_dense", "rand_sparse", "rand_long",
    "standard_maze", "sixteen_rooms", "labyrinth",
)  # fmt: skip


def fixed(tabular, *objects, size=3, steps=50, walls=()):
    """A distribution of one set of rules; objects are (reward, p_terminate, p_respawn)."""
    rewards, p_terminate, p_respawn = (
        tuple((x, x) for x in column) for column in zip(*objects, strict=True)
    )
    count = len(objects)
    return TaskDistribution(
        tabular, (steps, steps), (size, size), (count, count), tuple(range(count)),
        rewards, p_terminate, p_respawn, walls,
    )  # fmt: skip


def make(distribution):
    return open_gridworld.from_distribution("open_gridworld/own", distribution)


def at(env, agent, objects, present):
    """A state with the agent and the objects where one wants them."""
    task = env.sample_task(jax.random.key(0))
    objects = jnp.array(objects, jnp.int32)
    task = task._replace(start=jnp.int32(agent), objects=objects)
    return OpenGridworldState(
        task.start, objects, jnp.array(present, bool), task, episodes.new_log()
    )


def many_steps(env, state, action, count=4000):
    keys = jax.random.split(jax.random.key(7), count)
    step = jax.jit(jax.vmap(env.step, in_axes=(0, None, None)))
    return jax.device_get(step(keys, state, jnp.int32(action)))


def tasks_of(name, count=2000):
    distribution = DISTRIBUTIONS[name]
    draw = jax.jit(jax.vmap(lambda key: open_gridworld_tasks.draw_task(key, distribution)))
    return jax.device_get(draw(jax.random.split(jax.random.key(1), count)))


@pytest.mark.parametrize(
    ("start", "action", "end"),
    [
        (4, UP, 1), (4, DOWN, 4), (4, LEFT, 3), (4, RIGHT, 5), (4, STAY, 4),
        (0, UP, 0), (0, LEFT, 0), (2, RIGHT, 2), (8, DOWN, 8), (8, LEFT, 8), (3, LEFT, 3),
    ],
)  # fmt: skip
def test_moves_and_walls(start, action, end):
    env = make(fixed(True, (1.0, 0.0, 0.0), walls=(7,)))
    state, _ = env.step(jax.random.key(0), at(env, start, [2], [False]), jnp.int32(action))
    assert int(state.agent) == end


def test_a_tabular_observation_is_the_cell_and_the_set_of_present_objects():
    env = make(fixed(True, (1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0, 0.0)))
    assert env.spec.observation_shape == (9 * 8 + 1,)
    state = at(env, 4, [8, 7, 0], [True, False, True])
    _, timestep = env.step(jax.random.key(0), state, jnp.int32(RIGHT))
    expected = np.zeros(73)
    expected[5 + 9 * (1 + 4)] = 1
    expected[-1] = 0.001
    np.testing.assert_allclose(timestep.observation, expected)


def test_the_other_observation_is_of_cells_by_type():
    distribution = fixed(False, (1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    # Two types: the first and the last object look alike.
    env = make(distribution._replace(types=(0, 1, 0)))
    assert env.spec.observation_shape == (9 * 3 + 1,)
    state = at(env, 4, [8, 7, 0], [True, False, True])
    state, _ = env.step(jax.random.key(0), state, jnp.int32(RIGHT))
    _, timestep = env.step(jax.random.key(0), state, jnp.int32(STAY))
    expected = np.zeros(28)
    expected[[5, 9 + 8, 9 + 0]] = 1
    expected[-1] = 0.002
    np.testing.assert_allclose(timestep.observation, expected)


def test_what_was_there_before_the_step_is_collected_and_stays_away_for_it():
    env = make(fixed(True, (0.5, 0.0, 1.0), (-2.0, 0.0, 1.0)))
    # The second object is absent, and comes back under the agent: not collected by this step.
    state = at(env, 4, [5, 5], [True, False])
    state, timestep = env.step(jax.random.key(0), state, jnp.int32(RIGHT))
    assert timestep.reward == 0.5
    np.testing.assert_array_equal(state.present, [False, True])
    state, timestep = env.step(jax.random.key(1), state, jnp.int32(STAY))
    assert timestep.reward == -2
    np.testing.assert_array_equal(state.present, [True, False])


@pytest.mark.parametrize(("p", "expected"), [((0.2, 0.3), 0.5), ((0.7, 0.6), 1.0)])
def test_an_episode_ends_with_the_sum_of_the_probabilities(p, expected):
    env = make(fixed(True, (1.0, p[0], 0.0), (1.0, p[1], 0.0)))
    _, steps = many_steps(env, at(env, 4, [5, 5], [True, True]), RIGHT)
    assert steps.terminated.mean() == pytest.approx(expected, abs=0.03)
    assert np.all(steps.reward == 2)


def test_time_limits_truncate_and_an_episode_begins_where_the_task_says():
    env = make(fixed(True, (1.0, 0.0, 0.0), steps=2))
    state = at(env, 4, [5], [True])
    first, _ = env.step(jax.random.key(0), state, jnp.int32(RIGHT))
    following, cut = env.step(jax.random.key(1), first, jnp.int32(RIGHT))
    assert cut.truncated and not cut.terminated
    assert cut.final_observation[5] == 1 and cut.final_observation[-1] == np.float32(0.002)
    assert cut.observation[4 + 9] == 1 and cut.observation[-1] == 0
    assert int(following.agent) == 4 and bool(following.present[0])
    assert (cut.episode_return, cut.episode_length) == (1, 2)


def test_objects_come_back_on_vacant_cells_by_chance():
    env = make(fixed(False, (1.0, 0.0, 0.5), (1.0, 0.0, 1.0), (1.0, 0.0, 0.0), walls=(0, 1)))
    state = at(env, 4, [2, 3, 8], [False, False, True])
    states, _ = many_steps(env, state, RIGHT, 8000)
    vacant = [2, 3, 4, 6, 7]  # not the walls, nor the agent's 5, nor the present object's 8
    back = states.present
    np.testing.assert_allclose(back.mean(0), [0.5, 1.0, 1.0], atol=0.03)
    for i in (0, 1):
        shares = np.bincount(states.objects[back[:, i], i], minlength=9) / back[:, i].sum()
        np.testing.assert_allclose(shares[vacant], np.full(5, 0.2), atol=0.03)
    both = back[:, 0] & back[:, 1]
    assert np.all(states.objects[both, 0] != states.objects[both, 1])
    assert np.all(states.objects[:, 2] == 8)


def test_episodes_of_random_gridworlds_start_with_objects_drawn_anew():
    env = environments.make("rand_dense")
    task = env.sample_task(jax.random.key(0))
    states, _ = jax.jit(jax.vmap(env.reset_in, in_axes=(None, 0)))(
        task, jax.random.split(jax.random.key(1), 500)
    )
    assert np.all(states.agent == task.start)
    assert len(np.unique(np.asarray(states.objects), axis=0)) > 450
    assert not np.any(np.asarray(states.objects) == int(task.start))


@pytest.mark.parametrize("name", slow_but(("all", "rand_all", "sparse"), list(DISTRIBUTIONS)))
def test_drawn_tasks_fit_their_distribution(name):
    distribution, tasks = DISTRIBUTIONS[name], tasks_of(name, 300)
    size = distribution.size
    free = ~tasks.walls
    np.testing.assert_array_equal(free.sum(1), tasks.num_free)
    assert distribution.steps[0] <= tasks.max_steps.min()
    assert tasks.max_steps.max() <= distribution.steps[1]
    counts = tasks.exists.sum(1)
    assert set(counts) == set(range(distribution.counts[0], distribution.counts[1] + 1))
    for parameter, ranges in (
        (tasks.rewards, distribution.rewards),
        (tasks.p_terminate, distribution.p_terminate),
        (tasks.p_respawn, distribution.p_respawn),
    ):
        for i, kind in enumerate(distribution.types):
            low, high = ranges[kind]
            assert low - 1e-6 <= parameter[:, i].min() <= parameter[:, i].max() <= high + 1e-6
            assert (low == high) or np.ptp(parameter[:, i]) > 0.8 * (high - low)
    for i in range(300):
        cells = [int(tasks.start[i]), *tasks.objects[i]]
        assert len(set(cells)) == len(cells)
        assert free[i][cells].all()
        assert tasks.free_cells[i][: tasks.num_free[i]].tolist() == np.flatnonzero(free[i]).tolist()
        np.testing.assert_array_equal(tasks.free_cells[i][tasks.ranks[i]], np.arange(size**2))


def test_the_training_distribution_is_that_of_the_paper():
    tasks = tasks_of("rand_all")
    # Log-uniform: the medians are geometric means.
    assert np.median(tasks.max_steps) == pytest.approx(np.sqrt(20 * 750), rel=0.15)
    assert np.median(tasks.p_respawn) == pytest.approx(0.01, rel=0.1)
    assert tasks.rewards[:, 0].min() >= 0 and tasks.rewards[:, 1].min() < -0.9
    # Sides 4 to 10, less the walls that fall within, 15 out of 100 cells.
    expected = np.mean([side**2 for side in range(4, 11)]) * 0.85
    assert tasks.num_free.mean() == pytest.approx(expected, rel=0.05)
    spec = environments.make("rand_all").spec
    assert (spec.observation_shape, spec.max_episode_steps) == ((601,), 750)
    assert environments.make("open_gridworld/all").spec.observation_shape == (3201,)


def test_walls_by_hand():
    for name, rows in mazes.MAZES.items():
        assert len(rows) == 13 and {len(row) for row in rows} == {13}, name
    assert mazes.wall_cells("standard_maze")[:4] == (5, 10, 14, 15)
    assert DISTRIBUTIONS["longer"].walls == (4, 22, 31, 40, 49, 58, 76)
    assert len(DISTRIBUTIONS["long_dense"].walls) == 9 + 9 - 1
    assert not {5, 7 * 11 + 5, 4 * 11 + 2, 4 * 11 + 8} & set(DISTRIBUTIONS["long_dense"].walls)


@pytest.mark.parametrize("name", slow_but(("rand_all", "labyrinth"), list(EVALUATED)))
def test_the_evaluated_ones_have_short_names(name):
    assert environments.make(name).spec.name == f"open_gridworld/{name}"


@pytest.mark.slow
def test_an_agent_s_environments_share_one_task_and_agents_do_not():
    env = environments.make("rand_all")
    config = AgentConfig(total_timesteps=64, num_envs=4, num_steps=8, num_minibatches=2)
    agent = make_agent(config, env)
    tx = optax.with_extra_args_support(optax.sgd(0.1))
    init = jax.jit(lambda key: agent.init(key, tx))
    first, second = (init(jax.random.key(seed)) for seed in (0, 1))
    for leaf in jax.tree.leaves(first.env_state.task):
        assert np.all(leaf == leaf[:1])
    assert np.any(first.env_state.task.p_respawn != second.env_state.task.p_respawn)
    after, _ = jax.jit(lambda state: agent.train_step(tx, state))(first)
    jax.tree.map(np.testing.assert_array_equal, after.env_state.task, first.env_state.task)


def test_single_resets_draw_tasks_of_their_own():
    env = environments.make("rand_all")
    states, _ = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 20))
    assert len(np.unique(states.task.p_respawn[:, 0])) == 20


def test_resetting_other_environments_in_parallel_is_a_plain_vmap():
    env = environments.make("sdl")
    key = jax.random.key(0)
    together = environments.reset_parallel(env, key, 3)
    alone = jax.vmap(env.reset)(jax.random.split(key, 3))
    jax.tree.map(np.testing.assert_array_equal, together, alone)


def optimal_values(task, size):
    """The values ``[T + 1, cells, sets]`` and best actions ``[T, cells, sets]`` of a tabular task.

    Backward from the time limit, over every cell and set of present objects.
    """
    task = jax.device_get(task)
    count, horizon = len(task.objects), int(task.max_steps)
    values = np.zeros((horizon + 1, size**2, 2**count))
    best = np.zeros((horizon, size**2, 2**count), np.int32)
    sets = list(itertools.product([0, 1], repeat=count))
    index = {s: sum(bit << i for i, bit in enumerate(s)) for s in sets}

    def move(cell, action):
        row, column = cell // size + MOVES[action][0], cell % size + MOVES[action][1]
        inside = 0 <= row < size and 0 <= column < size
        return row * size + column if inside and not task.walls[row * size + column] else cell

    def outcome(after, cell, present):
        collected = [there and task.objects[i] == cell for i, there in enumerate(present)]
        reward = sum(task.rewards[i] for i in range(count) if collected[i])
        end = min(1.0, sum(task.p_terminate[i] for i in range(count) if collected[i]))
        ahead = 0.0
        for following in sets:
            p = 1.0
            for i in range(count):
                back = task.p_respawn[i] if not present[i] else float(not collected[i])
                p *= back if following[i] else 1 - back
            ahead += p * after[cell, index[following]] if p else 0.0
        return reward + (1 - end) * ahead

    for t in reversed(range(horizon)):
        for cell, present in itertools.product(range(size**2), sets):
            if not task.walls[cell]:
                q = [outcome(values[t + 1], move(cell, a), present) for a in range(5)]
                values[t, cell, index[present]], best[t, cell, index[present]] = (
                    max(q),
                    np.argmax(q),
                )
    return values, best


@pytest.mark.parametrize("seed", [0, 1])
def test_the_optimal_policy_earns_what_dynamic_programming_says(seed):
    distribution = fixed(
        True, (1.0, 0.2, 0.3), (-0.5, 0.1, 0.6), (0.7, 0.5, 0.0), size=3, steps=15, walls=(4,)
    )
    env, num_episodes = make(distribution), 4000
    task = env.sample_task(jax.random.key(seed))
    values, best = optimal_values(task, 3)
    best = jnp.asarray(best)

    def step(state, key):
        which = jnp.sum(state.present * 2 ** jnp.arange(3))
        action = best[state.log.running_length, state.agent, which]
        state, timestep = env.step(key, state, action)
        return state, (timestep.reward, timestep.terminated | timestep.truncated)

    def episode(key):
        reset_key, key = jax.random.split(key)
        state, _ = env.reset_in(task, reset_key)
        _, (rewards, ended) = jax.lax.scan(step, state, jax.random.split(key, 15))
        running = jnp.cumsum(ended) - ended == 0  # the first episode alone
        return jnp.sum(rewards * running)

    returns = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(5), num_episodes))
    error = returns.std() / np.sqrt(num_episodes)
    expected = values[0, int(task.start), 7]
    assert expected > 0.5
    assert abs(float(returns.mean()) - expected) < 4 * error


def test_errors_name_the_known():
    with pytest.raises(ValueError, match="did you mean 'rand_dense'"):
        environments.make("open_gridworld/rand_dens")
    with pytest.raises(ValueError, match="did you mean 'max_steps_in_episode'"):
        environments.make("rand_all", max_steps=3)
    with pytest.raises(ValueError, match="max_steps_in_episode must be a whole number"):
        environments.make("rand_all", max_steps_in_episode=0)
