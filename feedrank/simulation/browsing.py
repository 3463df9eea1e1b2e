"""What users do with a ranked feed, by the generator's truth: look, click, like, share, go on or leave.

A user looks at the items from the top. The item at position p is looked at with the world's probability of
examination and then clicked with its true relevance. After each item the user leaves with probability
1 / session_mean_impressions, and with `leave_after_click` times that after a click: good feeds are read longer.

Shapes: V visits, N candidates, R impressions.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feedrank import schema
from feedrank.config.simulation import AudienceConfig
from feedrank.data import calendar
from feedrank.data.generator import Engagement, World
from feedrank.data.generator.population import Floats, Ints
from feedrank.simulation.visits import STREAM, Visits
from feedrank.tables import US_PER_DAY

ANSWER_US = 1_000_000
"""The first item is shown a second after the request."""


@dataclass(frozen=True)
class Shown:
    """The impressions of some visits, by visit and position; arrays of shape [R]."""

    visits: Ints
    """Row of each impression's visit."""
    items: Ints
    times_us: Ints
    click: npt.NDArray[np.int8]
    engagement: Engagement
    clicks_per_visit: Ints
    """[V]"""
    seconds_per_visit: Floats
    """From the first impression to the last, and the dwell on it, [V]."""


def relevance(world: World, visits: Visits) -> Floats:
    """True probability of a click on each candidate once it is examined, [V, N]."""
    shape = visits.candidates.shape
    return world.relevance(
        np.repeat(visits.user_ids, shape[1]),
        visits.candidates.ravel(),
        np.repeat(visits.times_us, shape[1]),
        np.repeat(visits.devices, shape[1]),
    ).reshape(shape)


def browse(world: World, visits: Visits, *, order: Ints, config: AudienceConfig) -> Shown:
    """Shows the candidates in an order ([V, N] columns of `visits.candidates`, the best first)."""
    luck, settings = visits.luck, world.config.world
    attractive = np.take_along_axis(luck.click < relevance(world, visits), order, axis=1)
    examined = luck.examine < world.examination(np.arange(1, order.shape[1] + 1))
    clicks = attractive & examined
    leaves = luck.leave < np.where(clicks, config.leave_after_click, 1.0) / settings.session_mean_impressions
    leaves[:, -1] = True
    rows, places = np.nonzero(np.arange(order.shape[1]) <= leaves.argmax(axis=1)[:, None])
    items = np.take_along_axis(visits.candidates, order, axis=1)[rows, places]
    gaps_us = -np.log1p(-luck.gap) * settings.impression_gap_seconds * 1e6
    gaps_us[:, 0] = 0.0
    elapsed_us = np.cumsum(gaps_us, axis=1)[rows, places]
    midnight_us = (visits.times_us[rows] // US_PER_DAY + 1) * US_PER_DAY
    # What is looked at past midnight counts to the day of the visit, whose interactions are written together.
    times_us = np.minimum(visits.times_us[rows] + ANSWER_US + elapsed_us.astype(np.int64), midnight_us - 1)
    click = clicks[rows, places].astype(np.int8)
    engagement = world.draw_engagement(
        np.random.default_rng([STREAM, world.config.seed, visits.day, 1]), visits.user_ids[rows], items, click, times_us
    )
    last = np.flatnonzero(np.diff(rows, append=-1))
    return Shown(
        visits=rows,
        items=items,
        times_us=times_us,
        click=click,
        engagement=engagement,
        clicks_per_visit=np.bincount(rows, click, minlength=len(visits)).astype(np.int64),
        seconds_per_visit=elapsed_us[last] / 1e6 + engagement.dwell_time[last],
    )


def to_interactions(visits: Visits, shown: Shown, *, name: str) -> pa.Table:
    """The impressions as `schema.INTERACTIONS` in time order; `name` keeps the ids of policies apart."""
    order = np.argsort(shown.times_us, kind="stable")
    rows, times = shown.visits[order], shown.times_us[order]
    ids = [f"{name}-{visits.day}-{number}" for number in order.tolist()]
    labels = {schema.CLICK: shown.click, schema.LIKE: shown.engagement.like, schema.SHARE: shown.engagement.share}
    columns = {
        schema.INTERACTION_ID: pa.array(ids),
        schema.USER_ID: pa.array(visits.user_ids[rows]),
        schema.ITEM_ID: pa.array(shown.items[order]),
        schema.TIMESTAMP: pa.array(times).cast(schema.TIMESTAMP_TYPE),
        **{label: pa.array(values[order]) for label, values in labels.items()},
        schema.DWELL_TIME: pa.array(shown.engagement.dwell_time[order]),
        schema.DEVICE: pa.array(schema.DEVICES).take(pa.array(visits.devices[rows])),
        schema.TIME_OF_DAY: pa.array(schema.TIMES_OF_DAY).take(
            pa.array(calendar.TIME_OF_DAY_BY_HOUR[calendar.hours(times)])
        ),
        schema.DAY_OF_WEEK: pa.array(calendar.weekdays(calendar.days_since_epoch(times)).astype(np.int8)),
        schema.ACTION_TIME: pa.nulls(len(times), schema.TIMESTAMP_TYPE),
    }
    return pa.table([columns[field] for field in schema.INTERACTIONS.names], schema=schema.INTERACTIONS)
