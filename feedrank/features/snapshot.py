"""The online snapshot: the aggregates of every user, item and pair as of a cut-off, for the predictor."""

import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel

from feedrank import schema, storage
from feedrank.config.data import FeatureConfig
from feedrank.errors import BundleError
from feedrank.features.aggregates import Events, Folder, Grouping, Ints, entity_codes, of_entity
from feedrank.features.definitions import (
    CLICKS,
    IMPRESSIONS,
    NO_TIME,
    PAIR_IMPRESSIONS,
    US_PER_DAY,
    Aggregate,
    Array,
    Entity,
    Kind,
)
from feedrank.tables import COMPRESSION, read_parquet

INFO_FILE = "snapshot.json"
CURRENT = "current"
"""The published snapshot, in a folder of published ones."""
PUBLISHED = re.compile(r"\d{8}T\d{12}-\d{8}T\d{12}")
"""Names of the folders that `publish_snapshot` makes, and may remove."""


class SnapshotInfo(BaseModel):
    """`snapshot.json`."""

    cutoff: datetime
    feature_schema_version: str
    feature_fingerprint: str
    feature_config: FeatureConfig
    impressions: int
    clicks: int
    most_common_device: str


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
    """Earlier impressions of user-item pairs, grouped by the user's row in the user table.

    The items of user row `u` are `item_rows[offsets[u]:offsets[u + 1]]` (rows of the item table, sorted).
    """

    offsets: Ints
    item_rows: Ints
    impressions: NDArray[np.int32]

    def counts(self, user_row: int, item_rows: Ints) -> Ints:
        """Earlier impressions of one user with each item; shape of `item_rows`."""
        start, stop = self.offsets[user_row], self.offsets[user_row + 1]
        if start == stop:
            return np.zeros(len(item_rows), dtype=np.int64)
        own = self.item_rows[start:stop]
        places = np.minimum(np.searchsorted(own, item_rows), stop - start - 1)
        return np.where(own[places] == item_rows, self.impressions[start:stop][places], 0)


@dataclass(frozen=True)
class Snapshot:
    """State of the features' aggregates as of `cutoff_us`."""

    info: SnapshotInfo
    users: EntityTable
    items: EntityTable
    pairs: PairTable

    @property
    def cutoff_us(self) -> int:
        """The cut-off in microseconds since 1970."""
        return round(self.info.cutoff.timestamp() * 1_000_000)

    @property
    def totals(self) -> dict[Aggregate, Array]:
        """The aggregates over all events."""
        return {IMPRESSIONS: np.asarray(self.info.impressions), CLICKS: np.asarray(self.info.clicks)}


def take_snapshot(interactions: pa.Table, *, cutoff: datetime, config: FeatureConfig) -> Snapshot:
    """Aggregates of the interactions strictly earlier than `cutoff`."""
    cutoff_us = round(cutoff.timestamp() * 1_000_000)
    events = Events.from_table(interactions).before(cutoff_us)
    half_life_us = config.popularity_half_life_days * US_PER_DAY
    users = _entity_table(events, Entity.USER, events.user_ids, cutoff_us, half_life_us)
    items = _entity_table(events, Entity.ITEM, events.item_ids, cutoff_us, half_life_us)
    device_counts = np.bincount(events.devices, minlength=len(schema.DEVICES))
    info = SnapshotInfo(
        cutoff=cutoff.astimezone(UTC),
        feature_schema_version=schema.FEATURE_SCHEMA_VERSION,
        feature_fingerprint=config.fingerprint,
        feature_config=config,
        impressions=len(events.times_us),
        clicks=int(events.clicks.sum(dtype=np.int64)),
        most_common_device=schema.DEVICES[int(device_counts.argmax())],
    )
    pair_users, pair_items, impressions = _pair_totals(events, users, items, cutoff_us, half_life_us)
    return Snapshot(info, users, items, _pair_table(pair_users, pair_items, impressions, len(users.ids)))


def _entity_table(events: Events, entity: Entity, ids: Ints, cutoff_us: int, half_life_us: float) -> EntityTable:
    grouping = Grouping.by(entity_codes(events, entity))
    group_ids = ids[grouping.order[grouping.group_start]]
    by_id = np.argsort(group_ids)
    return EntityTable(
        group_ids[by_id],
        {
            aggregate: np.append(values[by_id], _unknown(aggregate)).astype(values.dtype)
            for aggregate, values in _totals(events, entity, grouping, cutoff_us, half_life_us).items()
        },
    )


def _totals(
    events: Events, entity: Entity, grouping: Grouping, cutoff_us: int, half_life_us: float
) -> dict[Aggregate, Array]:
    groups = np.arange(len(grouping.group_start))
    stops = np.append(grouping.group_start[1:], len(grouping.order))[: len(groups)]
    as_of = np.full(len(groups), cutoff_us)
    folder = Folder(events, grouping, half_life_us)
    return {a: folder.fold(a, groups=groups, stops=stops, as_of_us=as_of) for a in of_entity(entity)}


def _unknown(aggregate: Aggregate) -> int:
    return NO_TIME if aggregate.kind in (Kind.FIRST_TIME, Kind.LAST_TIME) else 0


def _pair_totals(
    events: Events, users: EntityTable, items: EntityTable, cutoff_us: int, half_life_us: float
) -> tuple[Ints, Ints, Ints]:
    grouping = Grouping.by(entity_codes(events, Entity.USER_ITEM))
    first = grouping.order[grouping.group_start]
    counts = _totals(events, Entity.USER_ITEM, grouping, cutoff_us, half_life_us)[PAIR_IMPRESSIONS]
    return users.rows(events.user_ids[first]), items.rows(events.item_ids[first]), counts


def _pair_table(user_rows: Ints, item_rows: Ints, impressions: Ints, num_users: int) -> PairTable:
    keys = user_rows * (item_rows.max(initial=0) + 1) + item_rows
    order = slice(None) if bool((keys[1:] > keys[:-1]).all()) else np.argsort(keys)
    # One more user row, the unknown one, which has no pair.
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user_rows, minlength=num_users + 1))])
    return PairTable(offsets, item_rows[order], impressions[order].astype(np.int32))


def save_snapshot(snapshot: Snapshot, directory: Path) -> None:
    """Writes `users.parquet`, `items.parquet`, `user_item.parquet` and `snapshot.json` into an existing folder."""
    for name, key, table in (("users", schema.USER_ID, snapshot.users), ("items", schema.ITEM_ID, snapshot.items)):
        columns = {key: table.ids} | {a.name: values[:-1] for a, values in table.columns.items()}
        pq.write_table(pa.table(columns), directory / f"{name}.parquet", compression=COMPRESSION)
    pairs = snapshot.pairs
    user_rows = np.repeat(np.arange(len(pairs.offsets) - 1), np.diff(pairs.offsets))
    columns = {
        schema.USER_ID: snapshot.users.ids[user_rows],
        schema.ITEM_ID: snapshot.items.ids[pairs.item_rows],
        PAIR_IMPRESSIONS.name: pairs.impressions,
    }
    pq.write_table(pa.table(columns), directory / "user_item.parquet", compression=COMPRESSION)
    storage.write_text(directory / INFO_FILE, snapshot.info.model_dump_json(indent=2))


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
    users = _load_entities(directory / "users.parquet", schema.USER_ID, Entity.USER)
    items = _load_entities(directory / "items.parquet", schema.ITEM_ID, Entity.ITEM)
    pairs = read_parquet(directory / "user_item.parquet")
    table = _pair_table(
        users.rows(pairs[schema.USER_ID].to_numpy()),
        items.rows(pairs[schema.ITEM_ID].to_numpy()),
        pairs[PAIR_IMPRESSIONS.name].to_numpy(),
        len(users.ids),
    )
    return Snapshot(info, users, items, table)


def load_info(directory: Path) -> SnapshotInfo:
    """Reads what a snapshot says of itself.

    One of a release before the constants counted gets the fingerprint of those that it names.

    Raises:
        BundleError: it is missing, or of another feature schema than this code.
    """
    path = directory / INFO_FILE
    try:
        info = SnapshotInfo.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: can't be read ({error}); write the snapshot again") from error
    fingerprint = info.feature_config.fingerprint
    if info.feature_fingerprint not in (fingerprint, schema.column_fingerprint()):
        raise BundleError(
            f"{path}: feature schema {info.feature_schema_version} ({info.feature_fingerprint}), this code has "
            f"{schema.FEATURE_SCHEMA_VERSION} ({fingerprint} with the same constants); compute the features again"
        )
    return info.model_copy(update={"feature_fingerprint": fingerprint})


def _load_entities(path: Path, key: str, entity: Entity) -> EntityTable:
    table = read_parquet(path)
    columns = {a: np.append(table[a.name].to_numpy(), _unknown(a)) for a in of_entity(entity)}
    return EntityTable(table[key].to_numpy(), columns)
