import itertools

import pytest

from meta.engine import pace


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when they are added to ``clock[0]``."""
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_calls_end_where_they_must_and_grow_to_what_two_seconds_hold(clock):
    counts, ends = [], []
    for count, done in pace.Pace().calls([3, 20, 40]):
        clock[0] += 0.25 * count + (10.0 if done == 1 else 0.0)  # the first one compiles
        counts.append(count)
        ends.append(done)
    assert counts == [1, 1, 1, 8, 8, 1, 8, 8, 4]
    assert ends == list(itertools.accumulate(counts))


def test_a_clock_that_stands_still_does_no_harm(clock):
    assert [done for _, done in pace.Pace().calls([5, 5_000_000])][-1] == 5_000_000


def test_what_one_run_showed_holds_for_the_next(clock):
    watch = pace.Pace()
    for count, _ in watch.calls([2]):
        clock[0] += 0.5 * count
    assert [count for count, _ in watch.calls([4])] == [4]
