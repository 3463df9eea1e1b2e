"""The temporal split: the earliest rows train, the next validate, the last test."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from feedrank import storage
from feedrank.config.data import SplitConfig
from feedrank.errors import DataError
from feedrank.tables import timestamps_us

SPLIT_FILE = "split.json"


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
    wanted = np.array([config.train, config.train + config.validation]) * len(times)
    # A boundary moves back to the first row of the timestamp that it falls on.
    at = times[np.minimum(np.rint(wanted).astype(np.int64), len(times) - 1)]
    bounds = [0, *np.searchsorted(times, at, side="left").tolist(), len(times)]
    names = ("train", "validation", "test")
    parts = {}
    for name, start, stop in zip(names, bounds[:-1], bounds[1:], strict=True):
        if start >= stop:
            raise DataError(
                f"the {name} part is empty: {len(times)} rows from {_utc(times[0])} to {_utc(times[-1])} are too few, "
                "or share too few timestamps, for the shares in data_config.yaml: split"
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
