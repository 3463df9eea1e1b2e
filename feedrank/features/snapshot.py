"""The online snapshot: the aggregates of every user, item and pair as of a cut-off, for the predictor."""

import json
import re
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel

from feedrank import schema, storage
from feedrank.config.data import FeatureConfig, Freshness
from feedrank.errors import BundleError, DataError, OtherFeaturesError
from feedrank.features.aggregates import CLICKS, IMPRESSIONS, US_PER_DAY, Aggregate, Array, Entity, Kind
from feedrank.features.definitions import definitions
from feedrank.features.events import Events, Ints
from feedrank.features.fold import Fold
from feedrank.features.forms import aggregates_of
from feedrank.tables import COMPRESSION, read_parquet

INFO_FILE = "snapshot.json"
CURRENT = "current"
"""The published snapshot, in a folder of published ones."""
PAIR_IMPRESSIONS = Aggregate(Entity.USER_ITEM, Kind.COUNT)
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
    feature_config: FeatureConfig
    impressions: int
    clicks: int
    most_common_device: str
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

    def from_source(self, source: TableVersion | None) -> "Snapshot":
        """With the note of what it was computed from."""
        return replace(self, info=self.info.model_copy(update={"source": source}))

    @property
    def cutoff_us(self) -> int:
        """The cut-off in microseconds since 1970."""
        return round(self.info.cutoff.timestamp() * 1_000_000)

    @property
    def totals(self) -> dict[Aggregate, Array]:
        """The aggregates over all events."""
        return {IMPRESSIONS: np.asarray(self.info.impressions), CLICKS: np.asarray(self.info.clicks)}


def take_snapshot(interactions: pa.Table, *, cutoff: datetime, config: FeatureConfig) -> Snapshot:
    """The aggregates as of a midnight (UTC): what the features of that day's events are computed from.

    Raises:
        DataError: `cutoff` is no midnight.
    """
    cutoff_us = round(cutoff.timestamp() * 1_000_000)
    if cutoff_us % US_PER_DAY:
        raise DataError(f"a snapshot is of the start of a UTC day, not of {cutoff.isoformat()}; give a midnight")
    earlier = pc.less(interactions[schema.TIMESTAMP].cast(pa.int64()), cutoff_us)
    events = Events.from_table(interactions.filter(earlier), config=config)
    fold = Fold(events, config=config)
    for day, rows in events.days():
        fold.add(day, rows)
    first = {entity: _first_rows(codes) for entity, codes in events.codes.items() if entity is not Entity.ALL}
    state = fold.read({entity: np.arange(len(rows)) for entity, rows in first.items()}, cutoff_us // US_PER_DAY)
    users = _entity_table(state, Entity.USER, events.user_ids[first[Entity.USER]])
    items = _entity_table(state, Entity.ITEM, events.item_ids[first[Entity.ITEM]])
    device_counts = np.bincount(events.devices, minlength=len(schema.DEVICES))
    info = SnapshotInfo(
        cutoff=cutoff.astimezone(UTC),
        feature_schema_version=schema.FEATURE_SCHEMA_VERSION,
        feature_fingerprint=config.fingerprint,
        feature_config=config,
        impressions=len(events.times_us),
        clicks=fold.total(CLICKS),
        most_common_device=schema.DEVICES[int(device_counts.argmax())],
    )
    pairs = first[Entity.USER_ITEM]
    user_rows, item_rows = users.rows(events.user_ids[pairs]), items.rows(events.item_ids[pairs])
    return Snapshot(info, users, items, _pair_table(user_rows, item_rows, state[PAIR_IMPRESSIONS], len(users.ids)))


def _first_rows(codes: Ints) -> Ints:
    """Where each of the codes 0, 1, … is first, [codes]."""
    first = np.empty(codes.max(initial=-1) + 1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return first


def _entity_table(state: dict[Aggregate, Array], entity: Entity, ids: Ints) -> EntityTable:
    by_id = np.argsort(ids)
    columns = {a: np.append(values[by_id], a.unknown) for a, values in state.items() if a.entity is entity}
    return EntityTable(ids[by_id], columns)


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
        _write(columns, directory / f"{name}.parquet")
    pairs = snapshot.pairs
    user_rows = np.repeat(np.arange(len(pairs.offsets) - 1), np.diff(pairs.offsets))
    columns = {
        schema.USER_ID: snapshot.users.ids[user_rows],
        schema.ITEM_ID: snapshot.items.ids[pairs.item_rows],
        PAIR_IMPRESSIONS.name: pairs.impressions,
    }
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
    users = _load_entities(directory / "users.parquet", schema.USER_ID, Entity.USER, info.feature_config)
    items = _load_entities(directory / "items.parquet", schema.ITEM_ID, Entity.ITEM, info.feature_config)
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

    Raises:
        OtherFeaturesError: its features are of another schema or rule than those of this code.
        BundleError: it is missing.
    """
    path = directory / INFO_FILE
    try:
        text = path.read_text(encoding="utf-8")
        check_rule(json.loads(text), path)
        info = SnapshotInfo.model_validate_json(text)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: can't be read ({error}); write the snapshot again") from error
    if info.feature_fingerprint != info.feature_config.fingerprint:
        raise OtherFeaturesError(
            f"{path}: features of the fingerprint {info.feature_fingerprint}, this code gives "
            f"{info.feature_config.fingerprint} with the same constants; compute the features again"
        )
    return info


def check_rule(stored: dict[str, Any], path: Path) -> None:
    """Refuses what was computed by another feature schema or freshness rule, before its other fields are read."""
    version, freshness = stored.get("feature_schema_version"), stored.get("feature_config", {}).get("freshness")
    if version != schema.FEATURE_SCHEMA_VERSION or freshness not in get_args(Freshness):
        raise OtherFeaturesError(
            f"{path}: feature schema {version} with features.freshness {freshness}, this code has "
            f"{schema.FEATURE_SCHEMA_VERSION} with {', '.join(get_args(Freshness))}; compute the features again"
        )


def _load_entities(path: Path, key: str, entity: Entity, config: FeatureConfig) -> EntityTable:
    table = read_parquet(path)
    kept = (a for a in aggregates_of(definitions(config).values()) if a.entity is entity)
    columns = {aggregate: np.append(table[aggregate.name].to_numpy(), aggregate.unknown) for aggregate in kept}
    return EntityTable(table[key].to_numpy(), columns)
