"""What holds for every declaration that somebody may write."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.features.offline import compute_features
from feedrank.features.online import online_features
from feedrank.features.snapshot import load_snapshot, save_snapshot, take_snapshot
from feedrank.model.bundle import feature_matrix
from tests.feeds import EVERY_FORM, feeds

START_US = round(datetime(2024, 3, 1, tzinfo=UTC).timestamp() * 1_000_000)
HALF_HOUR_US, DAY_US = 1_800_000_000, 86_400_000_000

Row = tuple[int, int, int, int, int, int | None]
event = st.tuples(
    st.integers(0, 3),  # user
    st.integers(0, 3),  # item
    st.integers(0, 48 * 8),  # half hours after the start, a midnight: collisions and midnights are wanted
    st.integers(0, 7),  # click, like and share
    st.integers(0, 2),  # device
    st.none() | st.integers(0, 100),  # half hours until the outcome is known
)
events = st.lists(event, min_size=1, max_size=40)


def table_of(rows: Sequence[Row]) -> pa.Table:
    users, items, half_hours, outcomes, devices, delays = (np.array(column) for column in zip(*rows, strict=True))
    times, click = START_US + half_hours * HALF_HOUR_US, (outcomes & 1).astype(np.int8)
    known = [None if d is None else int(t) + int(d) * HALF_HOUR_US for t, d in zip(times, delays, strict=True)]
    return pa.table(
        {
            schema.USER_ID: users,
            schema.ITEM_ID: items,
            schema.TIMESTAMP: pa.array(times).cast(schema.TIMESTAMP_TYPE),
            schema.CLICK: click,
            schema.LIKE: click * (outcomes >> 1 & 1).astype(np.int8),
            schema.SHARE: click * (outcomes >> 2).astype(np.int8),
            schema.DWELL_TIME: click * (1.0 + outcomes),
            schema.DEVICE: pa.array([schema.DEVICES[device] for device in devices]),
            schema.ACTION_TIME: pa.array(known, pa.int64()).cast(schema.TIMESTAMP_TYPE),
        }
    )


@given(feeds, events, events, st.integers(0, 8))
@settings(deadline=None, max_examples=60)
def test_nothing_that_happens_from_a_midnight_on_changes_a_feature_of_that_day_or_an_earlier_one(
    feed: Feed, rows: list[Row], others: list[Row], day: int
) -> None:
    midnight = 48 * day
    before = [row for row in rows if row[2] < midnight]
    asked = [(*row[:2], midnight, 0, *row[4:]) for row in rows]
    later = [row for row in others if row[2] > midnight]
    # What is known of the earlier ones only from the midnight on may be anything, too.
    unknown = [
        (*row[:3], 7, *row[4:]) if row[3] & 1 and row[2] + (1 if row[5] is None else row[5]) >= midnight else row
        for row in before
    ]
    one = compute_features(table_of([*before, *asked]), feed=feed)
    other = compute_features(table_of([*unknown, *asked, *later]), feed=feed)
    count = len(before) + len(asked)
    assert one.select(feed.names).equals(other.slice(0, count).select(feed.names))


@given(feeds, events, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_the_order_of_simultaneous_events_changes_nothing(feed: Feed, rows: list[Row], random: object) -> None:
    numbered = list(enumerate(rows))
    random.shuffle(numbered)  # type: ignore[attr-defined]
    order = np.array([number for number, _ in numbered])
    one = compute_features(table_of(rows), feed=feed)
    other = compute_features(table_of([row for _, row in numbered]), feed=feed)
    times = np.array([row[2] for row in rows])
    place_in_one, place_in_other = np.argsort(times, kind="stable"), np.argsort(times[order], kind="stable")
    back = np.argsort(order[place_in_other])
    assert one.take(np.argsort(place_in_one)).select(feed.names).equals(other.take(back).select(feed.names))


@given(feeds, events, st.integers(0, 8))
@settings(deadline=None, max_examples=60)
def test_a_saved_snapshot_of_a_midnight_gives_every_event_of_the_day_its_offline_features_bit_by_bit(
    tmp_path_factory: object, feed: Feed, rows: list[Row], day: int
) -> None:
    midnight = 48 * day
    rows = sorted([row for row in rows if row[2] < midnight] + [(*r[:2], midnight + r[2] % 48, *r[3:]) for r in rows],
                  key=lambda row: row[2])  # fmt: skip
    offline = compute_features(table_of(rows), feed=feed)
    cutoff = datetime.fromtimestamp((START_US + day * DAY_US) / 1e6, UTC)
    folder = tmp_path_factory.mktemp("snapshot")  # type: ignore[attr-defined]
    save_snapshot(take_snapshot(table_of(rows), cutoff=cutoff, feed=feed), folder)
    snapshot = load_snapshot(folder)
    assert snapshot.feed == feed
    for index, (user, item, half_hour, _, device, _) in enumerate(rows):
        if half_hour >= midnight:
            online = online_features(
                snapshot, user_id=user, item_ids=np.array([item]), time_us=START_US + half_hour * HALF_HOUR_US,
                device=device,
            )  # fmt: skip
            assert online.tobytes() == feature_matrix(offline.slice(index, 1), feed).tobytes()


def _expected_last_row(rows: list[Row]) -> dict[str, float]:
    """Some of the forms, counted by hand for the last row, as of its day's start."""
    user, item, now = rows[-1][:3]
    midnight = now // 48 * 48
    past = [row for row in rows if row[2] < midnight]
    known = [(row, row[2] + (1 / 6 if row[5] is None else row[5])) for row in past if row[3] & 1]
    known = [(row, at) for row, at in known if at < midnight]
    shares = [at for row, at in known if row[1] == item and row[3] & 4]
    own_likes = [at for row, at in known if row[1] == item and row[3] & 2]
    return {
        "user_clicks": sum(row[0] == user for row, _ in known),
        "user_click_days": len({at // 48 for row, at in known if row[0] == user}),
        "item_likes": sum(2 ** (-(now - at) / 48 / 7) for at in own_likes),
        "item_since_share": 2 ** (-(now - max(shares)) / 2 / 48) if shares else 0.0,
        "pair_fading": sum(2 ** (-(now - row[2]) / 48 / 3) for row in past if row[:2] == (user, item)),
    }


@given(events)
@settings(deadline=None, max_examples=60)
def test_outcomes_are_counted_when_they_became_known(rows: list[Row]) -> None:
    rows = sorted(rows, key=lambda row: row[2])
    last = compute_features(table_of(rows), feed=EVERY_FORM).slice(len(rows) - 1)
    for name, expected in _expected_last_row(rows).items():
        assert np.isclose(last[name][0].as_py(), expected, rtol=1e-4, atol=1e-6), name
