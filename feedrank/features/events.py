"""Interactions as the two kinds of events that they are: impressions, and the outcomes that became known later."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.errors import DataError
from feedrank.features.aggregates import CLICK, DWELL, LIKE, SHARE, US_PER_DAY, US_PER_MINUTE, US_PER_SECOND, Entity
from feedrank.tables import sort_by_time, timestamps_us

Ints = NDArray[np.int64]

EVENT_COLUMNS = (
    schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.CLICK, schema.DWELL_TIME, schema.DEVICE, schema.ACTION_TIME
)  # fmt: skip


def event_columns(feed: Feed) -> list[str]:
    """The columns of interactions that a feed's features are computed from."""
    return [*EVENT_COLUMNS, *_labels(feed)]


def _labels(feed: Feed) -> list[str]:
    """What the features count beside clicks."""
    counted = {aggregate.of for aggregate in feed.aggregates}
    return [label for label in (LIKE, SHARE) if label in counted]


@dataclass(frozen=True)
class Outcomes:
    """What became known of the impressions, in the order of time, each array of shape [outcomes].

    A click may be known later than another one of its day that was shown later.
    """

    times_us: Ints
    """When it became known."""
    events: Ints
    """Place of the impression among the events."""
    amounts: Ints
    """What each adds to a sum: 1, or the dwell in whole microseconds, whose sums do not depend on the order."""

    def only(self, chosen: NDArray[np.bool_]) -> "Outcomes":
        """Some of them."""
        return Outcomes(self.times_us[chosen], self.events[chosen], self.amounts[chosen])


@dataclass(frozen=True)
class Events:
    """Interactions in time order, each array of shape [rows]."""

    user_ids: Ints
    item_ids: Ints
    times_us: Ints
    devices: NDArray[np.int8]
    """Indices into `schema.DEVICES`."""
    clicks: NDArray[np.int8]
    outcomes: dict[str, Outcomes]
    """By what happened."""

    @staticmethod
    def from_table(interactions: pa.Table, *, feed: Feed) -> "Events":
        """Takes the event columns of a table of interactions in any row order."""
        table = sort_by_time(interactions.select(event_columns(feed)))
        return Events(
            user_ids=table[schema.USER_ID].to_numpy(),
            item_ids=table[schema.ITEM_ID].to_numpy(),
            times_us=timestamps_us(table),
            devices=_device_indices(table[schema.DEVICE]),
            clicks=table[schema.CLICK].to_numpy(),
            outcomes=_outcomes(table, feed),
        )

    def days(self) -> Iterator[tuple[int, slice]]:
        """The UTC days with an impression (since 1970), in order, each with its rows."""
        days = self.times_us // US_PER_DAY
        starts = np.flatnonzero(np.diff(days, prepend=days[:1] - 1))
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(days)], strict=False):
            yield int(days[start]), slice(start, stop)

    @cached_property
    def codes(self) -> dict[Entity, Ints]:
        """A number from 0 for each distinct entity, in the order of their first events; [rows] for each kind."""
        users, items = _codes(self.user_ids), _codes(self.item_ids)
        return {
            Entity.ALL: np.zeros(len(users), dtype=np.int64),
            Entity.USER: users,
            Entity.ITEM: items,
            Entity.USER_ITEM: _codes(users * (items.max(initial=0) + 1) + items),
        }


def _outcomes(table: pa.Table, feed: Feed) -> dict[str, Outcomes]:
    """What came of a click became known at its action time, else `outcome_delay_minutes` after the impression."""
    clicked = np.flatnonzero(table[schema.CLICK].to_numpy())
    rows = table.take(pa.array(clicked))
    shown_us = timestamps_us(rows)
    late_us = shown_us + round(feed.outcome_delay_minutes * US_PER_MINUTE)
    known_us = np.maximum(
        pc.coalesce(rows[schema.ACTION_TIME].cast(pa.int64()), pa.array(late_us)).to_numpy(), shown_us
    )
    order = np.argsort(known_us, kind="stable")
    clicks = Outcomes(known_us[order], clicked[order], np.ones(len(order), dtype=np.int64))
    dwell_us = np.rint(rows[schema.DWELL_TIME].to_numpy() * US_PER_SECOND).astype(np.int64)
    return {
        CLICK: clicks,
        DWELL: replace(clicks, amounts=dwell_us[order]),
        **{name: clicks.only(rows[name].to_numpy()[order] > 0) for name in _labels(feed)},
    }


def _device_indices(devices: pa.ChunkedArray) -> NDArray[np.int8]:
    indices = pc.index_in(devices, value_set=pa.array(schema.DEVICES))
    if indices.null_count:
        unknown = devices.filter(pc.is_null(indices)).unique().to_pylist()
        raise DataError(f"column {schema.DEVICE}: unknown {unknown[:3]}, expected one of {list(schema.DEVICES)}")
    return indices.to_numpy().astype(np.int8)


def devices_of(features: pa.Table, feed: Feed) -> NDArray[np.int8]:
    """The devices of rows of features, as indices into `schema.DEVICES`; the first where no feature tells."""
    devices = np.zeros(features.num_rows, dtype=np.int8)
    for name, flag in feed.flags.items():
        devices[features[name].to_numpy() == 1] = flag.index
    return devices


def _codes(ids: Ints) -> Ints:
    import pandas as pd  # slow to import, and the predictor needs the tables only

    return pd.factorize(ids)[0].astype(np.int64, copy=False)
