"""Damaged data: named ways in which a clean batch of interactions goes wrong.

Shared by `benchmarks.validation` and the tests. Each function damages a share of the rows of a clean table, either
anywhere (wrong cells) or the newest ones (a producer that broke some time ago), and names the rules that may claim
to have caught it. The kinds follow published ones (Jenga, tab_err, "Auto-Validate by History", and incidents that
feeds are known for); no code of those is used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from feedrank import schema
from feedrank.data import calendar
from feedrank.tables import US_PER_DAY

NUM_USERS, NUM_ITEMS = 2_000, 5_000
HOUR = pd.Timedelta(hours=1)
LABELS = [schema.CLICK, schema.LIKE, schema.SHARE]


@dataclass(frozen=True)
class Damage:
    """What a damaging function works on: a copy of the clean rows in time order, and how much of it to damage."""

    frame: pd.DataFrame
    share: float
    rng: np.random.Generator

    @property
    def count(self) -> int:
        """Rows to damage."""
        return max(1, round(self.share * len(self.frame)))

    def anywhere(self, among: pd.Series | None = None) -> pd.Index:
        """Labels of random rows, among those that a condition allows."""
        allowed = self.frame.index if among is None else self.frame.index[among]
        return pd.Index(self.rng.choice(allowed, min(self.count, len(allowed)), replace=False))

    def newest(self) -> pd.Index:
        """Labels of the newest rows."""
        return self.frame.index[-self.count :]


@dataclass(frozen=True)
class Issue:
    """One kind of damage; `graded` if its share can be chosen, `first_import` if it must be seen without a history."""

    name: str
    apply: Callable[[Damage], pd.DataFrame]
    rules: frozenset[str]
    graded: bool
    first_import: bool


ISSUES: list[Issue] = []
Damaging = Callable[[Damage], pd.DataFrame]


def issue(*rules: str, graded: bool = True, first_import: bool = False) -> Callable[[Damaging], Damaging]:
    """Adds a damaging function to ISSUES, with the rules that name its damage."""

    def add(function: Damaging) -> Damaging:
        ISSUES.append(Issue(function.__name__, function, frozenset(rules), graded, first_import))
        return function

    return add


def _set(damage: Damage, rows: pd.Index, column: str | list[str], value: Any) -> pd.DataFrame:
    frame = damage.frame
    if value is pd.NA and isinstance(column, str) and pd.api.types.is_integer_dtype(frame[column]):
        frame[column] = frame[column].astype("Int64")
    frame.loc[rows, column] = value
    return frame


def _derive(frame: pd.DataFrame, rows: pd.Index) -> pd.DataFrame:
    """Sets what follows from the timestamp, as a producer does that derives it after the damage."""
    times = frame.loc[rows, schema.TIMESTAMP].dt.tz_localize(None).astype("datetime64[us]").astype(np.int64)
    names = np.array(schema.TIMES_OF_DAY, dtype=object)
    frame.loc[rows, schema.TIME_OF_DAY] = names[calendar.TIME_OF_DAY_BY_HOUR[calendar.hours(times.to_numpy())]]
    frame.loc[rows, schema.DAY_OF_WEEK] = calendar.weekdays(times.to_numpy() // US_PER_DAY).astype(np.int8)
    return frame


def _fresh_ids(damage: Damage, count: int) -> list[str]:
    digits = damage.rng.integers(0, 16, size=(count, 32))
    texts = ["".join(f"{d:x}" for d in row) for row in digits]
    return [f"{t[:8]}-{t[8:12]}-4{t[13:16]}-8{t[17:20]}-{t[20:]}" for t in texts]


# Missing cells


@issue("user_id_not_null")
def null_user_id(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(), schema.USER_ID, pd.NA)


@issue("item_id_not_null")
def null_item_id(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(), schema.ITEM_ID, pd.NA)


@issue("timestamp_not_null")
def null_timestamp(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(), schema.TIMESTAMP, pd.NaT)


@issue("click_not_null")
def null_label(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(), schema.CLICK, pd.NA)


@issue("dwell_time_not_null")
def nan_dwell(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(), schema.DWELL_TIME, np.nan)


@issue("device_not_null")
def null_device(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(), schema.DEVICE, None)


# Values out of their range or set


@issue("user_id_in_catalogue")
def negative_user_id(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(), schema.USER_ID, -1)


@issue("user_id_in_catalogue")
def user_unknown_to_catalogue(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(), schema.USER_ID, NUM_USERS)


@issue("item_id_in_catalogue")
def item_ids_of_another_catalogue(damage: Damage) -> pd.DataFrame:
    damage.frame.loc[damage.anywhere(), schema.ITEM_ID] += NUM_ITEMS
    return damage.frame


@issue("timestamp_not_in_future")
def timestamp_in_future(damage: Damage) -> pd.DataFrame:
    damage.frame.loc[damage.anywhere(), schema.TIMESTAMP] += pd.Timedelta(days=364)
    return damage.frame


@issue("action_not_before_impression")
def action_before_its_impression(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    damage.frame.loc[rows, schema.ACTION_TIME] = damage.frame.loc[rows, schema.TIMESTAMP] - pd.Timedelta(hours=1)
    return damage.frame


@issue("action_not_in_future")
def action_in_future(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    damage.frame.loc[rows, schema.ACTION_TIME] = damage.frame.loc[rows, schema.TIMESTAMP] + pd.Timedelta(days=364)
    return damage.frame


@issue("timestamp_not_too_old")
def timestamp_of_the_epoch(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(), schema.TIMESTAMP, pd.Timestamp(0, tz="UTC"))


@issue("timestamp_not_too_old")
def timestamp_seconds_read_as_ms(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    epoch = pd.Timestamp(0, tz="UTC")
    times = damage.frame.loc[rows, schema.TIMESTAMP]
    damage.frame.loc[rows, schema.TIMESTAMP] = (epoch + (times - epoch) / 1_000).dt.floor("us")
    return damage.frame


@issue("click_is_0_or_1")
def click_counted_twice(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(damage.frame[schema.CLICK] == 1), schema.CLICK, 2)


@issue("share_is_0_or_1")
def share_minus_one_for_unknown(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(), schema.SHARE, -1)


@issue("dwell_time_in_range")
def negative_dwell(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere(damage.frame[schema.DWELL_TIME] > 0)
    damage.frame.loc[rows, schema.DWELL_TIME] *= -1
    return damage.frame


@issue("dwell_time_in_range", "dwell_needs_click")
def dwell_in_milliseconds(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere(damage.frame[schema.DWELL_TIME] > 0)
    damage.frame.loc[rows, schema.DWELL_TIME] *= 1_000
    return damage.frame


@issue("dwell_time_in_range")
def infinite_dwell(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(), schema.DWELL_TIME, np.inf)


@issue("dwell_time_in_range", "dwell_needs_click")
def dwell_outliers(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    spread = damage.frame[schema.DWELL_TIME].std()
    damage.frame.loc[rows, schema.DWELL_TIME] += 10 * spread * (1 + damage.rng.random(len(rows)))
    return damage.frame


@issue("device_in_set")
def unknown_device(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(), schema.DEVICE, "smart_tv")


@issue("device_in_set")
def device_in_capitals(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    damage.frame.loc[rows, schema.DEVICE] = damage.frame.loc[rows, schema.DEVICE].str.upper()
    return damage.frame


@issue("device_in_set")
def device_with_space(damage: Damage) -> pd.DataFrame:
    damage.frame.loc[damage.anywhere(), schema.DEVICE] += " "
    return damage.frame


@issue("device_in_set")
def device_typo(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    damage.frame.loc[rows, schema.DEVICE] = damage.frame.loc[rows, schema.DEVICE].str.replace("e", "r")
    return damage.frame


@issue("time_of_day_in_set")
def time_of_day_mojibake(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    broken = damage.frame.loc[rows, schema.TIME_OF_DAY].map(lambda text: f"{text}\u00e9".encode().decode("latin-1"))
    damage.frame.loc[rows, schema.TIME_OF_DAY] = broken
    return damage.frame


@issue("interaction_id_is_uuid")
def interaction_id_cut_off(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    damage.frame.loc[rows, schema.INTERACTION_ID] = damage.frame.loc[rows, schema.INTERACTION_ID].str[:30]
    return damage.frame


# Columns that contradict each other


@issue("like_needs_click")
def like_without_click(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(damage.frame[schema.CLICK] == 0), schema.LIKE, 1)


@issue("share_needs_click")
def share_without_click(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(damage.frame[schema.CLICK] == 0), schema.SHARE, 1)


@issue("dwell_needs_click", "like_needs_click", "share_needs_click")
def lost_clicks(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.anywhere(damage.frame[schema.CLICK] == 1), schema.CLICK, 0)


@issue("dwell_needs_click", "like_needs_click", "share_needs_click")
def shuffled_clicks(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    clicks = damage.frame.loc[rows, schema.CLICK].to_numpy()
    damage.frame.loc[rows, schema.CLICK] = damage.rng.permutation(clicks)
    return damage.frame


@issue("time_of_day_agrees")
def wrong_time_of_day(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    turn = dict(zip(schema.TIMES_OF_DAY, (*schema.TIMES_OF_DAY[1:], schema.TIMES_OF_DAY[0]), strict=True))
    damage.frame.loc[rows, schema.TIME_OF_DAY] = damage.frame.loc[rows, schema.TIME_OF_DAY].map(turn)
    return damage.frame


@issue("day_of_week_agrees")
def weekday_counts_from_sunday(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    damage.frame.loc[rows, schema.DAY_OF_WEEK] = (damage.frame.loc[rows, schema.DAY_OF_WEEK] + 1) % 7
    return damage.frame


@issue("day_of_week_in_range", "day_of_week_agrees")
def weekday_counts_from_one(damage: Damage) -> pd.DataFrame:
    damage.frame.loc[damage.anywhere(), schema.DAY_OF_WEEK] += 1
    return damage.frame


@issue("time_of_day_agrees", "day_of_week_agrees")
def time_zone_shift(damage: Damage) -> pd.DataFrame:
    damage.frame.loc[damage.anywhere(), schema.TIMESTAMP] -= 7 * HOUR
    return damage.frame


@issue("time_of_day_agrees", "day_of_week_agrees")
def shuffled_timestamps(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    times = damage.frame.loc[rows, schema.TIMESTAMP]
    damage.frame.loc[rows, schema.TIMESTAMP] = times.iloc[damage.rng.permutation(len(rows))].array
    return damage.frame


@issue("item_id_in_catalogue", "user_id_in_catalogue")
def swapped_user_and_item(damage: Damage) -> pd.DataFrame:
    return _swap(damage, schema.USER_ID, schema.ITEM_ID)


@issue("device_in_set", "time_of_day_in_set")
def swapped_device_and_time_of_day(damage: Damage) -> pd.DataFrame:
    return _swap(damage, schema.DEVICE, schema.TIME_OF_DAY)


@issue("like_needs_click", "share_needs_click", "dwell_needs_click")
def swapped_click_and_like(damage: Damage) -> pd.DataFrame:
    return _swap(damage, schema.CLICK, schema.LIKE)


def _swap(damage: Damage, left: str, right: str) -> pd.DataFrame:
    rows = damage.anywhere(damage.frame[left] != damage.frame[right])
    damage.frame.loc[rows, [left, right]] = damage.frame.loc[rows, [right, left]].to_numpy()
    return damage.frame


# Rows that come twice


@issue("interaction_id_unique")
def repeated_rows(damage: Damage) -> pd.DataFrame:
    return pd.concat([damage.frame, damage.frame.loc[damage.anywhere()]])


@issue("interaction_id_unique")
def repeated_interaction_ids(damage: Damage) -> pd.DataFrame:
    rows = damage.anywhere()
    donors = damage.rng.choice(damage.frame.index.difference(rows), len(rows), replace=False)
    damage.frame.loc[rows, schema.INTERACTION_ID] = damage.frame.loc[donors, schema.INTERACTION_ID].to_numpy()
    return damage.frame


@issue("event_unique")
def replayed_events_with_new_ids(damage: Damage) -> pd.DataFrame:
    copies = damage.frame.loc[damage.anywhere()].copy()
    copies[schema.INTERACTION_ID] = _fresh_ids(damage, len(copies))
    return pd.concat([damage.frame, copies])


# The form of the table


@issue("schema", graded=False)
def missing_column(damage: Damage) -> pd.DataFrame:
    return damage.frame.drop(columns=schema.DWELL_TIME)


@issue("schema", graded=False)
def additional_column(damage: Damage) -> pd.DataFrame:
    return damage.frame.assign(position=1)


@issue("schema", graded=False)
def renamed_column(damage: Damage) -> pd.DataFrame:
    return damage.frame.rename(columns={schema.CLICK: "clicked"})


@issue("schema", graded=False)
def labels_as_text(damage: Damage) -> pd.DataFrame:
    return damage.frame.astype({schema.CLICK: str})


@issue("schema", graded=False)
def timestamps_as_text(damage: Damage) -> pd.DataFrame:
    return damage.frame.assign(timestamp=damage.frame[schema.TIMESTAMP].map(str))


@issue("row_count", graded=False)
def empty_table(damage: Damage) -> pd.DataFrame:
    return damage.frame.iloc[:0]


@issue("user_id_varies", graded=False, first_import=True)
def one_user_for_all_rows(damage: Damage) -> pd.DataFrame:
    return damage.frame.assign(user_id=7)


# Days that are late, missing, cut or too full


@issue("freshness", graded=False)
def stale_table(damage: Damage) -> pd.DataFrame:
    last = damage.frame[schema.TIMESTAMP].iloc[-1].floor("D") - pd.Timedelta(days=2)
    return damage.frame[damage.frame[schema.TIMESTAMP] < last]


@issue("daily_missing_days", graded=False)
def missing_day(damage: Damage) -> pd.DataFrame:
    last = damage.frame[schema.TIMESTAMP].iloc[-1].floor("D")
    day = last - pd.Timedelta(days=int(damage.rng.integers(1, 14)))
    return damage.frame[damage.frame[schema.TIMESTAMP].dt.floor("D") != day]


@issue("daily_rows", "daily_hour_profile", graded=False)
def last_day_cut_at_noon(damage: Damage) -> pd.DataFrame:
    noon = damage.frame[schema.TIMESTAMP].iloc[-1].floor("D") + 12 * HOUR
    return damage.frame[damage.frame[schema.TIMESTAMP] < noon]


@issue("daily_rows", graded=False)
def last_day_lost_four_fifths(damage: Damage) -> pd.DataFrame:
    last = damage.frame[schema.TIMESTAMP].iloc[-1].floor("D")
    kept = (damage.frame[schema.TIMESTAMP] < last) | (damage.rng.random(len(damage.frame)) < 0.2)
    return damage.frame[kept]


@issue("daily_rows", graded=False)
def last_day_five_times_as_full(damage: Damage) -> pd.DataFrame:
    last = damage.frame[damage.frame[schema.TIMESTAMP] >= damage.frame[schema.TIMESTAMP].iloc[-1].floor("D")]
    copies = pd.concat([last] * 4, ignore_index=True)
    copies[schema.INTERACTION_ID] = _fresh_ids(damage, len(copies))
    copies[schema.USER_ID] = (copies[schema.USER_ID] + damage.rng.integers(1, NUM_USERS, len(copies))) % NUM_USERS
    return pd.concat([damage.frame, copies])


# A producer that broke some time ago: plausible values, wrong as a whole


@issue("daily_click_rate")
def label_always_zero(damage: Damage) -> pd.DataFrame:
    rows = damage.newest()
    damage.frame.loc[rows, LABELS] = 0
    damage.frame.loc[rows, schema.DWELL_TIME] = 0.0
    return damage.frame


@issue("daily_click_rate")
def label_always_one(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.newest(), schema.CLICK, 1)


@issue("daily_like_rate")
def like_copies_click(damage: Damage) -> pd.DataFrame:
    rows = damage.newest()
    damage.frame.loc[rows, schema.LIKE] = damage.frame.loc[rows, schema.CLICK]
    return damage.frame


@issue("daily_like_rate", "daily_share_rate")
def likes_and_shares_lost(damage: Damage) -> pd.DataFrame:
    damage.frame.loc[damage.newest(), [schema.LIKE, schema.SHARE]] = 0
    return damage.frame


@issue("daily_typical_dwell")
def dwell_in_minutes(damage: Damage) -> pd.DataFrame:
    damage.frame.loc[damage.newest(), schema.DWELL_TIME] /= 60
    return damage.frame


@issue("daily_repeated_dwell", "daily_typical_dwell")
def dwell_sensor_stuck(damage: Damage) -> pd.DataFrame:
    rows = damage.newest()
    mean = damage.frame.loc[damage.frame[schema.CLICK] == 1, schema.DWELL_TIME].mean()
    clicked = rows[damage.frame.loc[rows, schema.CLICK] == 1]
    return _set(damage, clicked, schema.DWELL_TIME, round(float(mean), 2))


@issue("daily_mobile_share", "daily_desktop_share", "daily_tablet_share")
def device_always_the_default(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.newest(), schema.DEVICE, "desktop")


@issue("daily_hour_profile")
def time_zone_shift_before_derivation(damage: Damage) -> pd.DataFrame:
    rows = damage.newest()
    damage.frame.loc[rows, schema.TIMESTAMP] -= 9 * HOUR
    return _derive(damage.frame, rows)


@issue("daily_top_timestamp_share", "daily_hour_profile")
def clock_stuck_for_the_day(damage: Damage) -> pd.DataFrame:
    rows = damage.newest()
    damage.frame.loc[rows, schema.TIMESTAMP] = damage.frame.loc[rows, schema.TIMESTAMP].dt.floor("D") + 13 * HOUR
    return _derive(damage.frame, rows)


@issue("user_event_rate", "daily_top_user_share")
def bot(damage: Damage) -> pd.DataFrame:
    copies = damage.frame.loc[damage.anywhere()].copy()
    start = damage.frame[schema.TIMESTAMP].iloc[len(damage.frame) // 2].floor("D") + 3 * HOUR
    seconds = 0.25 * np.arange(len(copies))
    copies[schema.TIMESTAMP] = start + pd.to_timedelta(seconds, unit="s").floor("us")
    copies[schema.USER_ID] = 13
    copies[schema.INTERACTION_ID] = _fresh_ids(damage, len(copies))
    frame = pd.concat([damage.frame, copies], ignore_index=True)
    return _derive(frame, frame.index[-len(copies) :])


@issue("daily_top_user_share", "daily_users_per_row")
def user_ids_collapse(damage: Damage) -> pd.DataFrame:
    damage.frame.loc[damage.newest(), schema.USER_ID] %= 4
    return damage.frame


@issue("daily_top_item_share")
def item_id_always_the_default(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.newest(), schema.ITEM_ID, 0)


@issue("daily_users_per_row", "daily_new_user_share")
def user_ids_joined_wrongly(damage: Damage) -> pd.DataFrame:
    rows = damage.newest()
    return _set(damage, rows, schema.USER_ID, damage.rng.integers(0, NUM_USERS, len(rows)))


@issue("daily_items_per_row", "daily_new_item_share")
def item_ids_joined_wrongly(damage: Damage) -> pd.DataFrame:
    rows = damage.newest()
    return _set(damage, rows, schema.ITEM_ID, damage.rng.integers(0, NUM_ITEMS, len(rows)))


# A first import that is wrong from its first row to its last


@issue("timestamp_varies", graded=False, first_import=True)
def one_moment_for_all_rows(damage: Damage) -> pd.DataFrame:
    damage.frame[schema.TIMESTAMP] = damage.frame[schema.TIMESTAMP].iloc[-1]
    return _derive(damage.frame, damage.frame.index)


@issue("click_varies", graded=False, first_import=True)
def every_label_one(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.frame.index, schema.CLICK, 1)


@issue("click_varies", graded=False, first_import=True)
def every_label_zero(damage: Damage) -> pd.DataFrame:
    damage.frame[schema.DWELL_TIME] = 0.0
    return _set(damage, damage.frame.index, LABELS, 0)


@issue("device_varies", graded=False, first_import=True)
def one_device_for_all_rows(damage: Damage) -> pd.DataFrame:
    return _set(damage, damage.frame.index, schema.DEVICE, "tablet")


@issue("top_user_share", graded=False, first_import=True)
def one_user_has_a_third_of_the_rows(damage: Damage) -> pd.DataFrame:
    third = damage.rng.choice(damage.frame.index, len(damage.frame) // 3, replace=False)
    return _set(damage, pd.Index(third), schema.USER_ID, 7)


def write_damaged(frame: pd.DataFrame, directory: Path) -> None:
    """Writes a damaged table, which may break the schema, as one file of a partitioned table."""
    fields = []
    for name in frame.columns:
        known = name in schema.INTERACTIONS.names and not (
            pd.api.types.is_object_dtype(frame[name]) and not pa.types.is_string(schema.INTERACTIONS.field(name).type)
        )
        fields.append(
            schema.INTERACTIONS.field(name).with_nullable(True)
            if known
            else pa.field(name, pa.Array.from_pandas(frame[name].head(1)).type)
        )
    table = pa.Table.from_pandas(frame, schema=pa.schema(fields), preserve_index=False)
    folder = directory / f"{schema.DATE}=2024-01-01"
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "part-0.parquet", compression="zstd")
