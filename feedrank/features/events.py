"""Interactions as the two kinds of events that they are: impressions, and the outcomes that became known later."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.data import FeatureConfig
from feedrank.errors import DataError
from feedrank.features.aggregates import CLICK, DWELL, US_PER_DAY, US_PER_SECOND, Entity
from feedrank.tables import sort_by_time, timestamps_us

Ints = NDArray[np.int64]

EVENT_COLUMNS = (
    schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.CLICK, schema.DWELL_TIME, schema.DEVICE, schema.ACTION_TIME
)  # fmt: skip
US_PER_MINUTE = 60 * US_PER_SECOND


@dataclass(frozen=True)
class Outcomes:
    """The clicks in the order of the days on which they became known, each array of shape [clicks]."""

    days: Ints
    """UTC days since 1970."""
    events: Ints
    """Place of the impression among the events."""
    dwell_us: Ints
    """Dwell in whole microseconds: integer sums do not depend on the order of addition."""

    def summands(self, of: str, rows: slice) -> Ints:
        """What some clicks add to a sum of what they are, or of how long they last."""
        return {DWELL: self.dwell_us[rows], CLICK: np.ones(rows.stop - rows.start, dtype=np.int64)}[of]


@dataclass(frozen=True)
class Events:
    """Interactions in time order, each array of shape [rows]."""

    user_ids: Ints
    item_ids: Ints
    times_us: Ints
    devices: NDArray[np.int8]
    """Indices into `schema.DEVICES`."""
    clicks: NDArray[np.int8]
    outcomes: Outcomes

    @staticmethod
    def from_table(interactions: pa.Table, *, config: FeatureConfig) -> "Events":
        """Takes the event columns of a table of interactions in any row order."""
        table = sort_by_time(interactions.select(list(EVENT_COLUMNS)))
        return Events(
            user_ids=table[schema.USER_ID].to_numpy(),
            item_ids=table[schema.ITEM_ID].to_numpy(),
            times_us=timestamps_us(table),
            devices=_device_indices(table[schema.DEVICE]),
            clicks=table[schema.CLICK].to_numpy(),
            outcomes=_outcomes(table, config),
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


def _outcomes(table: pa.Table, config: FeatureConfig) -> Outcomes:
    """A click became known at its action time, else `outcome_delay_minutes` after the impression."""
    clicked = np.flatnonzero(table[schema.CLICK].to_numpy())
    clicks = table.select([schema.TIMESTAMP, schema.ACTION_TIME, schema.DWELL_TIME]).take(pa.array(clicked))
    shown_us = timestamps_us(clicks)
    late_us = shown_us + round(config.outcome_delay_minutes * US_PER_MINUTE)
    known_us = pc.coalesce(clicks[schema.ACTION_TIME].cast(pa.int64()), pa.array(late_us)).to_numpy()
    days = np.maximum(known_us, shown_us) // US_PER_DAY
    order = np.argsort(days, kind="stable")
    dwell_us = np.rint(clicks[schema.DWELL_TIME].to_numpy() * US_PER_SECOND).astype(np.int64)
    return Outcomes(days=days[order], events=clicked[order], dwell_us=dwell_us[order])


def _device_indices(devices: pa.ChunkedArray) -> NDArray[np.int8]:
    indices = pc.index_in(devices, value_set=pa.array(schema.DEVICES))
    if indices.null_count:
        unknown = devices.filter(pc.is_null(indices)).unique().to_pylist()
        raise DataError(f"column {schema.DEVICE}: unknown {unknown[:3]}, expected one of {list(schema.DEVICES)}")
    return indices.to_numpy().astype(np.int8)


def _codes(ids: Ints) -> Ints:
    import pandas as pd  # slow to import, and the predictor needs the tables only

    return pd.factorize(ids)[0].astype(np.int64, copy=False)
