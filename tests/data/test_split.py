"""The temporal split."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedrank import schema
from feedrank.config.data import SplitConfig
from feedrank.config.promotion import HoldOutConfig
from feedrank.data.split import hold_out, load_split, save_split, split_by_time
from feedrank.errors import DataError
from feedrank.tables import timestamps_us


def table_at(times: list[int]) -> pa.Table:
    return pa.table({schema.TIMESTAMP: pa.array(np.sort(np.array(times, dtype=np.int64))).cast(schema.TIMESTAMP_TYPE)})


@given(st.lists(st.integers(0, 200), min_size=1, max_size=300))
def test_parts_are_in_time_order_cover_all_rows_and_never_split_a_timestamp(times):
    table = table_at(times)
    try:
        split = split_by_time(table, config=SplitConfig())
    except DataError:
        return
    train, validation, test = (timestamps_us(part) for part in split.tables(table))
    assert len(train) + len(validation) + len(test) == len(times)
    assert train[-1] < validation[0]
    assert validation[-1] < test[0]


def test_shares_are_the_configured_ones():
    split = split_by_time(table_at(list(range(1000))), config=SplitConfig())
    assert (split.train.rows, split.validation.rows, split.test.rows) == (700, 150, 150)


def feed(*, days: int, rows_a_day: int, click_rate: float = 0.1, users: int = 50) -> pa.Table:
    times = np.arange(days * rows_a_day, dtype=np.int64) * (86_400_000_000 // rows_a_day)
    rng = np.random.default_rng(0)
    return pa.table(
        {
            schema.TIMESTAMP: pa.array(times).cast(schema.TIMESTAMP_TYPE),
            schema.USER_ID: rng.integers(0, users, len(times)),
            schema.TARGET: (rng.random(len(times)) < click_rate).astype(np.int8),
        }
    )


def test_a_busy_feed_holds_out_hours():
    split = hold_out(feed(days=20, rows_a_day=24_000), config=HoldOutConfig(), min_impressions=20)
    assert (split.test.rows, split.validation.rows) == (6_000, 3_000)
    assert split.test.end - split.train.end < timedelta(hours=9.1)


@pytest.mark.parametrize(
    "needs", [{"min_clicks": 500, "min_users": 1}, {"min_clicks": 1, "min_users": 40, "hours": 0.01}]
)
def test_a_quiet_feed_holds_out_as_few_rows_as_give_the_clicks_and_the_users(needs):
    table, config = feed(days=60, rows_a_day=1_000), HoldOutConfig(**needs)

    def enough(test: pa.Table) -> bool:
        users = np.unique(test[schema.USER_ID].to_numpy(), return_counts=True)[1]
        clicks = test[schema.TARGET].to_numpy().sum()
        return bool(clicks >= config.min_clicks and (users >= 20).sum() >= config.min_users)

    _, _, test = hold_out(table, config=config, min_impressions=20).tables(table)
    assert enough(test)
    assert not enough(test.slice(1))


def test_a_small_feed_holds_out_no_more_than_the_highest_share():
    table = feed(days=10, rows_a_day=100)
    split = hold_out(table, config=HoldOutConfig(max_share=0.3), min_impressions=20)
    assert split.test.rows + split.validation.rows == pytest.approx(300, abs=2)
    assert split.train.rows + split.validation.rows + split.test.rows == table.num_rows


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=300))
def test_what_is_held_out_never_splits_a_timestamp(rows):
    times, users, clicks = np.array(sorted(rows), dtype=np.int64).T
    table = (
        table_at(times).append_column(schema.USER_ID, pa.array(users)).append_column(schema.TARGET, pa.array(clicks))
    )
    try:
        split = hold_out(table, config=HoldOutConfig(min_clicks=3, min_users=1), min_impressions=2)
    except DataError:
        return
    train, validation, test = (timestamps_us(part) for part in split.tables(table))
    assert train[-1] < validation[0]
    assert validation[-1] < test[0]


def test_a_split_survives_saving(tmp_path):
    split = split_by_time(table_at(list(range(100))), config=SplitConfig())
    save_split(split, tmp_path)
    assert load_split(tmp_path) == split


@pytest.mark.parametrize("times", [[], [5, 5, 5]])
def test_a_table_that_cannot_be_split_is_refused(times):
    with pytest.raises(DataError):
        split_by_time(table_at(times), config=SplitConfig())


def test_another_table_than_the_one_that_was_split_is_refused():
    split = split_by_time(table_at(list(range(100))), config=SplitConfig())
    with pytest.raises(DataError, match="99 rows"):
        split.tables(table_at(list(range(99))))
