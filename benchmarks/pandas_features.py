"""The 15 features in plain vectorised pandas: what `benchmarks.etl` compares the features' engine with.

It does what pandas is fast at (one integer key for each entity, grouped cumulative sums) and repairs simultaneous
events only on the rows that need it. `check_equal` proves that it means the same as the engine.
"""

import numpy as np
import pandas as pd
import pyarrow as pa

from feedrank import schema
from feedrank.config.data import FeatureConfig

US_PER_SECOND = 1_000_000
US_PER_HOUR = 3_600 * US_PER_SECOND
US_PER_DAY = 24 * US_PER_HOUR
NEVER = -1
"""The last time of a user without an earlier event."""


def to_frame(interactions: pa.Table) -> pd.DataFrame:
    """The event columns as pandas holds them best: time as integer µs, device as a categorical."""
    frame = interactions.set_column(
        interactions.schema.get_field_index(schema.TIMESTAMP),
        schema.TIMESTAMP,
        interactions[schema.TIMESTAMP].cast(pa.int64()),
    ).to_pandas()
    frame[schema.DEVICE] = pd.Categorical(frame[schema.DEVICE], categories=schema.DEVICES)
    return frame


def pandas_features(interactions: pd.DataFrame, *, config: FeatureConfig) -> pd.DataFrame:
    """Features of interactions in any order, in time order, with the columns of `schema.FEATURES`."""
    events = _events(interactions, config)
    times, age = events["time"], events["age"]
    user = _earlier(events, "user", ["click", "dwell"])
    item = _earlier(events, "item", ["click", "dwell", "weight"])
    overall = _earlier(events.assign(all=0), "all", ["click"])
    prior = (overall["click"] + config.initial_ctr * config.initial_ctr_weight) / (
        overall["count"] + config.initial_ctr_weight
    )
    last = _last_time(events)
    hours = (times - last) / US_PER_HOUR
    new_day = ~events.duplicated(["user", "day"])
    device = events["device"].cat.codes
    columns = {
        schema.USER_HISTORICAL_CTR: _smoothed(user, prior, config.user_ctr_prior_weight),
        schema.USER_AVG_DWELL_TIME: user["dwell"] / user["click"].clip(lower=1),
        schema.USER_INTERACTION_COUNT: user["count"],
        schema.USER_DAYS_ACTIVE: new_day.groupby(events["user"], sort=False).cumsum() - 1,
        schema.ITEM_POPULARITY: np.log1p(item["weight"] * np.exp2(-age / _half_life_us(config))),
        schema.ITEM_CTR: _smoothed(item, prior, config.item_ctr_prior_weight),
        schema.ITEM_AVG_DWELL_TIME: item["dwell"] / item["click"].clip(lower=1),
        schema.ITEM_AGE_DAYS: age // US_PER_DAY,
        schema.HOUR_OF_DAY: times // US_PER_HOUR % 24,
        schema.DAY_OF_WEEK: (events["day"] + 3) % 7,
        **{name: device == index for index, name in enumerate(schema.DEVICE_COLUMNS)},
        schema.USER_ITEM_PREVIOUS_INTERACTIONS: _earlier(events, "pair", [])["count"],
        schema.RECENCY_SCORE: np.where(last == NEVER, 0.0, np.exp2(-hours / config.recency_half_life_hours)),
    }
    types = {field.name: field.type.to_pandas_dtype() for field in schema.FEATURE_FIELDS}
    return pd.DataFrame({name: columns[name].astype(types[name]) for name in schema.FEATURES})


def check_equal(frame: pd.DataFrame, features: pa.Table) -> None:
    """Compares with the engine's table.

    Raises:
        AssertionError: names the first column that differs.
    """
    for name in schema.FEATURES:
        np.testing.assert_allclose(frame[name], features[name].to_numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def _events(interactions: pd.DataFrame, config: FeatureConfig) -> pd.DataFrame:
    ordered = interactions.sort_values(schema.TIMESTAMP, kind="stable", ignore_index=True)
    user, item = (pd.factorize(ordered[name])[0] for name in (schema.USER_ID, schema.ITEM_ID))
    time, click = ordered[schema.TIMESTAMP], ordered[schema.CLICK].astype(np.int64)
    age = time - time.groupby(item, sort=False).transform("first")
    return pd.DataFrame(
        {
            "user": user,
            "item": item,
            "pair": user * (item.max() + 1) + item,
            "time": time,
            "day": time // US_PER_DAY,
            "age": age,
            "weight": np.exp2(age / _half_life_us(config)),
            "click": click,
            "dwell": ordered[schema.DWELL_TIME] * click,
            "device": ordered[schema.DEVICE],
        }
    )


def _half_life_us(config: FeatureConfig) -> float:
    return config.popularity_half_life_days * US_PER_DAY


def _smoothed(entity: pd.DataFrame, prior: pd.Series, weight: float) -> pd.Series:
    return (entity["click"] + prior * weight) / (entity["count"] + weight)


def _earlier(events: pd.DataFrame, key: str, summed: list[str]) -> pd.DataFrame:
    """Count and sums over the strictly earlier events with the same key."""
    groups = events.groupby(key, sort=False)
    earlier = groups[summed].cumsum() - events[summed] if summed else pd.DataFrame(index=events.index)
    earlier["count"] = groups.cumcount()
    return _as_of_the_first_simultaneous(earlier, events, key)


def _last_time(events: pd.DataFrame) -> pd.Series:
    """Time of the user's last strictly earlier event, or NEVER."""
    last = events.groupby("user", sort=False)["time"].shift(fill_value=NEVER).to_frame()
    return _as_of_the_first_simultaneous(last, events, "user")["time"]


def _as_of_the_first_simultaneous(values: pd.DataFrame, events: pd.DataFrame, key: str) -> pd.DataFrame:
    tied = events.duplicated([key, "time"], keep=False)
    if tied.any():
        keys = [events.loc[tied, key], events.loc[tied, "time"]]
        values.loc[tied] = values[tied].groupby(keys, sort=False).transform("first")
    return values
