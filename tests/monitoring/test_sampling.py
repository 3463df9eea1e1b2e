"""Sampling of independent rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feedrank.monitoring.sampling import drift_sample, visit_starts

HOUR = 3_600_000_000
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3 * 24 * HOUR)), max_size=60)


def test_a_visit_begins_at_the_first_row_and_after_a_long_pause() -> None:
    users = np.array([1, 1, 1, 2])
    times = np.array([0, HOUR // 4, 2 * HOUR, HOUR])
    starts = visit_starts(users, times, gap_us=HOUR // 2, rng=np.random.default_rng(0))
    assert sorted(starts) == [0, 2, 3]


def test_of_the_candidates_of_one_request_a_random_one_is_taken() -> None:
    users, times = np.zeros(10, dtype=np.int64), np.zeros(10, dtype=np.int64)
    taken = {int(visit_starts(users, times, gap_us=1, rng=np.random.default_rng(seed))[0]) for seed in range(40)}
    assert len(taken) > 5


@given(ROWS)
def test_no_user_is_twice_in_a_period_and_every_user_is_in_some(rows: list[tuple[int, int]]) -> None:
    users, times = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    end = 3 * 24 * HOUR + 1
    sample = drift_sample(users, times, gap_us=HOUR, period_us=24 * HOUR, end_us=end, max_rows=1_000, seed=0)
    periods = (end - 1 - times) // (24 * HOUR)
    pairs = list(zip(users[sample], periods[sample], strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(users[sample]) == set(users)


def test_the_cap_holds_and_the_sample_is_the_same_each_time() -> None:
    users, times = np.arange(1_000), np.arange(1_000)

    def sample() -> np.ndarray:
        return drift_sample(users, times, gap_us=1, period_us=HOUR, end_us=HOUR, max_rows=100, seed=0)

    assert len(sample()) == 100
    np.testing.assert_array_equal(sample(), sample())


def test_the_cap_does_not_favour_users_with_many_visits() -> None:
    busy = np.repeat(np.arange(500), 20)
    users = np.concatenate([busy, np.arange(500, 1_000)])
    times = np.concatenate([np.tile(np.arange(20) * HOUR, 500), np.zeros(500, dtype=np.int64)])
    sample = drift_sample(users, times, gap_us=1, period_us=24 * HOUR, end_us=24 * HOUR, max_rows=200, seed=0)
    assert 70 < (users[sample] < 500).sum() < 130
