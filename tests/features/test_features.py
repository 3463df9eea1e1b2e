"""Properties of the features: no leakage, parity of online and offline, order invariance, and a plain reference."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedrank import schema
from feedrank.config.data import FeatureConfig
from feedrank.errors import BundleError, DataError
from feedrank.features import offline
from feedrank.features.offline import compute_features
from feedrank.features.online import online_features
from feedrank.features.snapshot import load_snapshot, publish_snapshot, save_snapshot, take_snapshot
from feedrank.tables import timestamps_us

CONFIG = FeatureConfig()
START_US = round(datetime(2024, 3, 1, tzinfo=UTC).timestamp() * 1_000_000)
HOUR_US = 3_600_000_000

events = st.lists(
    st.tuples(
        st.integers(0, 4),  # user
        st.integers(0, 5),  # item
        st.integers(0, 24 * 20),  # half hours after the start: collisions are wanted
        st.booleans(),  # click
        st.floats(0, 300),  # dwell
        st.integers(0, 2),  # device
    ),
    min_size=1,
    max_size=60,
)


def table_of(rows: list[tuple[int, int, int, bool, float, int]]) -> pa.Table:
    users, items, half_hours, clicks, dwell, devices = (np.array(column) for column in zip(*rows, strict=True))
    times = START_US + half_hours * (HOUR_US // 2)
    return pa.table(
        {
            schema.USER_ID: users.astype(np.int64),
            schema.ITEM_ID: items.astype(np.int64),
            schema.TIMESTAMP: pa.array(times).cast(schema.TIMESTAMP_TYPE),
            schema.CLICK: clicks.astype(np.int8),
            schema.DWELL_TIME: dwell.astype(np.float64),
            schema.DEVICE: pa.array([schema.DEVICES[d] for d in devices]),
        }
    )


def plain_features(rows: list[tuple[int, int, int, bool, float, int]], index: int) -> dict[str, float]:
    """The definitions of spec 2.5, row by row."""
    user, item, half_hour, _, _, device = rows[index]
    past = [row for row in rows if row[2] < half_hour]
    of_user, of_item = [r for r in past if r[0] == user], [r for r in past if r[1] == item]

    def clicks(subset):
        return sum(r[3] for r in subset)

    def mean_dwell(subset):
        dwell = [r[4] for r in subset if r[3]]
        return sum(dwell) / len(dwell) if dwell else 0.0

    prior = (clicks(past) + CONFIG.initial_ctr * CONFIG.initial_ctr_weight) / (len(past) + CONFIG.initial_ctr_weight)
    day = half_hour // 48
    last = max((r[2] for r in of_user), default=None)
    popularity = sum(2 ** (-(half_hour - r[2]) / 48 / CONFIG.popularity_half_life_days) for r in of_item)
    user_weight, item_weight = CONFIG.user_ctr_prior_weight, CONFIG.item_ctr_prior_weight
    return {
        schema.USER_HISTORICAL_CTR: (clicks(of_user) + prior * user_weight) / (len(of_user) + user_weight),
        schema.USER_AVG_DWELL_TIME: mean_dwell(of_user),
        schema.USER_INTERACTION_COUNT: len(of_user),
        schema.USER_DAYS_ACTIVE: len({r[2] // 48 for r in of_user} - {day}),
        schema.ITEM_POPULARITY: np.log1p(popularity),
        schema.ITEM_CTR: (clicks(of_item) + prior * item_weight) / (len(of_item) + item_weight),
        schema.ITEM_AVG_DWELL_TIME: mean_dwell(of_item),
        schema.ITEM_AGE_DAYS: (half_hour - min(r[2] for r in of_item)) // 48 if of_item else 0,
        schema.HOUR_OF_DAY: half_hour % 48 // 2,
        schema.DAY_OF_WEEK: (day + 4) % 7,  # 2024-03-01 was a Friday
        schema.DEVICE_MOBILE: int(device == 0),
        schema.DEVICE_DESKTOP: int(device == 1),
        schema.DEVICE_TABLET: int(device == 2),
        schema.USER_ITEM_PREVIOUS_INTERACTIONS: sum(r[1] == item for r in of_user),
        schema.RECENCY_SCORE: (
            0.0 if last is None else 2 ** (-(half_hour - last) / 2 / CONFIG.recency_half_life_hours)
        ),
    }


@given(events)
@settings(deadline=None, max_examples=100)
def test_every_feature_equals_its_plain_definition(rows):
    rows = sorted(rows, key=lambda r: r[2])
    computed = compute_features(table_of(rows), config=CONFIG).select(list(schema.FEATURES)).to_pylist()
    for index, features in enumerate(computed):
        assert features == pytest.approx(plain_features(rows, index), rel=1e-5, abs=1e-6)


@given(events, st.data())
@settings(deadline=None, max_examples=100)
def test_changing_later_events_changes_no_earlier_feature(rows, data):
    rows = sorted(rows, key=lambda r: r[2])
    cut = data.draw(st.integers(0, 24 * 20))
    earlier = [r for r in rows if r[2] <= cut]
    later = data.draw(events)
    changed = earlier + [(u, i, cut + 1 + t, c, d, v) for u, i, t, c, d, v in later]
    if earlier:
        before = compute_features(table_of(rows), config=CONFIG).slice(0, len(earlier))
        after = compute_features(table_of(changed), config=CONFIG).slice(0, len(earlier))
        assert before.equals(after)


@given(events)
@settings(deadline=None, max_examples=100)
def test_no_feature_sees_its_own_outcome_or_a_simultaneous_one(rows):
    rows = sorted(rows, key=lambda r: r[2])
    last = rows[-1][2]
    flipped = [(u, i, t, not c if t == last else c, d, v) for u, i, t, c, d, v in rows]
    names = list(schema.FEATURES)
    before = compute_features(table_of(rows), config=CONFIG).select(names)
    assert before.equals(compute_features(table_of(flipped), config=CONFIG).select(names))


@given(events, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_the_order_of_the_input_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)

    def sorted_rows(table):
        return sorted(map(str, table.to_pylist()))

    original, permuted = (compute_features(table_of(r), config=CONFIG) for r in (rows, shuffled))
    assert sorted_rows(original) == sorted_rows(permuted)


@given(events, st.integers(0, 7), st.integers(0, 7), st.integers(0, 2), st.integers(0, 100))
@settings(deadline=None, max_examples=100)
def test_online_features_equal_the_offline_ones_of_the_next_event(rows, user, item, device, half_hours_later):
    next_time = max(r[2] for r in rows) + 1 + half_hours_later
    offline = compute_features(table_of([*rows, (user, item, next_time, False, 0.0, device)]), config=CONFIG)
    cutoff_us = START_US + (max(r[2] for r in rows) + 1) * (HOUR_US // 2)
    snapshot = take_snapshot(table_of(rows), cutoff=datetime.fromtimestamp(cutoff_us / 1e6, UTC), config=CONFIG)
    online = online_features(
        snapshot,
        user_id=user,
        item_ids=np.array([item]),
        time_us=START_US + next_time * (HOUR_US // 2),
        device=device,
    )
    expected = offline.select(list(schema.FEATURES)).slice(len(rows)).to_pylist()[0]
    assert dict(zip(schema.FEATURES, online[0].tolist(), strict=True)) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_snapshot_survives_saving(tmp_path):
    rows = [(u, i, t, bool(t % 2), 3.5, t % 3) for t, (u, i) in enumerate([(0, 1), (0, 1), (2, 3), (1, 1)])]
    snapshot = take_snapshot(table_of(rows), cutoff=datetime(2024, 4, 1, tzinfo=UTC), config=CONFIG)
    save_snapshot(snapshot, tmp_path)
    loaded = load_snapshot(tmp_path)
    assert loaded.info == snapshot.info
    for table in ("users", "items"):
        before, after = getattr(snapshot, table), getattr(loaded, table)
        assert (before.ids == after.ids).all()
        assert all((values == after.columns[a]).all() for a, values in before.columns.items())
    assert loaded.pairs.counts(0, loaded.items.rows(np.array([1, 3, 9]))).tolist() == [2, 0, 0]


def test_the_published_snapshot_is_the_last_one_and_the_one_before_stays(tmp_path):
    folders = []
    for hours in (1, 2, 3):
        source = tmp_path / str(hours)
        source.mkdir()
        cutoff = datetime(2024, 3, 1, hours, tzinfo=UTC)
        save_snapshot(take_snapshot(table_of([(0, 0, 0, True, 1.0, 0)]), cutoff=cutoff, config=CONFIG), source)
        folders.append(publish_snapshot(source, tmp_path / "online"))
        assert load_snapshot(tmp_path / "online" / "current").info.cutoff == cutoff
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_publishing_removes_no_folder_but_its_own(tmp_path):
    online, source = tmp_path / "online", tmp_path / "source"
    foreign = [online / name for name in ("2024-backup", "20241115", "7", "20240301T000000000000-old", "lost+found")]
    for folder in (source, *foreign):
        folder.mkdir(parents=True)
    snapshot = take_snapshot(
        table_of([(0, 0, 0, True, 1.0, 0)]), cutoff=datetime(2024, 3, 2, tzinfo=UTC), config=CONFIG
    )
    save_snapshot(snapshot, source)
    published = [publish_snapshot(source, online) for _ in range(3)]
    assert all(folder.is_dir() for folder in foreign)
    assert [folder.exists() for folder in published] == [False, True, True]


def test_a_snapshot_of_another_feature_schema_is_not_published(tmp_path):
    source, online = tmp_path / "features", tmp_path / "online"
    source.mkdir()
    snapshot = take_snapshot(
        table_of([(0, 0, 0, True, 1.0, 0)]), cutoff=datetime(2024, 3, 2, tzinfo=UTC), config=CONFIG
    )
    save_snapshot(snapshot, source)
    publish_snapshot(source, online)
    text = (source / "snapshot.json").read_text()
    (source / "snapshot.json").write_text(text.replace(snapshot.info.feature_fingerprint, "other"))
    with pytest.raises(BundleError, match="compute the features again"):
        publish_snapshot(source, online)
    assert load_snapshot(online / "current").info == snapshot.info


def test_the_constants_are_part_of_a_snapshots_identity_and_an_earlier_release_only_named_them(tmp_path):
    cutoff, table = datetime(2024, 3, 2, tzinfo=UTC), table_of([(0, 0, 0, True, 1.0, 0)])
    other = CONFIG.model_copy(update={"popularity_half_life_days": 1.0})
    mine, others = (take_snapshot(table, cutoff=cutoff, config=config).info for config in (CONFIG, other))
    assert mine.feature_fingerprint != others.feature_fingerprint
    save_snapshot(take_snapshot(table, cutoff=cutoff, config=other), tmp_path)
    path = tmp_path / "snapshot.json"
    text = path.read_text()
    path.write_text(text.replace(others.feature_fingerprint, schema.column_fingerprint()))
    assert load_snapshot(tmp_path).info == others
    path.write_text(text.replace(others.feature_fingerprint, mine.feature_fingerprint))
    with pytest.raises(BundleError, match=f"{mine.feature_fingerprint}.*{others.feature_fingerprint} with the same"):
        load_snapshot(tmp_path)


def test_the_table_has_the_promised_schema_and_time_order():
    rows = [(1, 1, t, False, 0.0, 0) for t in (5, 3, 9)]
    table = compute_features(table_of(rows), config=CONFIG)
    assert table.schema == schema.FEATURE_TABLE
    assert (np.diff(timestamps_us(table)) >= 0).all()


@given(events)
@settings(deadline=None, max_examples=50)
def test_computing_entities_some_at_a_time_changes_nothing(rows):
    whole = compute_features(table_of(rows), config=CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offline, "PART_ROWS", 7)
        assert compute_features(table_of(rows), config=CONFIG).equals(whole)


def test_an_empty_table_gives_an_empty_table():
    assert compute_features(table_of([(1, 1, 0, False, 0.0, 0)]).slice(0, 0), config=CONFIG).num_rows == 0


def test_an_unknown_device_is_named():
    table = table_of([(1, 1, 0, False, 0.0, 0)])
    table = table.set_column(table.schema.get_field_index(schema.DEVICE), schema.DEVICE, pa.array(["watch"]))
    with pytest.raises(DataError, match="watch"):
        compute_features(table, config=CONFIG)


def test_too_short_a_half_life_is_refused():
    rows = [(1, 1, 0, False, 0.0, 0), (1, 1, 24 * 40, False, 0.0, 0)]
    with pytest.raises(DataError, match="half-lives"):
        compute_features(table_of(rows), config=FeatureConfig(popularity_half_life_days=0.001))
