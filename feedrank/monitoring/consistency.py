"""Were predictions made on the features that they should have been made on?

The features of a sample of logged predictions are computed again, with the constants that the model was trained with,
from the interactions that were known at the start of the prediction's day: of those that the nightly validation beside
them has accepted, as the nightly snapshot is. A share of rows that differ says that the predictor has another snapshot
(an old one) or other constants. Only what the sample needs is kept of the history: the rows of its users and items, and
the counts of all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.config.monitoring import ConsistencyConfig
from feedrank.data.validation.stored import CLEAN
from feedrank.delta import Location, is_local, is_table
from feedrank.features.aggregates import US_PER_DAY, Aggregate, Array, Context, Entity
from feedrank.features.events import Events, devices_of
from feedrank.features.fold import Fold
from feedrank.features.snapshot import kept
from feedrank.monitoring.held_days import VALIDATED
from feedrank.monitoring.recent import Source
from feedrank.monitoring.results import Signal
from feedrank.monitoring.rows import KEYS
from feedrank.tables import sort_by_time, timestamps_us

HISTORY_START = datetime(2000, 1, 1, tzinfo=UTC)
US_PER_HOUR = 3_600_000_000
RELATIVE, ABSOLUTE = 0.01, 1e-4
"""A served value may differ so much: the log is in float32, and a click may come a little late."""
SUFFIX = "_consistency"


@dataclass(frozen=True)
class _Known:
    """What was known at the start of a day."""

    rows: pa.Table
    """Interactions of the users and items in question."""
    totals: dict[Aggregate, float]
    """Over all interactions."""
    first_us: int
    """Of the earliest interaction."""


def consistency_signals(
    sample: pa.Table,
    *,
    interactions: Location,
    history_start: datetime,
    feed: Feed,
    config: ConsistencyConfig,
) -> list[Signal]:
    """For each feature the share of a window's predictions (`rows.flat_log`) whose served value is another one.

    Nothing can be said when the interactions begin later than `history_start`, from which the model's features are.
    """
    predictions = _checked(sample, config)
    differ = np.zeros((0, len(feed.names)), dtype=bool)
    if predictions.num_rows:
        day = int(timestamps_us(predictions)[0] // US_PER_DAY)
        known = _known(predictions, interactions, day=day, feed=feed)
        if known.first_us <= (history_start + timedelta(days=1)).timestamp() * 1e6:
            differ = _differences(predictions, known, feed=feed)
    return [_signal(name, differ[:, place], config) for place, name in enumerate(feed.names)]


def _checked(sample: pa.Table, config: ConsistencyConfig) -> pa.Table:
    """Some predictions of the latest day that has enough of them after the night's snapshot was in use, by time."""
    times = timestamps_us(sample)
    served, days = times % US_PER_DAY >= config.snapshot_hours * US_PER_HOUR, times // US_PER_DAY
    for day in np.unique(days)[::-1]:
        rows = np.flatnonzero(served & (days == day))
        if len(rows) >= config.min_rows:
            chosen = np.random.default_rng(0).permutation(rows)[: config.rows]
            return sort_by_time(sample.take(pa.array(np.sort(chosen))))
    return sample.slice(0, 0)


def _known(predictions: pa.Table, interactions: Location, *, day: int, feed: Feed) -> _Known:
    midnight = datetime.fromtimestamp(0, tz=UTC) + timedelta(days=day)
    source = Source.open(
        _accepted(interactions),
        wanted=schema.INTERACTIONS,
        by=schema.TIMESTAMP,
        start=HISTORY_START,
        end=midnight,
        expected_from=midnight,
    )
    users, items = predictions[schema.USER_ID].unique(), predictions[schema.ITEM_ID].unique()
    rows, first_us = [schema.INTERACTIONS.empty_table()], np.iinfo(np.int64).max
    totals: dict[Aggregate, float] = dict.fromkeys(kept(feed, Entity.ALL), 0)
    for read in source.batches(keys=KEYS):
        batch = read.filter(pc.is_in(read[schema.DEVICE], pa.array(schema.DEVICES)))  # nobody may have validated them
        first_us = min(first_us, int(timestamps_us(batch).min(initial=first_us)))
        for aggregate, value in _totals(Events.from_table(batch, feed=feed), totals, day).items():
            totals[aggregate] += value.item()
        involved = pc.or_(pc.is_in(batch[schema.USER_ID], users), pc.is_in(batch[schema.ITEM_ID], items))
        rows.append(batch.filter(involved))
    return _Known(pa.concat_tables(rows), totals, first_us)


def _totals(events: Events, aggregates: Iterable[Aggregate], day: int) -> dict[Aggregate, Array]:
    fold = Fold(events, aggregates)
    for of_day, rows in events.days():
        fold.add(of_day, rows)
    return fold.read({Entity.ALL: np.zeros(1, dtype=np.int64)}, day)


def _accepted(interactions: Location) -> Location:
    clean = Path(interactions).with_name(VALIDATED) / CLEAN if is_local(interactions) else None
    return interactions if clean is None or not is_table(clean) else clean


def _differences(predictions: pa.Table, known: _Known, *, feed: Feed) -> NDArray[np.bool_]:
    """Whether each feature of each prediction of one day is not what it should be, shape [predictions, features]."""
    events = Events.from_table(pa.concat_tables([known.rows, _as_interactions(predictions, feed)]), feed=feed)
    fold = Fold(events, feed.aggregates)
    columns: dict[str, Array] = {}
    for day, rows in events.days():
        if rows.start == known.rows.num_rows:
            state = fold.read({entity: codes[rows] for entity, codes in events.codes.items()}, day)
            count = np.ones(predictions.num_rows, dtype=np.int64)
            state |= {aggregate: value * count for aggregate, value in known.totals.items()}
            context = Context(events.times_us[rows], events.devices[rows], np.asarray(day * US_PER_DAY))
            columns = {name: form.of(context, state) for name, form in feed.features.items()}
        fold.add(day, rows)
    return np.stack(
        [_differs(predictions[name], np.asarray(columns[name], dtype=np.float64)) for name in feed.names], axis=1
    )


def _differs(served: pa.ChunkedArray, computed: NDArray[np.float64]) -> NDArray[np.bool_]:
    values = pc.cast(served, pa.float64()).to_numpy()
    return ~(np.abs(values - computed) <= ABSOLUTE + RELATIVE * np.abs(computed))


def _as_interactions(predictions: pa.Table, feed: Feed) -> pa.Table:
    """Rows of that user, item, time and device, without any outcome."""
    rows = predictions.num_rows
    columns = {
        schema.INTERACTION_ID: pa.array([f"prediction {row}" for row in range(rows)]),
        **{name: predictions[name] for name in KEYS},
        schema.DEVICE: pa.array(schema.DEVICES).take(pa.array(devices_of(predictions, feed))),
        schema.TIME_OF_DAY: pa.array([schema.TIMES_OF_DAY[0]] * rows),
        schema.ACTION_TIME: pa.nulls(rows, schema.TIMESTAMP_TYPE),
    }
    for field in schema.INTERACTIONS:
        if field.name not in columns:
            columns[field.name] = pa.array(np.zeros(rows), field.type)
    arrays = [columns[name] for name in schema.INTERACTIONS.names]
    return pa.Table.from_arrays(arrays, schema=schema.INTERACTIONS)


def _signal(name: str, differ: NDArray[np.bool_], config: ConsistencyConfig) -> Signal:
    enough = len(differ) >= config.min_rows
    share = float(differ.mean()) if enough else None
    drifted = share is not None and share > config.max_mismatch
    reason = f"{share or 0:.0%} of the predictions were made on another {name} than the interactions give"
    return Signal(
        name=f"{name}{SUFFIX}",
        kind="consistency",
        test="computed again",
        statistic=share,
        effect=share,
        threshold=config.max_mismatch,
        rows=len(differ),
        status="drift" if drifted else "ok" if enough else "not_enough_data",
        reason=reason if drifted else "" if enough else "not enough data: too few predictions, or no whole history",
    )
