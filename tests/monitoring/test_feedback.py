"""Feedback joined with predictions."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
from monitored_data import START, feature_rows, interactions

from feedrank import schema
from feedrank.config.monitoring import WindowConfig
from feedrank.monitoring.feedback import Joined, join_feedback

CONFIG = WindowConfig(attribution_minutes=60, clock_skew_seconds=5)


def predictions(*rows: tuple[int, int, float]) -> pa.Table:
    """Rows of user, item and minute."""
    users, items, minutes = zip(*rows, strict=True) if rows else ((), (), ())
    times = [START + timedelta(minutes=minute) for minute in minutes]
    return pa.table(
        {
            schema.USER_ID: pa.array(users, pa.int64()),
            schema.ITEM_ID: pa.array(items, pa.int64()),
            schema.RECEIVED_AT: pa.array(times, schema.TIMESTAMP_TYPE),
        }
    )


def feedback(*rows: tuple[str, int, int, float, int]) -> pa.Table:
    """Rows of id, user, item, minute and click."""
    table = interactions(feature_rows(len(rows), day=0))
    ids, users, items, minutes, clicks = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    times = [START + timedelta(minutes=minute) for minute in minutes]
    new = {
        schema.INTERACTION_ID: pa.array(ids, pa.string()),
        schema.USER_ID: pa.array(users, pa.int64()),
        schema.ITEM_ID: pa.array(items, pa.int64()),
        schema.TIMESTAMP: pa.array(times, schema.TIMESTAMP_TYPE),
        schema.CLICK: pa.array(clicks, pa.int8()),
        schema.DWELL_TIME: pa.array(np.zeros(len(rows))),
    }
    return pa.table([new.get(name, table[name]) for name in schema.INTERACTIONS.names], schema=schema.INTERACTIONS)


def join(predicted: pa.Table, seen: pa.Table) -> Joined:
    return join_feedback(predicted, seen, config=CONFIG)


def test_feedback_belongs_to_the_latest_earlier_prediction_of_that_user_and_item() -> None:
    joined = join(predictions((1, 7, 0), (1, 8, 5), (1, 7, 10), (2, 7, 11), (1, 7, 30)), feedback(("a", 1, 7, 12, 1)))
    assert joined.rows.tolist() == [2]
    assert joined.click.tolist() == [1]


def test_late_feedback_is_counted_and_not_joined() -> None:
    joined = join(predictions((1, 7, 0)), feedback(("a", 1, 7, 61, 1)))
    assert not len(joined.rows)
    assert joined.counts.late == 1


def test_the_end_of_the_attribution_window_belongs_to_it() -> None:
    assert join(predictions((1, 7, 0)), feedback(("a", 1, 7, 60, 1))).counts.joined == 1


def test_feedback_without_prediction_is_an_orphan() -> None:
    joined = join(predictions((1, 7, 10)), feedback(("a", 1, 8, 11, 1), ("b", 2, 7, 12, 1)))
    assert joined.counts.orphan == 2


def test_duplicates_count_once() -> None:
    seen = feedback(("a", 1, 7, 1, 0), ("a", 1, 7, 1, 0), ("b", 1, 7, 1, 0), ("c", 1, 7, 2, 0))
    joined = join(predictions((1, 7, 0)), seen)
    assert (joined.counts.duplicate, joined.counts.joined) == (2, 2)


def test_repeated_impressions_of_one_prediction_are_one_that_is_clicked_if_any_was() -> None:
    joined = join(predictions((1, 7, 0)), feedback(("a", 1, 7, 1, 0), ("b", 1, 7, 2, 1), ("c", 1, 7, 3, 0)))
    assert joined.rows.tolist() == [0]
    assert joined.click.tolist() == [1]


def test_a_client_clock_that_is_a_little_behind_is_forgiven_and_a_larger_skew_is_not() -> None:
    assert join(predictions((1, 7, 10)), feedback(("a", 1, 7, 10 - 4 / 60, 1))).counts.joined == 1
    assert join(predictions((1, 7, 10)), feedback(("a", 1, 7, 10 - 6 / 60, 1))).counts.orphan == 1


def test_nothing_joined_with_nothing_is_nothing() -> None:
    assert join(predictions(), feedback()).counts.rows == 0
    assert join(predictions((1, 7, 0)), feedback()).counts.joined == 0
    assert join(predictions(), feedback(("a", 1, 7, 0, 1))).counts.orphan == 1


def test_a_dwell_time_in_milliseconds_is_invalid() -> None:
    seen = feedback(("a", 1, 7, 1, 1), ("b", 1, 8, 1, 1))
    dwell = pa.array([20_000.0, 20.0])
    seen = seen.set_column(seen.schema.get_field_index(schema.DWELL_TIME), seen.schema.field(schema.DWELL_TIME), dwell)
    assert join(predictions((1, 7, 0)), seen).counts.invalid == 1
