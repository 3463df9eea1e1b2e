"""The 15 features in plain vectorised pandas: what `benchmarks.etl` compares the features' engine with.

It does what pandas is fast at: one integer key for each entity and day, sums per key, cumulative sums over the days.
`check_equal` proves that it means the same as the engine.
"""

import numpy as np
import pandas as pd
import pyarrow as pa

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.features.aggregates import microseconds

US_PER_SECOND = 1_000_000
US_PER_HOUR = 3_600 * US_PER_SECOND
US_PER_DAY = 24 * US_PER_HOUR


def to_frame(interactions: pa.Table) -> pd.DataFrame:
    """The event columns as pandas holds them best: times as integer µs, device as a categorical."""
    frame = interactions.to_pandas()
    for name in (schema.TIMESTAMP, schema.ACTION_TIME):
        frame[name] = interactions[name].cast(pa.int64()).to_numpy()
    frame[schema.DEVICE] = pd.Categorical(frame[schema.DEVICE], categories=schema.DEVICES)
    return frame


def pandas_features(interactions: pd.DataFrame, *, feed: Feed) -> pd.DataFrame:
    """Features of interactions in any order, in time order, with the columns of the default declaration."""
    events = _events(interactions, feed)
    clicks = _clicks(events, feed)
    user, item, overall = (_before_today(events, clicks, key) for key in ("user", "item", "all"))
    rates = feed.features["user_historical_ctr"]
    prior = (overall["click"] + rates.initial_rate * rates.initial_weight) / (overall["count"] + rates.initial_weight)
    recency_hours = microseconds(feed.features["recency_score"].half_life) / US_PER_HOUR
    never, born = user["last"].isna(), item["first"].notna()
    hours = (events["time"] - user["last"]) / US_PER_HOUR
    age = (events["time"] - item["first"].where(born, events["time"])) // US_PER_DAY
    columns = {
        "user_historical_ctr": _smoothed(user, prior, rates.prior_weight),
        "user_avg_dwell_time": user["dwell"] / user["click"].clip(lower=1),
        "user_interaction_count": user["count"],
        "user_days_active": user["days"],
        "item_popularity": np.log1p(item["weight"] * np.exp2(-events["age"] / _half_life_us(feed))),
        "item_ctr": _smoothed(item, prior, feed.features["item_ctr"].prior_weight),
        "item_avg_dwell_time": item["dwell"] / item["click"].clip(lower=1),
        "item_age_days": age,
        schema.HOUR_OF_DAY: events["time"] // US_PER_HOUR % 24,
        schema.DAY_OF_WEEK: (events["day"] + 3) % 7,
        **{name: events["device"].cat.codes == index for index, name in enumerate(feed.flags)},
        "user_item_previous_interactions": _before_today(events, clicks, "pair")["count"],
        "recency_score": np.where(never, 0.0, np.exp2(-hours / recency_hours)),
    }
    types = {field.name: field.type.to_pandas_dtype() for field in feed.fields}
    return pd.DataFrame({name: columns[name].astype(types[name]) for name in feed.names})


def check_equal(frame: pd.DataFrame, features: pa.Table) -> None:
    """Compares with the engine's table.

    Raises:
        AssertionError: names the first column that differs.
    """
    for name in frame.columns:
        np.testing.assert_allclose(frame[name], features[name].to_numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def _events(interactions: pd.DataFrame, feed: Feed) -> pd.DataFrame:
    ordered = interactions.sort_values(schema.TIMESTAMP, kind="stable", ignore_index=True)
    user, item = (pd.factorize(ordered[name])[0] for name in (schema.USER_ID, schema.ITEM_ID))
    time = ordered[schema.TIMESTAMP]
    age = time - time.groupby(item, sort=False).transform("first")
    return pd.DataFrame(
        {
            "all": 0,
            "user": user,
            "item": item,
            "pair": user * (item.max() + 1) + item,
            "time": time,
            "day": time // US_PER_DAY,
            "age": age,
            "weight": np.exp2(age / _half_life_us(feed)),
            "click": ordered[schema.CLICK],
            "dwell": ordered[schema.DWELL_TIME],
            "action_time": ordered[schema.ACTION_TIME],
            "device": ordered[schema.DEVICE],
        }
    )


def _clicks(events: pd.DataFrame, feed: Feed) -> pd.DataFrame:
    """The clicks by the day on which they became known."""
    clicks = events[events["click"] == 1].copy()
    delayed = clicks["time"] + round(feed.outcome_delay_minutes * 60 * US_PER_SECOND)
    clicks["day"] = clicks["action_time"].fillna(delayed).astype(np.int64) // US_PER_DAY
    return clicks


def _half_life_us(feed: Feed) -> float:
    return microseconds(feed.features["item_popularity"].half_life)


def _smoothed(entity: pd.DataFrame, prior: pd.Series, weight: float) -> pd.Series:
    return (entity["click"] + prior * weight) / (entity["count"] + weight)


def _before_today(events: pd.DataFrame, clicks: pd.DataFrame, key: str) -> pd.DataFrame:
    """What is known of each event's entity at the start of its day."""
    first_day = events["day"].min()
    span = max(events["day"].max(), clicks["day"].max()) - first_day + 1
    keys = np.concatenate([frame[key] * span + (frame["day"] - first_day) for frame in (events, clicks)])
    codes, entity_days = pd.factorize(keys, sort=True)
    shown, clicked = codes[: len(events)], codes[len(events) :]
    count = np.bincount(shown, minlength=len(entity_days))
    columns = {"count": count}
    if key != "pair":
        columns |= {
            "click": np.bincount(clicked, minlength=len(count)),
            "dwell": np.bincount(clicked, clicks["dwell"], minlength=len(count)),
            "days": (count > 0).astype(np.int64),
            "weight": np.bincount(shown, events["weight"], minlength=len(count)),
        }
    daily, entities = pd.DataFrame(columns), entity_days // span
    known = daily.groupby(entities, sort=False).cumsum() - daily
    if key in ("user", "item"):
        known["last"] = _earlier_time(events["time"], shown, entities)
        known["first"] = _first_time(events["time"], shown, entities).where(known["last"].notna())
    return known.take(shown).reset_index(drop=True)


def _earlier_time(times: pd.Series, shown: np.ndarray, entities: np.ndarray) -> pd.Series:
    """The entity's last time before each of its days, NaN where there is none."""
    last = np.full(len(entities), np.nan)
    last[shown] = times  # in time order: the last one stays
    return pd.Series(last).groupby(entities, sort=False).ffill().groupby(entities, sort=False).shift()


def _first_time(times: pd.Series, shown: np.ndarray, entities: np.ndarray) -> pd.Series:
    """The entity's first time, at each of its days."""
    first = np.full(len(entities), np.nan)
    first[shown[::-1]] = times[::-1]
    return pd.Series(first).groupby(entities, sort=False).transform("first")
