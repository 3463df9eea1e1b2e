"""Logged features against those that the interactions give."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from monitored_data import CONFIG, START, feature_rows, interactions, prediction_log, with_column

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.features.offline import compute_features
from feedrank.interactions import write_interactions
from feedrank.monitoring.consistency import SUFFIX, consistency_signals
from feedrank.monitoring.results import Signal
from feedrank.monitoring.rows import flat, read_log
from feedrank.tables import US_PER_DAY, timestamps_us, write_partitioned
from tests.feeds import feed_with

FEATURES = Feed()
DAYS = 6


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Days of few users and items, who have a history."""
    folder = tmp_path_factory.mktemp("interactions")
    write_partitioned(shown(), folder)
    return folder


def shown() -> pa.Table:
    return interactions(feature_rows(6_000, day=0, days=DAYS, users=150))


def served(*, stale_days: int = 0, config: Feed = FEATURES) -> pa.Table:
    """Predictions of the last day on features without its last nights, with some constants (`rows.flat_log`)."""
    rows = shown()
    days = (timestamps_us(rows) - timestamps_us(rows).min()) // US_PER_DAY
    known = rows.filter(pa.array((days < DAYS - 1 - stale_days) | (days == DAYS - 1)))
    features = compute_features(known, feed=config)
    last = features.filter(pa.array(timestamps_us(features) >= int((START.timestamp() + (DAYS - 1) * 86_400) * 1e6)))
    log = prediction_log(last)
    times = last[schema.TIMESTAMP]  # the log of the tests is two seconds early
    log = log.set_column(log.schema.get_field_index(schema.TIMESTAMP), log.schema.field(schema.TIMESTAMP), times)
    return flat(log.select(read_log(config).names), config)


def mismatches(sample: pa.Table, table: Path, *, history_start: datetime = START) -> dict[str, Signal]:
    signals = consistency_signals(
        sample, interactions=table, history_start=history_start, feed=FEATURES, config=CONFIG.consistency
    )
    return {signal.name.removesuffix(SUFFIX): signal for signal in signals}


def flagged(sample: pa.Table, table: Path) -> set[str]:
    return {name for name, signal in mismatches(sample, table).items() if signal.flagged}


def test_predictions_on_the_right_features_differ_in_none(table: Path) -> None:
    found = mismatches(served(), table)
    assert set(found) == set(Feed().names)
    assert {signal.statistic for signal in found.values()} == {0.0}
    assert {signal.rows for signal in found.values()} == {CONFIG.consistency.rows}


def test_a_changed_constant_is_found_in_the_features_that_it_makes(table: Path) -> None:
    other = feed_with(user_historical_ctr={"prior_weight": 40.0})
    assert flagged(served(config=other), table) == {"user_historical_ctr"}


def test_a_snapshot_that_is_two_nights_old_is_found(table: Path) -> None:
    found = flagged(served(stale_days=2), table)
    assert {"user_interaction_count", "item_popularity", "user_days_active"} <= found


def test_values_that_are_not_there_differ(table: Path) -> None:
    sample = served()
    gone = with_column(sample, "item_ctr", np.full(sample.num_rows, np.nan))
    assert mismatches(gone, table)["item_ctr"].statistic == 1


def test_predictions_before_the_nights_snapshot_is_in_use_are_not_looked_at(table: Path) -> None:
    early = served(stale_days=2)
    limit = START + timedelta(days=DAYS - 1, hours=CONFIG.consistency.snapshot_hours)
    early = early.filter(pa.array([time < limit for time in early[schema.TIMESTAMP].to_pylist()]))
    assert early.num_rows > CONFIG.consistency.min_rows
    assert {signal.status for signal in mismatches(early, table).values()} == {"not_enough_data"}


def test_interactions_without_the_beginning_give_no_verdict(table: Path) -> None:
    found = mismatches(served(stale_days=2), table, history_start=START - timedelta(days=30))
    assert {signal.status for signal in found.values()} == {"not_enough_data"}


def test_no_predictions_are_not_enough_data(table: Path) -> None:
    assert {signal.status for signal in mismatches(served().slice(0, 0), table).values()} == {"not_enough_data"}


def test_rows_that_the_validation_has_not_accepted_are_in_no_feature(table: Path, tmp_path: Path) -> None:
    """A day that is held is in the interactions, and in no snapshot."""
    held = with_column(shown(), schema.DEVICE, ["phone"] * shown().num_rows)
    write_partitioned(pa.concat_tables([shown(), held]), tmp_path / "interactions")
    found = mismatches(served(), tmp_path / "interactions")
    assert {signal.statistic for signal in found.values()} == {0.0}
    write_partitioned(pa.concat_tables([shown(), shown()]), tmp_path / "other" / "interactions")
    write_interactions(shown(), tmp_path / "other" / "validated" / "clean")
    assert {signal.statistic for signal in mismatches(served(), tmp_path / "other" / "interactions").values()} == {0.0}
