"""Properties of the features: no leakage, parity of online and offline, order invariance, and a plain reference."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedrank import schema
from feedrank.config import Config
from feedrank.config.feed import Feed
from feedrank.delta import Rows
from feedrank.errors import BundleError, DataError
from feedrank.features.offline import compute_features
from feedrank.features.online import online_features
from feedrank.features.snapshot import Snapshot, load_snapshot, publish_snapshot, save_snapshot, take_snapshot
from feedrank.model.bundle import feature_matrix
from feedrank.model.forget import write_others
from feedrank.stages import build_features
from feedrank.tables import COMPRESSION, read_parquet, timestamps_us, write_partitioned
from tests.bit_flips import flip_bit
from tests.feeds import feed_with

CONFIG = Feed()
START_US = round(datetime(2024, 3, 1, tzinfo=UTC).timestamp() * 1_000_000)
HOUR_US = 3_600_000_000

HALF_HOUR_US, DAY_US = HOUR_US // 2, 24 * HOUR_US

Row = tuple[int, int, int, bool, float, int, int | None]
event = st.tuples(
    st.integers(0, 4),  # user
    st.integers(0, 5),  # item
    st.integers(0, 24 * 20),  # half hours after the start, a midnight: collisions and midnights are wanted
    st.booleans(),  # click
    st.floats(0, 300),  # dwell
    st.integers(0, 2),  # device
    st.none() | st.integers(0, 100),  # half hours until the outcome is known
)
events = st.lists(event, min_size=1, max_size=60)


def table_of(rows: list[Row]) -> pa.Table:
    users, items, half_hours, clicks, dwell, devices, delays = zip(*rows, strict=True)
    times = START_US + np.array(half_hours) * HALF_HOUR_US
    known = [None if d is None else int(t) + d * HALF_HOUR_US for t, d in zip(times, delays, strict=True)]
    return pa.table(
        {
            schema.USER_ID: np.array(users, dtype=np.int64),
            schema.ITEM_ID: np.array(items, dtype=np.int64),
            schema.TIMESTAMP: pa.array(times).cast(schema.TIMESTAMP_TYPE),
            schema.CLICK: np.array(clicks, dtype=np.int8),
            schema.DWELL_TIME: np.array(dwell, dtype=np.float64),
            schema.DEVICE: pa.array([schema.DEVICES[d] for d in devices]),
            schema.ACTION_TIME: pa.array(known, pa.int64()).cast(schema.TIMESTAMP_TYPE),
        }
    )


def known_from(row: Row) -> float:
    """Half hours after the start."""
    delay = CONFIG.outcome_delay_minutes / 30 if row[6] is None else row[6]
    return row[2] + delay


def plain_features(rows: list[Row], index: int) -> dict[str, float]:
    """The definitions of spec 2.5, as of the start of the row's day, row by row."""
    user, item, half_hour, _, _, device, _ = rows[index]
    day = half_hour // 48
    midnight = 48 * day
    past = [row for row in rows if row[2] < midnight]
    of_user, of_item = [r for r in past if r[0] == user], [r for r in past if r[1] == item]

    def dwells(subset):
        return [r[4] for r in subset if r[3] and known_from(r) < midnight]

    def mean_dwell(subset):
        return sum(dwells(subset)) / len(dwells(subset)) if dwells(subset) else 0.0

    def rate(subset, prior, weight):
        return (len(dwells(subset)) + prior * weight) / (len(subset) + weight)

    prior = rate(past, 0.1, 100.0)
    last = max((r[2] for r in of_user), default=None)
    popularity = sum(2 ** (-(half_hour - r[2]) / 48 / 14) for r in of_item)
    return {
        "user_historical_ctr": rate(of_user, prior, 10.0),
        "user_avg_dwell_time": mean_dwell(of_user),
        "user_interaction_count": len(of_user),
        "user_days_active": len({r[2] // 48 for r in of_user}),
        "item_popularity": np.log1p(popularity),
        "item_ctr": rate(of_item, prior, 20.0),
        "item_avg_dwell_time": mean_dwell(of_item),
        "item_age_days": (half_hour - min(r[2] for r in of_item)) // 48 if of_item else 0,
        schema.HOUR_OF_DAY: half_hour % 48 // 2,
        schema.DAY_OF_WEEK: (day + 4) % 7,  # 2024-03-01 was a Friday
        "device_mobile": int(device == 0),
        "device_desktop": int(device == 1),
        "device_tablet": int(device == 2),
        "user_item_previous_interactions": sum(r[1] == item for r in of_user),
        "recency_score": (0.0 if last is None else 2 ** (-(half_hour - last) / 2 / 24)),
    }


def features_of(rows: list[Row]) -> pa.Table:
    return compute_features(table_of(rows), feed=CONFIG)


def by_time(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row[2])


@given(events)
@settings(deadline=None, max_examples=100)
def test_every_feature_equals_its_plain_definition(rows):
    rows = by_time(rows)
    computed = features_of(rows).select(list(Feed().names)).to_pylist()
    for index, features in enumerate(computed):
        assert features == pytest.approx(plain_features(rows, index), rel=1e-5, abs=1e-6)


@given(events, events, st.integers(0, 20))
@settings(deadline=None, max_examples=100)
def test_nothing_that_happens_from_a_midnight_on_changes_a_feature_of_that_day_or_an_earlier_one(rows, others, day):
    midnight = 48 * day

    def before(row: Row) -> Row:
        """The row as it would be if its outcome had been another from the midnight on."""
        user, item, half_hour, click, dwell, device, delay = row
        if known_from(row) < midnight:
            return row
        return (user, item, half_hour, not click, dwell / 2, device, max(midnight - half_hour, delay or 0))

    past = [row for row in by_time(rows) if row[2] < midnight]
    today = [row for row in by_time(rows) if midnight <= row[2] < midnight + 48]
    later = [row for row in others if row[2] >= midnight + 48]
    if past or today:
        names = [name for name in Feed().table.names if name != schema.TARGET]
        count = len(past) + len(today)
        plain = features_of(past + today).select(names)
        changed = features_of([before(row) for row in past] + [before(row) for row in today] + later)
        assert changed.select(names).slice(0, count).equals(plain)
        alone = [features_of([*past, row]).select(names).slice(len(past)) for row in today]
        assert all(one.equals(plain.slice(len(past) + i, 1)) for i, one in enumerate(alone))


@given(events, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_the_order_of_the_input_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)

    def sorted_rows(table):
        return sorted(map(str, table.to_pylist()))

    assert sorted_rows(features_of(rows)) == sorted_rows(features_of(shuffled))


@given(events, st.integers(0, 20), st.data())
@settings(deadline=None, max_examples=100)
def test_the_snapshot_of_a_midnight_gives_every_event_of_the_day_its_offline_features_bit_by_bit(rows, day, data):
    on_that_day = st.lists(event.map(lambda row: (*row[:2], 48 * day + row[2] % 48, *row[3:])), min_size=1, max_size=9)
    rows = by_time([*rows, *data.draw(on_that_day)])
    features = features_of(rows)
    cutoff = datetime.fromtimestamp((START_US + day * DAY_US) / 1e6, UTC)
    snapshot = take_snapshot(table_of(rows), cutoff=cutoff, feed=CONFIG)
    for index, (user, item, half_hour, _, _, device, _) in enumerate(rows):
        if half_hour // 48 == day:
            time_us = START_US + half_hour * HALF_HOUR_US
            online = online_features(snapshot, user_id=user, item_ids=np.array([item]), time_us=time_us, device=device)
            offline = feature_matrix(features.slice(index, 1), Feed())
            assert online.tobytes() == offline.tobytes()


def test_an_outcome_counts_from_the_first_midnight_after_it_became_known():
    def clicks_seen(half_hour: int, delay: int | None) -> list[float]:
        shown = [(0, 0, half_hour, True, 9.0, 0, delay)]
        asked = [(0, 0, 48 * day, False, 0.0, 0, None) for day in (1, 2, 3)]
        return features_of(shown + asked)["user_avg_dwell_time"].to_pylist()[1:]

    assert clicks_seen(10, None) == clicks_seen(10, 37) == [9.0, 9.0, 9.0]
    assert clicks_seen(10, 38) == clicks_seen(10, 85) == [0.0, 9.0, 9.0], "at midnight is not before it"
    assert clicks_seen(0, 100) == [0.0, 0.0, 9.0]


def test_without_an_action_time_an_outcome_counts_as_known_after_the_configured_delay():
    rows = [(0, 0, 47, True, 9.0, 0, None), (0, 0, 48, False, 0.0, 0, None)]
    for minutes, expected in ((29.0, 9.0), (30.0, 0.0)):
        table = compute_features(table_of(rows), feed=Feed(outcome_delay_minutes=minutes))
        assert table["user_avg_dwell_time"].to_pylist() == [0.0, expected]


@pytest.mark.parametrize("half_life_days", [0.01, 1e6])
def test_any_half_life_can_be_computed_over_years(half_life_days):
    rows = [(1, 1, 47 + 48 * day, False, 0.0, 0, None) for day in (0, 1, 5_000)]
    config = feed_with(item_popularity={"half_life": f"{half_life_days:f}d"})
    popularity = compute_features(table_of(rows), feed=config)["item_popularity"].to_numpy()
    assert popularity == pytest.approx(
        np.log1p([0.0, 0.5 ** (1 / half_life_days), 2 * 0.5 ** (5_000 / half_life_days)]), rel=1e-2
    )


def test_a_snapshot_is_of_a_midnight():
    with pytest.raises(DataError, match="start of a UTC day, not of 2024-03-02T03:00"):
        take_snapshot(
            table_of([(0, 0, 0, True, 1.0, 0, None)]), cutoff=datetime(2024, 3, 2, 3, tzinfo=UTC), feed=CONFIG
        )


def small_snapshot() -> Snapshot:
    rows = [(u, i, t, bool(t % 2), 3.5, t % 3, None) for t, (u, i) in enumerate([(0, 1), (0, 1), (2, 3), (1, 1)])]
    return take_snapshot(table_of(rows), cutoff=datetime(2024, 4, 1, tzinfo=UTC), feed=CONFIG)


def assert_same(before: Snapshot, after: Snapshot) -> None:
    assert before.info == after.info
    for table in ("users", "items"):
        expected, found = getattr(before, table), getattr(after, table)
        assert (expected.ids == found.ids).all()
        assert all((values == found.columns[a]).all() for a, values in expected.columns.items())
    for array in ("offsets", "item_rows"):
        assert (getattr(before.pairs, array) == getattr(after.pairs, array)).all()
    assert all((values == after.pairs.columns[a]).all() for a, values in before.pairs.columns.items())


def test_a_snapshot_survives_saving(tmp_path):
    snapshot = small_snapshot()
    save_snapshot(snapshot, tmp_path)
    loaded = load_snapshot(tmp_path)
    assert_same(snapshot, loaded)
    (counts,) = loaded.pairs.of(0, loaded.items.rows(np.array([1, 3, 9]))).values()
    assert counts.tolist() == [2, 0, 0]


@pytest.mark.parametrize("name", ["users", "items", "user_item"])
def test_a_flipped_bit_never_loads_as_another_value(tmp_path, name):
    random = np.random.default_rng(0)
    rows = [(*random.integers(0, 400, 2).tolist(), t % 480, t % 3 == 0, random.random(), 0, None) for t in range(2000)]
    snapshot = take_snapshot(table_of(rows), cutoff=datetime(2024, 4, 1, tzinfo=UTC), feed=CONFIG)
    save_snapshot(snapshot, tmp_path)
    file, refused = tmp_path / f"{name}.parquet", 0
    whole = file.read_bytes()
    for share in random.random(60):
        file.write_bytes(whole)
        flip_bit(file, share)
        try:
            loaded = load_snapshot(tmp_path)
        except DataError as error:
            assert f"{name}.parquet: can't be read as Parquet" in str(error)
            refused += 1
        else:  # in what a page's header says besides: its statistics, for one
            assert_same(snapshot, loaded)
    assert refused > 50


def test_erasing_a_user_leaves_checksums_and_puts_none_on_damage(tmp_path):
    save_snapshot(small_snapshot(), tmp_path)
    file, others = tmp_path / "users.parquet", tmp_path / "others.parquet"
    rows = Rows((schema.USER_ID,), lambda batch: batch[schema.USER_ID].to_numpy() == 1)
    write_others(file, others, rows=rows)
    assert read_parquet(others)[schema.USER_ID].to_pylist() == [0, 2]
    for damaged in (others, file):
        flip_bit(damaged, 0.5)
        with pytest.raises(DataError, match=f"{damaged}: can't be read as Parquet"):
            write_others(damaged, tmp_path / "more.parquet", rows=rows)


def test_a_snapshot_of_a_release_without_checksums_is_read(tmp_path):
    snapshot = small_snapshot()
    save_snapshot(snapshot, tmp_path)
    for file in tmp_path.glob("*.parquet"):
        with_checksums = file.read_bytes()
        pq.write_table(pq.read_table(file), file, compression=COMPRESSION)
        assert len(file.read_bytes()) < len(with_checksums)
    assert_same(snapshot, load_snapshot(tmp_path))


def test_the_published_snapshot_is_the_last_one_and_the_one_before_stays(tmp_path):
    folders = []
    for days in (1, 2, 3):
        source = tmp_path / str(days)
        source.mkdir()
        cutoff = datetime(2024, 3, 1 + days, tzinfo=UTC)
        save_snapshot(take_snapshot(table_of([(0, 0, 0, True, 1.0, 0, None)]), cutoff=cutoff, feed=CONFIG), source)
        folders.append(publish_snapshot(source, tmp_path / "online"))
        assert load_snapshot(tmp_path / "online" / "current").info.cutoff == cutoff
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_publishing_removes_no_folder_but_its_own(tmp_path):
    online, source = tmp_path / "online", tmp_path / "source"
    foreign = [online / name for name in ("2024-backup", "20241115", "7", "20240301T000000000000-old", "lost+found")]
    for folder in (source, *foreign):
        folder.mkdir(parents=True)
    snapshot = take_snapshot(
        table_of([(0, 0, 0, True, 1.0, 0, None)]), cutoff=datetime(2024, 3, 2, tzinfo=UTC), feed=CONFIG
    )
    save_snapshot(snapshot, source)
    published = [publish_snapshot(source, online) for _ in range(3)]
    assert all(folder.is_dir() for folder in foreign)
    assert [folder.exists() for folder in published] == [False, True, True]


def test_a_snapshot_of_another_feature_schema_is_not_published(tmp_path):
    source, online = tmp_path / "features", tmp_path / "online"
    source.mkdir()
    snapshot = take_snapshot(
        table_of([(0, 0, 0, True, 1.0, 0, None)]), cutoff=datetime(2024, 3, 2, tzinfo=UTC), feed=CONFIG
    )
    save_snapshot(snapshot, source)
    publish_snapshot(source, online)
    text = (source / "snapshot.json").read_text()
    (source / "snapshot.json").write_text(text.replace(snapshot.info.feature_fingerprint, "other"))
    with pytest.raises(BundleError, match="compute the features again"):
        publish_snapshot(source, online)
    assert load_snapshot(online / "current").info == snapshot.info


def test_the_constants_are_part_of_a_snapshots_identity(tmp_path):
    cutoff, table = datetime(2024, 3, 2, tzinfo=UTC), table_of([(0, 0, 0, True, 1.0, 0, None)])
    other = feed_with(item_popularity={"half_life": "1d"})
    mine, others = (take_snapshot(table, cutoff=cutoff, feed=config) for config in (CONFIG, other))
    assert mine.info.feature_fingerprint != others.info.feature_fingerprint
    save_snapshot(others, tmp_path)
    path = tmp_path / "snapshot.json"
    path.write_text(path.read_text().replace(others.info.feature_fingerprint, mine.info.feature_fingerprint))
    with pytest.raises(BundleError, match=f"{mine.info.feature_fingerprint}.*{others.info.feature_fingerprint} with"):
        load_snapshot(tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"feature_schema_version": "1.0.0"}, r"1\.0\.0 .*this code has 3\.0\.0 with nightly"),
        ({"feed": {"freshness": "live"}}, r"freshness live, this code has 3\.0\.0 with nightly"),
        ({"feed": {}}, r"freshness None, this code has"),
    ],
)
def test_a_snapshot_of_another_schema_or_rule_is_refused_and_both_are_named(tmp_path, change, named):
    table = table_of([(0, 0, 0, True, 1.0, 0, None)])
    save_snapshot(take_snapshot(table, cutoff=datetime(2024, 3, 2, tzinfo=UTC), feed=CONFIG), tmp_path)
    path = tmp_path / "snapshot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match=named):
        load_snapshot(tmp_path)


def test_the_table_has_the_promised_schema_and_time_order():
    rows = [(1, 1, t, False, 0.0, 0, None) for t in (5, 3, 9)]
    table = compute_features(table_of(rows), feed=CONFIG)
    assert table.schema == Feed().table
    assert (np.diff(timestamps_us(table)) >= 0).all()


def test_an_empty_table_gives_an_empty_table():
    assert compute_features(table_of([(1, 1, 0, False, 0.0, 0, None)]).slice(0, 0), feed=CONFIG).num_rows == 0


def test_an_unknown_device_is_named():
    table = table_of([(1, 1, 0, False, 0.0, 0, None)])
    table = table.set_column(table.schema.get_field_index(schema.DEVICE), schema.DEVICE, pa.array(["watch"]))
    with pytest.raises(DataError, match="watch"):
        compute_features(table, feed=CONFIG)


@pytest.mark.parametrize(("hours_later", "day"), [(2, 2), (30, 3), (24 * 365, 3)])
def test_the_snapshot_of_the_stage_is_of_a_midnight_that_is_past_and_holds_whole_days(tmp_path, hours_later, day):
    """The last rows are of 2 March, 00:00 to 02:00: an export at night brings some of the day that has just begun."""
    table = table_of([(1, 1, half_hour, False, 0.0, 0, None) for half_hour in range(52)])
    write_partitioned(table, tmp_path / "clean")
    now = datetime(2024, 3, 2, tzinfo=UTC) + timedelta(hours=hours_later)
    build_features(tmp_path / "clean", output=tmp_path / "features", config=Config(), now=now)
    info = load_snapshot(tmp_path / "features" / "snapshot").info
    assert (info.cutoff, info.impressions) == (datetime(2024, 3, day, tzinfo=UTC), 48 if day == 2 else 52)
