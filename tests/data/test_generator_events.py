"""Generated rows obey the schema (spec 2.1) at any size, and depend on nothing but seed, config and day."""

import uuid
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedrank import schema
from feedrank.config.data import GeneratorConfig
from feedrank.data.generator import events, generate
from feedrank.tables import timestamps_us

SMALL = GeneratorConfig(
    num_users=200, num_items=400, num_interactions=20_000, end_date=date(2024, 1, 20), chunk_rows=6_000
)
HOURS_OF = {"morning": range(6, 12), "afternoon": range(12, 18), "evening": range(18, 22)}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pa.concat_tables(generate(SMALL))


def test_columns_are_the_schemas(table: pa.Table) -> None:
    assert table.schema.equals(schema.INTERACTIONS)
    table.validate(full=True)
    assert all(table[name].null_count == 0 for name in table.column_names if name not in schema.OPTIONAL_COLUMNS)


def test_interaction_ids_are_unique_version_4_uuids(table: pa.Table) -> None:
    ids = table[schema.INTERACTION_ID].to_pylist()
    assert len(set(ids)) == len(ids)
    for text in ids[:200]:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)


def test_labels_and_dwell_follow_the_rules(table: pa.Table) -> None:
    click, like, share = (table[c].to_numpy() for c in (schema.CLICK, schema.LIKE, schema.SHARE))
    dwell = table[schema.DWELL_TIME].to_numpy()
    assert set(np.unique(click)) == {0, 1}
    assert (like <= click).all()
    assert (share <= click).all()
    assert like.sum() > share.sum() > 0
    assert (dwell[click == 1] > 0).all()
    assert dwell.max() <= schema.MAX_DWELL_SECONDS
    short = dwell[click == 0]
    assert short.max() < 3
    assert 0.5 < (short == 0).mean() < 1


def test_time_columns_agree_with_the_timestamp(table: pa.Table) -> None:
    rows = table.slice(0, 3_000).to_pylist()
    for row in rows:
        when = row[schema.TIMESTAMP]
        assert row[schema.DAY_OF_WEEK] == when.weekday()
        name = next((n for n, hours in HOURS_OF.items() if when.hour in hours), "night")
        assert row[schema.TIME_OF_DAY] == name
    assert set(table[schema.TIME_OF_DAY].to_pylist()) == set(schema.TIMES_OF_DAY)
    assert set(table[schema.DEVICE].to_pylist()) == set(schema.DEVICES)


@st.composite
def small_configs(draw: st.DrawFn) -> GeneratorConfig:
    return GeneratorConfig(
        num_users=draw(st.integers(1, 50)),
        num_items=draw(st.integers(1, 100)),
        num_interactions=draw(st.integers(1, 3_000)),
        end_date=date(2024, 1, draw(st.integers(1, 31))),
        chunk_rows=draw(st.integers(1, 2_000)),
        seed=draw(st.integers(0, 2**32)),
    )


@settings(max_examples=15, deadline=None)
@given(config=small_configs())
def test_any_size_gives_exactly_the_rows_in_time_order_and_range(config: GeneratorConfig) -> None:
    chunks = list(generate(config))
    assert all(chunk.num_rows == config.chunk_rows for chunk in chunks[:-1])
    table = pa.concat_tables(chunks)
    assert table.num_rows == config.num_interactions
    times = timestamps_us(table)
    assert (np.diff(times) >= 0).all()
    assert times[0] >= datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6
    assert times[-1] < (datetime(2024, 1, config.end_date.day, tzinfo=UTC).timestamp() + 86_400) * 1e6
    for column, count in ((schema.USER_ID, config.num_users), (schema.ITEM_ID, config.num_items)):
        ids = table[column].to_numpy()
        assert 0 <= ids.min() <= ids.max() < count


def test_chunk_size_changes_nothing(table: pa.Table) -> None:
    assert pa.concat_tables(generate(SMALL.model_copy(update={"chunk_rows": 777}))).equals(table)


def test_seed_decides_everything(table: pa.Table) -> None:
    assert pa.concat_tables(generate(SMALL)).equals(table)
    assert not pa.concat_tables(generate(SMALL.model_copy(update={"seed": 43}))).equals(table)


def test_large_days_are_cut_into_parts_in_time_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_SLOT_ROWS", 150)
    table = pa.concat_tables(generate(SMALL))
    assert table.num_rows == SMALL.num_interactions
    assert (np.diff(timestamps_us(table)) >= 0).all()
    hours = np.bincount((timestamps_us(table) // 3_600_000_000) % 24, minlength=24)
    assert hours[20] > 5 * hours[3]


def test_the_first_chunk_of_a_huge_config_comes_without_the_rest() -> None:
    huge = GeneratorConfig(num_users=500, num_items=500, num_interactions=10**10, chunk_rows=50_000)
    assert next(iter(generate(huge))).num_rows == 50_000


def test_progress_counts_every_row() -> None:
    counted: list[int] = []
    list(generate(SMALL, progress=counted.append))
    assert sum(counted) == SMALL.num_interactions
    assert len(counted) == SMALL.num_days


def test_repeats_within_a_minute_are_rare(table: pa.Table) -> None:
    users, items = table[schema.USER_ID].to_numpy(), table[schema.ITEM_ID].to_numpy()
    times = timestamps_us(table)
    order = np.lexsort((times, items, users))
    same = (np.diff(users[order]) == 0) & (np.diff(items[order]) == 0)
    assert (same & (np.diff(times[order]) < 30e6)).mean() < 0.01
