"""The temporal split."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedrank import schema
from feedrank.config.data import SplitConfig
from feedrank.data.split import load_split, save_split, split_by_time
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
