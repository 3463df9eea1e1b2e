"""Impressions of the synthetic world in time order: sessions, clicks and what follows them, in bounded memory.

The range is cut into slots (a day, or a part of it when the day is large). A slot's rows depend on the seed, the
config and the slot alone, so the chunk size changes nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feedrank import schema
from feedrank.config.data import GeneratorConfig
from feedrank.data import calendar
from feedrank.data.generator.exposure import PAGE_SIZE
from feedrank.data.generator.population import Floats, Ints, Stream, random_stream
from feedrank.data.generator.world import World
from feedrank.tables import US_PER_DAY

MAX_SLOT_ROWS = 250_000
WEEKEND_ACTIVITY = 1.2
"""Impressions on a Saturday or Sunday over those on a working day."""
WORKDAY_HOURS = (12, 7, 4, 3, 4, 9, 22, 38, 44, 38, 35, 38, 48, 46, 38, 36, 40, 48, 60, 74, 80, 72, 50, 28)
WEEKEND_HOURS = (20, 13, 8, 5, 4, 5, 9, 18, 32, 46, 56, 60, 62, 62, 60, 58, 58, 60, 64, 70, 72, 66, 52, 34)
"""Relative activity in each UTC hour."""
SATURDAY = 5
MS_PER_SECOND = 1_000.0


@dataclass(frozen=True)
class Slot:
    """A part of a day and how many rows fall into it."""

    day: int
    part: int
    parts: int
    rows: int


def generate(config: GeneratorConfig, *, progress: Callable[[int], None] | None = None) -> Iterator[pa.Table]:
    """Yields `config.num_interactions` rows of schema.INTERACTIONS in time order, `chunk_rows` a table.

    Memory depends on chunk_rows and the number of users and items, not on num_interactions.

    Args:
        config: size, range, truth and drift.
        progress: called with the number of new rows after each slot.
    """
    world = World(config)
    waiting: list[pa.Table] = []
    rows = 0
    for slot in _slots(world):
        waiting.append(_slot_table(world, slot))
        rows += slot.rows
        if progress is not None:
            progress(slot.rows)
        if rows >= config.chunk_rows:
            table = pa.concat_tables(waiting)
            full = rows - rows % config.chunk_rows
            for start in range(0, full, config.chunk_rows):
                yield table.slice(start, config.chunk_rows).combine_chunks()
            rows -= full
            waiting = [table.slice(full)]
    if rows:
        yield pa.concat_tables(waiting).combine_chunks()


def _slots(world: World) -> Iterator[Slot]:
    config = world.config
    weights = np.array([world.exposure.active_weight(day) for day in range(config.num_days)])
    weights[[_is_weekend(config, day) for day in range(config.num_days)]] *= WEEKEND_ACTIVITY
    rng = random_stream(config.seed, Stream.CALENDAR)
    for day, day_rows in enumerate(rng.multinomial(config.num_interactions, weights / weights.sum())):
        parts = -(-int(day_rows) // MAX_SLOT_ROWS)
        for part in range(parts):
            yield Slot(
                day=day,
                part=part,
                parts=parts,
                rows=int(day_rows) * (part + 1) // parts - int(day_rows) * part // parts,
            )


def _slot_table(world: World, slot: Slot) -> pa.Table:
    """The slot's rows, sorted by time."""
    rng = random_stream(world.config.seed, Stream.EVENTS, slot.day, slot.part)
    drift_rng = random_stream(world.config.seed, Stream.DRIFT_EVENTS, slot.day, slot.part)
    sessions, positions = _sessions(rng, rows=slot.rows, mean=world.config.world.session_mean_impressions)
    session_users = world.exposure.draw_users(rng, day=slot.day, size=int(sessions[-1]) + 1)
    session_devices = world.exposure.draw_devices(rng, user_ids=session_users, day=slot.day)
    times = _times(rng, world=world, slot=slot, sessions=sessions)
    users, devices = session_users[sessions], session_devices[sessions].astype(np.int8)
    page, place = _places(sessions, rows=slot.rows)
    page_users = np.empty(int(page[-1]) + 1, dtype=np.int64)
    page_users[page] = users
    pages = world.exposure.draw_pages(rng, drift_rng=drift_rng, user_ids=page_users, day=slot.day)
    items = pages[page, place]
    chance = world.examination(positions) * world.relevance(users, items, times, devices)
    clicks = (rng.random(slot.rows) < chance).astype(np.int8)
    like, share, dwell = world.draw_engagement(rng, users, items, clicks, times)
    recorded = _recorded(drift_rng, world=world, day=slot.day, clicks=clicks)
    broken = drift_rng.random(slot.rows) < world.drift.strength("broken_dwell_sensor", slot.day)
    dwell = dwell * recorded * np.where(broken, MS_PER_SECOND, 1.0)
    table = _table(
        ids=_uuids(rng, slot.rows),
        users=users,
        items=items,
        times=times,
        labels=[clicks * recorded, like * recorded, share * recorded],
        dwell=dwell,
        devices=devices,
    )
    return table.take(pa.array(np.argsort(times, kind="stable")))


def _sessions(rng: np.random.Generator, *, rows: int, mean: float) -> tuple[Ints, Ints]:
    """Session number and position (from 1) of each row: lengths are geometric, as any row may be the last.

    The first session may have begun before the slot; so positions are distributed alike in slots of any size.
    """
    new = np.concatenate([[False], rng.random(rows - 1) < 1 / mean])
    sessions = np.cumsum(new)
    starts = np.concatenate([[1 - rng.geometric(1 / mean)], np.flatnonzero(new)])
    return sessions, np.arange(rows) - starts[sessions] + 1


def _places(sessions: Ints, *, rows: int) -> tuple[Ints, Ints]:
    """Page number and place on the page of each row; a session starts a page."""
    _, first, lengths = np.unique(sessions, return_index=True, return_counts=True)
    offset = np.arange(rows) - first[sessions]
    pages = -(-lengths // PAGE_SIZE)
    first_page = np.cumsum(pages) - pages
    return first_page[sessions] + offset // PAGE_SIZE, offset % PAGE_SIZE


def _times(rng: np.random.Generator, *, world: World, slot: Slot, sessions: Ints) -> Ints:
    """Microseconds since 1970 of each row: sessions start by the rhythm of the day and end within the slot."""
    hours = WEEKEND_HOURS if _is_weekend(world.config, slot.day) else WORKDAY_HOURS
    cumulative = np.concatenate([[0.0], np.cumsum(hours)]) / sum(hours)
    count = int(sessions[-1]) + 1
    quantiles = np.concatenate([[0.0, 1.0], rng.random(count)])
    low, high, *_ = moments = calendar.US_PER_HOUR * np.interp(
        (slot.part + quantiles) / slot.parts, cumulative, np.arange(25)
    )
    gaps = rng.exponential(world.config.world.impression_gap_seconds * 1e6, size=len(sessions))
    first = np.flatnonzero(np.diff(sessions, prepend=-1))
    elapsed = np.cumsum(gaps)
    elapsed -= elapsed[first][sessions]
    length = elapsed[np.append(first[1:], len(sessions)) - 1]
    start = np.clip(moments[2:], low, np.maximum(low, high - 1 - length))
    within = np.minimum(start[sessions] + elapsed, high - 1)
    return world.start_us + slot.day * US_PER_DAY + within.astype(np.int64)


def _recorded(
    rng: np.random.Generator, *, world: World, day: int, clicks: npt.NDArray[np.int8]
) -> npt.NDArray[np.int8]:
    """0 for a click whose label hasn't arrived yet, else 1, [rows]."""
    late = rng.random(len(clicks)) < world.drift.strength("label_delay", day)
    return (~(late & (clicks == 1))).astype(np.int8)


def _table(
    *,
    ids: pa.Array,
    users: Ints,
    items: Ints,
    times: Ints,
    labels: list[npt.NDArray[np.int8]],
    dwell: Floats,
    devices: npt.NDArray[np.int8],
) -> pa.Table:
    click, like, share = labels
    columns = {
        schema.INTERACTION_ID: ids,
        schema.USER_ID: pa.array(users),
        schema.ITEM_ID: pa.array(items),
        schema.TIMESTAMP: pa.array(times).cast(schema.TIMESTAMP_TYPE),
        schema.CLICK: pa.array(click),
        schema.LIKE: pa.array(like),
        schema.SHARE: pa.array(share),
        schema.DWELL_TIME: pa.array(dwell),
        schema.DEVICE: _decode(devices, schema.DEVICES),
        schema.TIME_OF_DAY: _decode(calendar.TIME_OF_DAY_BY_HOUR[calendar.hours(times)], schema.TIMES_OF_DAY),
        schema.DAY_OF_WEEK: pa.array(calendar.weekdays(calendar.days_since_epoch(times)).astype(np.int8)),
        schema.ACTION_TIME: pa.nulls(len(times), schema.TIMESTAMP_TYPE),
    }
    return pa.table([columns[name] for name in schema.INTERACTIONS.names], schema=schema.INTERACTIONS)


def _decode(indices: npt.NDArray[np.int8], values: tuple[str, ...]) -> pa.Array:
    return pa.array(values).take(pa.array(indices))


def _uuids(rng: np.random.Generator, count: int) -> pa.Array:
    """Random UUIDs in the canonical text form of version 4 (RFC 9562, section 5.4), [count]."""
    raw = np.frombuffer(rng.bytes(16 * count), dtype=np.uint8).reshape(count, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    text = np.full((count, 36), ord("-"), dtype=np.uint8)
    places = np.array([p for p in range(36) if p not in (8, 13, 18, 23)])
    text[:, places[0::2]] = digits[raw >> 4]
    text[:, places[1::2]] = digits[raw & 0x0F]
    offsets = np.arange(count + 1, dtype=np.int32) * 36
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text))


def _is_weekend(config: GeneratorConfig, day: int) -> bool:
    return (config.start_date + timedelta(days=day)).weekday() >= SATURDAY
