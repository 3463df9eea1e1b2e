"""Rules about single rows. Each is defined once: a mask of the rows that break it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feedrank import schema
from feedrank.config.validation import ValidationConfig
from feedrank.data import calendar
from feedrank.data.ingest.identity import Hashes
from feedrank.data.validation.batch import UNKNOWN, Batch, Bools, Ints

US_PER_SECOND = 1_000_000
UUID_PATTERN = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
LABELS = (schema.CLICK, schema.LIKE, schema.SHARE)


@dataclass(frozen=True)
class RowRule:
    """`bad` gives the mask of the rows that break the rule, [rows]; nulls are left to the rule about nulls."""

    name: str
    expected: str
    bad: Callable[[Batch, ValidationConfig], Bools]
    remedy: str = ""


def row_rules() -> list[RowRule]:
    """Every rule about rows, in the order in which reasons are given."""
    return [
        *(_not_null(name) for name in schema.INTERACTIONS.names if name not in schema.OPTIONAL_COLUMNS),
        RowRule("interaction_id_is_uuid", "the text form of a UUID", _no_uuid),
        RowRule("interaction_id_unique", "each interaction_id once", _repeated_id),
        RowRule("event_unique", "one row per user, item and timestamp", _repeated_event),
        RowRule("user_id_in_catalogue", "0 … num_users - 1 (if known)", _outside_users),
        RowRule("item_id_in_catalogue", "0 … num_items - 1 (if known)", _outside_items),
        RowRule("timestamp_not_too_old", "not before min_timestamp", _too_old),
        RowRule("timestamp_not_in_future", "not after now", _in_future),
        *(_truth_value(name) for name in LABELS),
        RowRule("dwell_time_in_range", f"0 … {schema.MAX_DWELL_SECONDS:g} s", _dwell_out_of_range),
        RowRule("device_in_set", ", ".join(schema.DEVICES), lambda b, _: _unknown(b, schema.DEVICE, b.devices)),
        RowRule("time_of_day_in_set", ", ".join(schema.TIMES_OF_DAY), _time_of_day_unknown),
        RowRule("day_of_week_in_range", "0 … 6", _weekday_out_of_range),
        _needs_click(schema.LIKE),
        _needs_click(schema.SHARE),
        RowRule("dwell_needs_click", "without a click only a short look", _long_look),
        RowRule("day_of_week_agrees", "the weekday of the timestamp", _weekday_differs),
        RowRule("time_of_day_agrees", "the time of day of the timestamp's hour", _time_of_day_differs),
        RowRule("action_not_before_impression", "action_time not before timestamp", _action_before_impression),
        RowRule("action_not_in_future", "action_time not after now", _action_in_future),
        RowRule(
            "user_event_rate",
            "no more moments of a user in a minute than a human has",
            _too_fast,
            remedy="a bot, or one id for everybody who isn't signed in: leave these rows out or give them ids of their "
            "own (of the session); if that is right, raise validation.max_user_events_per_minute",
        ),
    ]


def _not_null(name: str) -> RowRule:
    return RowRule(f"{name}_not_null", "a value", lambda batch, _: batch.nulls(name))


def _truth_value(name: str) -> RowRule:
    return RowRule(f"{name}_is_0_or_1", "0 or 1", lambda batch, _: (batch.ints(name) & ~1) != 0)


def _needs_click(name: str) -> RowRule:
    def bad(batch: Batch, _: ValidationConfig) -> Bools:
        return (batch.ints(name) == 1) & (batch.clicks == 0) & ~batch.nulls(schema.CLICK)

    return RowRule(f"{name}_needs_click", f"a {name} only on a click", bad)


def _no_uuid(batch: Batch, _: ValidationConfig) -> Bools:
    matches = pc.match_substring_regex(batch.table[schema.INTERACTION_ID], UUID_PATTERN)
    return ~pc.fill_null(matches, True).to_numpy()


def _later_copies(keys: Hashes, settled: Bools | None) -> Bools:
    """Rows whose key an earlier row has, or one of a settled day, [rows]."""
    if settled is None:
        order = np.argsort(keys, kind="stable")
    else:
        first = np.concatenate([np.flatnonzero(settled), np.flatnonzero(~settled)])
        order = first[np.argsort(keys[first], kind="stable")]
    values = keys[order]
    copies = np.zeros(len(keys), dtype=bool)
    copies[order[1:]] = values[1:] == values[:-1]
    return copies


def _repeated_id(batch: Batch, _: ValidationConfig) -> Bools:
    return _later_copies(batch.id_hashes, batch.settled) & ~batch.nulls(schema.INTERACTION_ID)


def _repeated_event(batch: Batch, _: ValidationConfig) -> Bools:
    keys = _mixed(_mixed(_mixed(batch.users) ^ batch.items.view(np.uint64)) ^ batch.times.view(np.uint64))
    known = ~(batch.nulls(schema.USER_ID) | batch.nulls(schema.ITEM_ID) | batch.nulls(schema.TIMESTAMP))
    return _later_copies(keys, batch.settled) & known


def _mixed(values: Ints | Hashes) -> Hashes:
    return pd.util.hash_array(values)


def _outside(ids: Ints, nulls: Bools, size: int | None) -> Bools:
    return ((ids < 0) | (ids >= (np.iinfo(np.int64).max if size is None else size))) & ~nulls


def _outside_users(batch: Batch, _: ValidationConfig) -> Bools:
    return _outside(batch.users, batch.nulls(schema.USER_ID), batch.limits.num_users)


def _outside_items(batch: Batch, _: ValidationConfig) -> Bools:
    return _outside(batch.items, batch.nulls(schema.ITEM_ID), batch.limits.num_items)


def _too_old(batch: Batch, config: ValidationConfig) -> Bools:
    first = datetime.combine(config.min_timestamp, time(), tzinfo=UTC)
    return (batch.times < int(first.timestamp()) * US_PER_SECOND) & ~batch.nulls(schema.TIMESTAMP)


def _in_future(batch: Batch, config: ValidationConfig) -> Bools:
    return batch.times > batch.limits.now_us + int(config.future_tolerance_s * US_PER_SECOND)


def _action_before_impression(batch: Batch, _: ValidationConfig) -> Bools:
    before = pc.less(batch.table[schema.ACTION_TIME], batch.table[schema.TIMESTAMP])
    return pc.fill_null(before, False).to_numpy()


def _action_in_future(batch: Batch, config: ValidationConfig) -> Bools:
    latest = batch.limits.now_us + int(config.future_tolerance_s * US_PER_SECOND)
    return pc.fill_null(pc.greater(batch.table[schema.ACTION_TIME].cast(pa.int64()), latest), False).to_numpy()


def _dwell_out_of_range(batch: Batch, _: ValidationConfig) -> Bools:
    return (batch.dwell < 0) | (batch.dwell > schema.MAX_DWELL_SECONDS)


def _long_look(batch: Batch, config: ValidationConfig) -> Bools:
    without = (batch.clicks == 0) & ~batch.nulls(schema.CLICK)
    return (batch.dwell > config.max_dwell_without_click_seconds) & without


def _unknown(batch: Batch, name: str, codes: Ints) -> Bools:
    return (codes == UNKNOWN) & ~batch.nulls(name)


def _time_of_day_unknown(batch: Batch, _: ValidationConfig) -> Bools:
    return _unknown(batch, schema.TIME_OF_DAY, batch.codes(schema.TIME_OF_DAY, schema.TIMES_OF_DAY))


def _time_of_day_differs(batch: Batch, _: ValidationConfig) -> Bools:
    codes = batch.codes(schema.TIME_OF_DAY, schema.TIMES_OF_DAY)
    expected = calendar.TIME_OF_DAY_BY_HOUR[calendar.hours(batch.times)]
    return (codes != expected) & (codes != UNKNOWN) & ~batch.nulls(schema.TIMESTAMP)


def _weekday_out_of_range(batch: Batch, _: ValidationConfig) -> Bools:
    weekday = batch.ints(schema.DAY_OF_WEEK)
    return (weekday < 0) | (weekday > 6)


def _weekday_differs(batch: Batch, config: ValidationConfig) -> Bools:
    differs = batch.ints(schema.DAY_OF_WEEK) != calendar.weekdays(batch.days)
    unknown = batch.nulls(schema.DAY_OF_WEEK) | batch.nulls(schema.TIMESTAMP)
    return differs & ~unknown & ~_weekday_out_of_range(batch, config)


def _too_fast(batch: Batch, config: ValidationConfig) -> Bools:
    """Distinct moments count: the impressions of one answer share theirs."""
    minutes = (batch.times // (60 * US_PER_SECOND)).view(np.uint64)
    keys = _mixed(_mixed(batch.users) ^ minutes)
    known = ~(batch.nulls(schema.USER_ID) | batch.nulls(schema.TIMESTAMP))
    busy = _counts(keys) > config.max_user_events_per_minute
    busy &= known
    if not busy.any():
        return busy
    moments = pd.DataFrame({"key": keys[busy], "time": batch.times[busy]}).groupby("key")["time"].transform("nunique")
    busy[busy] = moments.to_numpy() > config.max_user_events_per_minute
    return busy


def _counts(keys: Hashes) -> Ints:
    """How many rows have each row's key, [rows]."""
    _, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return counts[places]
