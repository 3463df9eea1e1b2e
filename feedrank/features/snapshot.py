"""The online snapshot: the aggregates of every user, item and pair as of a cut-off, for the predictor."""

import json
import re
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, Field

from feedrank import schema, storage
from feedrank.config.feed import Feed, Freshness, of_constants
from feedrank.errors import BundleError, DataError, OtherFeaturesError
from feedrank.features.aggregates import US_PER_DAY, Aggregate, Array, Entity, Kind
from feedrank.features.events import Events, Ints
from feedrank.features.fold import Fold
from feedrank.tables import COMPRESSION, read_parquet

INFO_FILE = "snapshot.json"
CURRENT = "current"
"""The published snapshot, in a folder of published ones."""
_DTYPES = {Kind.COUNT: np.dtype(np.int32), Kind.DAYS: np.dtype(np.int32)}
"""What is counted of a pair is little, and there are many pairs."""
PUBLISHED = re.compile(r"\d{8}T\d{12}-\d{8}T\d{12}")
"""Names of the folders that `publish_snapshot` makes, and may remove."""


class TableVersion(BaseModel):
    """A version of a Delta table, by which its rows can be read again until a vacuum removes them."""

    location: str
    version: int


class SnapshotInfo(BaseModel):
    """`snapshot.json`."""

    cutoff: datetime
    feature_schema_version: str
    feature_fingerprint: str
    feed: Feed
    impressions: int
    totals: dict[str, float]
    """The aggregates over all events, by name."""
    most_common_device: str
    earlier_fingerprint: str | None = Field(default=None, exclude=True)
    """What a release without a declaration called these features."""
    source: TableVersion | None = None
    """The interactions that it is computed from; None if they were no table, or the release did not record it."""


@dataclass(frozen=True)
class EntityTable:
    """Aggregates of one kind of entity; one more row at the end stands for every unknown entity.

    `ids` is sorted, shape [entities]; each column has shape [entities + 1].
    """

    ids: Ints
    columns: dict[Aggregate, Array]

    def rows(self, ids: Ints) -> Ints:
        """Row of each id; the last row for an unknown one."""
        if not len(self.ids):
            return np.zeros(len(ids), dtype=np.int64)
        rows = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[rows] == ids, rows, len(self.ids))


@dataclass(frozen=True)
class PairTable:
    """Aggregates of user-item pairs, grouped by the user's row in the user table.

    The items of user row `u` are `item_rows[offsets[u]:offsets[u + 1]]` (rows of the item table, sorted); each column
    has shape [pairs].
    """

    offsets: Ints
    item_rows: Ints
    columns: dict[Aggregate, Array]

    def of(self, user_row: int, item_rows: Ints) -> dict[Aggregate, Array]:
        """The aggregates of one user with each item; shape of `item_rows`."""
        start, stop = self.offsets[user_row], self.offsets[user_row + 1]
        if start == stop:
            return {a: np.full(len(item_rows), a.unknown, dtype=column.dtype) for a, column in self.columns.items()}
        own = self.item_rows[start:stop]
        places = np.minimum(np.searchsorted(own, item_rows), stop - start - 1)
        known = own[places] == item_rows
        return {a: np.where(known, column[start:stop][places], a.unknown) for a, column in self.columns.items()}


@dataclass(frozen=True)
class Snapshot:
    """State of the features' aggregates as of `cutoff_us`."""

    info: SnapshotInfo
    users: EntityTable
    items: EntityTable
    pairs: PairTable

    def from_source(self, source: TableVersion | None) -> "Snapshot":
        """With the note of what it was computed from."""
        return replace(self, info=self.info.model_copy(update={"source": source}))

    @property
    def cutoff_us(self) -> int:
        """The cut-off in microseconds since 1970."""
        return round(self.info.cutoff.timestamp() * 1_000_000)

    @property
    def feed(self) -> Feed:
        """The declaration of the features."""
        return self.info.feed

    def read_as(self, feed: Feed) -> "Snapshot":
        """The same aggregates for other features that need no more of them."""
        return replace(self, info=self.info.model_copy(update={"feed": feed}))

    @cached_property
    def totals(self) -> dict[Aggregate, Array]:
        """The aggregates over all events."""
        return {a: np.asarray(self.info.totals[a.name]) for a in kept(self.feed, Entity.ALL)}


def kept(feed: Feed, entity: Entity) -> list[Aggregate]:
    """What the features of a feed need to know of one kind of entity."""
    return [aggregate for aggregate in feed.aggregates if aggregate.entity is entity]


def take_snapshot(interactions: pa.Table, *, cutoff: datetime, feed: Feed) -> Snapshot:
    """The aggregates as of a midnight (UTC): what the features of that day's events are computed from.

    Raises:
        DataError: `cutoff` is no midnight.
    """
    cutoff_us = round(cutoff.timestamp() * 1_000_000)
    if cutoff_us % US_PER_DAY:
        raise DataError(f"a snapshot is of the start of a UTC day, not of {cutoff.isoformat()}; give a midnight")
    earlier = pc.less(interactions[schema.TIMESTAMP].cast(pa.int64()), cutoff_us)
    events = Events.from_table(interactions.filter(earlier), feed=feed)
    fold = Fold(events, feed.aggregates)
    for day, rows in events.days():
        fold.add(day, rows)
    first = {entity: _first_rows(codes) for entity, codes in events.codes.items() if entity is not Entity.ALL}
    codes = {entity: np.arange(len(rows)) for entity, rows in first.items()} | {Entity.ALL: np.zeros(1, dtype=np.int64)}
    state = fold.read(codes, cutoff_us // US_PER_DAY)
    users = _entity_table(state, Entity.USER, events.user_ids[first[Entity.USER]])
    items = _entity_table(state, Entity.ITEM, events.item_ids[first[Entity.ITEM]])
    device_counts = np.bincount(events.devices, minlength=len(schema.DEVICES))
    info = SnapshotInfo(
        cutoff=cutoff.astimezone(UTC),
        feature_schema_version=schema.FEATURE_SCHEMA_VERSION,
        feature_fingerprint=feed.fingerprint,
        feed=feed,
        impressions=len(events.times_us),
        totals={a.name: state[a].item() for a in kept(feed, Entity.ALL)},
        most_common_device=schema.DEVICES[int(device_counts.argmax())],
    )
    pairs = first[Entity.USER_ITEM]
    user_rows, item_rows = users.rows(events.user_ids[pairs]), items.rows(events.item_ids[pairs])
    columns = {a: state[a] for a in kept(feed, Entity.USER_ITEM)}
    return Snapshot(info, users, items, _pair_table(user_rows, item_rows, columns, len(users.ids)))


def _first_rows(codes: Ints) -> Ints:
    """Where each of the codes 0, 1, … is first, [codes]."""
    first = np.empty(codes.max(initial=-1) + 1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return first


def _entity_table(state: dict[Aggregate, Array], entity: Entity, ids: Ints) -> EntityTable:
    by_id = np.argsort(ids)
    columns = {a: np.append(values[by_id], a.unknown) for a, values in state.items() if a.entity is entity}
    return EntityTable(ids[by_id], columns)


def _pair_table(user_rows: Ints, item_rows: Ints, columns: dict[Aggregate, Array], num_users: int) -> PairTable:
    if not columns:  # no feature needs to know the pairs
        user_rows, item_rows = user_rows[:0], item_rows[:0]
    keys = user_rows * (item_rows.max(initial=0) + 1) + item_rows
    order = slice(None) if bool((keys[1:] > keys[:-1]).all()) else np.argsort(keys)
    # One more user row, the unknown one, which has no pair.
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user_rows, minlength=num_users + 1))])
    return PairTable(
        offsets,
        item_rows[order],
        {a: values[order].astype(_DTYPES.get(a.kind, values.dtype)) for a, values in columns.items()},
    )


def save_snapshot(snapshot: Snapshot, directory: Path) -> None:
    """Writes `users.parquet`, `items.parquet`, `user_item.parquet` and `snapshot.json` into an existing folder."""
    for name, key, table in (("users", schema.USER_ID, snapshot.users), ("items", schema.ITEM_ID, snapshot.items)):
        columns = {key: table.ids} | {a.name: values[:-1] for a, values in table.columns.items()}
        _write(columns, directory / f"{name}.parquet")
    pairs = snapshot.pairs
    user_rows = np.repeat(np.arange(len(pairs.offsets) - 1), np.diff(pairs.offsets))
    columns = {
        schema.USER_ID: snapshot.users.ids[user_rows],
        schema.ITEM_ID: snapshot.items.ids[pairs.item_rows],
    } | {a.name: values for a, values in pairs.columns.items()}
    _write(columns, directory / "user_item.parquet")
    storage.write_text(directory / INFO_FILE, snapshot.info.model_dump_json(indent=2))


def _write(columns: dict[str, Array], file: Path) -> None:
    # A published snapshot is in no bundle, so no other checksum covers it.
    pq.write_table(pa.table(columns), file, compression=COMPRESSION, write_page_checksum=True)


def publish_snapshot(source: Path, directory: Path) -> Path:
    """Makes a saved snapshot the one that predictors follow, `DIRECTORY/current`; gives its folder.

    The one before stays for a predictor that is just reading it.

    Raises:
        BundleError: it is of another feature schema than this code.
        StorageError: another run is publishing.
    """
    cutoff = load_snapshot(source).info.cutoff
    link = directory / CURRENT
    with storage.exclusive(link):
        before = link.resolve()
        published = directory / f"{cutoff:%Y%m%dT%H%M%S%f}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        with storage.new_directory(published) as fresh:
            shutil.copytree(source, fresh, dirs_exist_ok=True)
        storage.point_link(link, Path(published.name))
        for folder in directory.iterdir():
            if PUBLISHED.fullmatch(folder.name) and folder not in (before, published.resolve()):
                shutil.rmtree(folder, ignore_errors=True)
    return published


def load_snapshot(directory: Path) -> Snapshot:
    """Reads a snapshot.

    Raises:
        BundleError: it is of another feature schema than this code.
        DataError: a table is missing or unreadable.
    """
    info = load_info(directory)
    users = _load_entities(directory / "users.parquet", schema.USER_ID, kept(info.feed, Entity.USER))
    items = _load_entities(directory / "items.parquet", schema.ITEM_ID, kept(info.feed, Entity.ITEM))
    pairs = read_parquet(directory / "user_item.parquet")
    table = _pair_table(
        users.rows(pairs[schema.USER_ID].to_numpy()),
        items.rows(pairs[schema.ITEM_ID].to_numpy()),
        {a: _column(pairs, a) for a in kept(info.feed, Entity.USER_ITEM)},
        len(users.ids),
    )
    return Snapshot(info, users, items, table)


def load_info(directory: Path) -> SnapshotInfo:
    """Reads what a snapshot says of itself.

    Raises:
        OtherFeaturesError: its features are of another schema or rule than those of this code.
        BundleError: it is missing.
    """
    path = directory / INFO_FILE
    try:
        text = path.read_text(encoding="utf-8")
        stored = json.loads(text)
        check_rule(stored, path)
        info = SnapshotInfo.model_validate(_upgraded(stored))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: can't be read ({error}); write the snapshot again") from error
    if info.feature_fingerprint != info.feed.fingerprint:
        raise OtherFeaturesError(
            f"{path}: features of the fingerprint {info.feature_fingerprint}, this code gives "
            f"{info.feed.fingerprint} with the same declaration; compute the features again"
        )
    return info


def check_rule(stored: dict[str, Any], path: Path) -> None:
    """Refuses what was computed by another feature schema or freshness rule, before its other fields are read."""
    version = stored.get("feature_schema_version")
    freshness = stored.get("feed", stored.get("feature_config", {})).get("freshness")
    if version != schema.FEATURE_SCHEMA_VERSION or freshness not in get_args(Freshness):
        raise OtherFeaturesError(
            f"{path}: feature schema {version} with features.freshness {freshness}, this code has "
            f"{schema.FEATURE_SCHEMA_VERSION} with {', '.join(get_args(Freshness))}; compute the features again"
        )


def _upgraded(stored: dict[str, Any]) -> dict[str, Any]:
    """Releases without a declaration stored the constants of the features that were in their code."""
    if "feature_config" not in stored:
        return stored
    feed = of_constants(stored.pop("feature_config"))
    totals = {"all_impressions": stored["impressions"], "all_clicks": stored["clicks"]}
    fingerprints = {"earlier_fingerprint": stored["feature_fingerprint"], "feature_fingerprint": feed.fingerprint}
    return stored | {"feed": feed, "totals": totals, **fingerprints}


def _load_entities(path: Path, key: str, aggregates: list[Aggregate]) -> EntityTable:
    table = read_parquet(path)
    columns = {a: np.append(_column(table, a), a.unknown) for a in aggregates}
    return EntityTable(table[key].to_numpy(), columns)


def _column(table: pa.Table, aggregate: Aggregate) -> Array:
    # Releases without a declaration had one half-life, which their column does not name.
    name = aggregate.name if aggregate.name in table.column_names else aggregate.name.rpartition("_")[0]
    return table[name].to_numpy()
