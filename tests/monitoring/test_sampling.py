"""Sampling of users and of independent rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedrank.monitoring.sampling import chosen_users, drift_sample

HOUR = 3_600_000_000
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3 * 24 * HOUR)), max_size=60)


def test_any_row_of_a_user_and_period_may_be_taken() -> None:
    users, times = np.zeros(10, dtype=np.int64), np.arange(10) * HOUR
    taken = {
        int(drift_sample(users, times, period_us=24 * HOUR, end_us=10 * HOUR, max_rows=9, seed=seed)[0])
        for seed in range(60)
    }
    assert taken == set(range(10))


@given(ROWS)
def test_no_user_is_twice_in_a_period_and_every_user_is_in_some(rows: list[tuple[int, int]]) -> None:
    users, times = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    end = 3 * 24 * HOUR + 1
    sample = drift_sample(users, times, period_us=24 * HOUR, end_us=end, max_rows=1_000, seed=0)
    periods = (end - 1 - times) // (24 * HOUR)
    pairs = list(zip(users[sample], periods[sample], strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(users[sample]) == set(users)


def test_the_cap_holds_and_the_sample_is_the_same_each_time() -> None:
    users, times = np.arange(1_000), np.arange(1_000)

    def sample() -> np.ndarray:
        return drift_sample(users, times, period_us=HOUR, end_us=HOUR, max_rows=100, seed=0)

    assert len(sample()) == 100
    np.testing.assert_array_equal(sample(), sample())


def test_the_cap_does_not_favour_users_with_many_visits() -> None:
    busy = np.repeat(np.arange(500), 20)
    users = np.concatenate([busy, np.arange(500, 1_000)])
    times = np.concatenate([np.tile(np.arange(20) * HOUR, 500), np.zeros(500, dtype=np.int64)])
    sample = drift_sample(users, times, period_us=24 * HOUR, end_us=24 * HOUR, max_rows=200, seed=0)
    assert 70 < (users[sample] < 500).sum() < 130


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50), st.floats(0, 1), st.floats(0, 1))
def test_a_smaller_share_of_users_is_a_part_of_a_larger_one(users: list[int], one: float, other: float) -> None:
    ids = np.array(users, dtype=np.int64)
    small, large = (chosen_users(ids, share=share) for share in sorted((one, other)))
    assert not (small & ~large).any()


def test_a_share_of_consecutive_ids_is_chosen_evenly() -> None:
    chosen = chosen_users(np.arange(1_000_000), share=0.01)
    assert chosen.sum() == pytest.approx(10_000, rel=0.05)
    assert np.histogram(np.flatnonzero(chosen), 10)[0] == pytest.approx(np.full(10, 1_000), rel=0.2)
