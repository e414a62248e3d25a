"""Cutting steps into episodes the slow and obvious way."""

import numpy as np

from meta.export.recording import Episode


def cut_slowly(steps, limit):
    """The episodes of the first ``limit`` steps (by time, then environment), as they end."""
    num_steps, num_envs = steps.reward.shape
    under_way = {environment: [] for environment in range(num_envs)}
    found, taken = [], 0
    for time in range(num_steps):
        for environment in range(num_envs):
            if taken == limit:
                break
            taken += 1
            under_way[environment].append(time)
            if steps.terminated[time, environment] or steps.truncated[time, environment]:
                found.append(_episode(steps, environment, under_way[environment]))
                under_way[environment] = []
    rest = [_episode(steps, env, times) for env, times in under_way.items() if times]
    return found + rest


def _episode(steps, environment, times):
    last = times[-1], environment
    observations = [steps.observation[time, environment] for time in times]
    return Episode(
        np.stack([*observations, steps.final_observation[last]]),
        np.stack([steps.action[time, environment] for time in times]),
        np.stack([steps.reward[time, environment] for time in times]),
        bool(steps.terminated[last]),
        bool(steps.truncated[last]),
        environment,
        0,
    )


def assert_same_episodes(found, expected):
    """Asserts that episodes are equal to the last bit, iterations aside."""
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        for name in ("observation", "action", "reward"):
            one, two = getattr(mine, name), getattr(other, name)
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one, two)
        assert mine[3:6] == other[3:6]
