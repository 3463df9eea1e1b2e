"""The temporal split: the earliest rows train, the next validate, the last test."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from feedrank import schema, storage
from feedrank.config.data import SplitConfig
from feedrank.config.promotion import HoldOutConfig
from feedrank.errors import DataError
from feedrank.features.events import Ints
from feedrank.tables import timestamps_us

SPLIT_FILE = "split.json"
US_PER_HOUR = 3_600_000_000


class Part(BaseModel):
    """One part of the split: rows with `start` <= timestamp <= `end`."""

    rows: int
    start: datetime
    end: datetime


class Split(BaseModel):
    """`split.json`: how a feature table in time order falls into three parts."""

    train: Part
    validation: Part
    test: Part

    def tables(self, features: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
        """The train, validation and test rows of the feature table that was split."""
        rows = self.train.rows + self.validation.rows + self.test.rows
        if features.num_rows != rows:
            raise DataError(f"the feature table has {features.num_rows} rows, its split has {rows}: split it again")
        first, second = self.train.rows, self.train.rows + self.validation.rows
        return features.slice(0, first), features.slice(first, second - first), features.slice(second)


def split_by_time(features: pa.Table, *, config: SplitConfig) -> Split:
    """Splits a table in time order; rows with one timestamp are never separated.

    Raises:
        DataError: a part would be empty.
    """
    times = timestamps_us(features)
    if not len(times):
        raise DataError("the feature table is empty; there is nothing to split")
    wanted = np.rint(np.array([config.train, config.train + config.validation]) * len(times)).astype(np.int64)
    return _split_at(wanted, times=times, shares="data_config.yaml: split")


def hold_out(features: pa.Table, *, config: HoldOutConfig, min_impressions: int) -> Split:
    """Splits off as few of the latest rows as judge a retraining: some hours, or more for clicks and users.

    Args:
        features: in time order.
        config: what the test part needs.
        min_impressions: that a user of the @10 metrics must have in the test part.

    Raises:
        DataError: a part would be empty.
    """
    times = timestamps_us(features)
    if not len(times):
        raise DataError("the feature table is empty; there is nothing to hold out")
    rows = len(times)
    clicks = np.cumsum(features[schema.TARGET].to_numpy(), dtype=np.int64)
    enough = (
        np.searchsorted(times, times[-1] - config.hours * US_PER_HOUR, side="right"),
        np.searchsorted(clicks, clicks[-1] - config.min_clicks, side="right"),
        _start_with_users(features[schema.USER_ID].to_numpy(), users=config.min_users, impressions=min_impressions),
    )
    most = int(rows * config.max_share / (1 + config.validation_share))
    test = max(rows - most, min(enough))
    validation = test - max(1, round((rows - test) * config.validation_share))
    return _split_at(np.array([validation, test]), times=times, shares="promotion_config.yaml: hold_out")


def _start_with_users(user_ids: Ints, *, users: int, impressions: int) -> int:
    """The last row from which on so many users have so many rows; 0 if there is none."""
    order = np.argsort(user_ids, kind="stable")
    sizes = np.unique(user_ids, return_counts=True)[1]
    ends = np.cumsum(sizes)[sizes >= impressions]
    starts = np.sort(order[ends - impressions])
    return int(starts[-users]) if len(starts) >= users else 0


def _split_at(rows: Ints, *, times: Ints, shares: str) -> Split:
    """Splits before the two rows; a boundary moves back to the first row of the timestamp that it falls on."""
    at = times[np.clip(rows, 0, len(times) - 1)]
    bounds = [0, *np.searchsorted(times, at, side="left").tolist(), len(times)]
    names = ("train", "validation", "test")
    parts = {}
    for name, start, stop in zip(names, bounds[:-1], bounds[1:], strict=True):
        if start >= stop:
            raise DataError(
                f"the {name} part is empty: {len(times)} rows from {_utc(times[0])} to {_utc(times[-1])} are too few, "
                f"or share too few timestamps, for the shares in {shares}"
            )
        parts[name] = Part(rows=stop - start, start=_utc(times[start]), end=_utc(times[stop - 1]))
    return Split(**parts)


def _utc(time_us: int) -> datetime:
    return datetime.fromtimestamp(int(time_us) / 1_000_000, UTC)


def save_split(split: Split, directory: Path) -> None:
    """Writes `split.json` into a folder."""
    storage.write_text(directory / SPLIT_FILE, split.model_dump_json(indent=2))


def load_split(directory: Path) -> Split:
    """Reads `split.json` from a folder.

    Raises:
        DataError: it is missing or not valid.
    """
    path = directory / SPLIT_FILE
    try:
        return Split.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read ({error}); compute the features again") from error
