"""Upkeep of Delta tables: small files are merged, old days thinned or dropped, unneeded files removed."""

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from feedrank import delta, schema
from feedrank.config.upkeep import LogUpkeepConfig, TableUpkeepConfig
from feedrank.prediction_log.rows import POSITION_DIGITS
from feedrank.prediction_log.table import layout_of
from feedrank.upkeep.report import Freed

SAMPLED = "feedrank-upkeep-sampled"
"""The transaction of a log's table whose number is the latest day that is a sample, counted from 1970."""
FILE_ROWS = 1_000_000
GIB = 1 << 30


def keep_table(
    location: delta.Location,
    *,
    name: str,
    config: TableUpkeepConfig,
    today: date,
    waiting: Collection[date] = (),
    versions: Sequence[int] = (),
) -> Freed | None:
    """Upkeep of a table of which days are kept or dropped; None where no table is.

    The `waiting` days and the files of `versions` always stay.
    """
    if not delta.is_table(location):
        return None
    before, table, done = stored_bytes(location), delta.open_table(location), list[str]()
    if config.keep_days is not None:
        limit = today - timedelta(days=config.keep_days)
        table = _drop(table, [day for day in table.days() if day < limit and day not in waiting], done)
    _tidy(table, vacuum_hours=config.vacuum_hours, versions=versions, done=done)
    return Freed(name=name, bytes_before=before, bytes_after=stored_bytes(location), done=done)


def keep_log(location: delta.Location, *, config: LogUpkeepConfig, today: date) -> tuple[Freed | None, list[str]]:
    """Upkeep of the prediction log, and warnings; nothing where no log is."""
    if not delta.is_table(location):
        return None, []
    before, table, done = stored_bytes(location), delta.open_table(location), list[str]()
    table = _drop(table, [day for day in table.days() if day < today - timedelta(days=config.sample_days)], done)
    for day in table.days():
        if day < today - timedelta(days=config.keep_days):
            table = _sample(table, day, share=config.sample_share, done=done)
    limit = _limit(location, config)
    table = _shrink(table, limit=limit, share=config.sample_share, today=today, done=done)
    table = _tidy(table, vacuum_hours=config.vacuum_hours, done=done)
    warnings = []
    if limit is not None and table.bytes > limit:
        warnings.append(
            f"{location}: today's predictions alone take {table.bytes / GIB:.2f} GiB of the log's {limit / GIB:.2f}; "
            "give it more room, or run the upkeep after midnight"
        )
    return Freed(name="prediction log", bytes_before=before, bytes_after=stored_bytes(location), done=done), warnings


def stored_bytes(location: delta.Location) -> int:
    """Of all files of a table, also of those that only earlier versions hold."""
    files = delta.file_system(location)
    selector = pafs.FileSelector("", recursive=True, allow_not_found=True)
    return sum(info.size or 0 for info in files.get_file_info(selector) if info.is_file)


def _limit(location: delta.Location, config: LogUpkeepConfig) -> int | None:
    if config.max_bytes is not None:
        return config.max_bytes
    if not delta.is_local(location):
        return None
    return int(shutil.disk_usage(os.path.realpath(location)).total * config.max_share)


def _shrink(table: delta.Table, *, limit: int | None, share: float, today: date, done: list[str]) -> delta.Table:
    """Makes the oldest days samples, then drops the oldest, until the log is within its limit."""
    past = [day for day in table.days() if day < today]
    for day in past:
        if limit is not None and table.bytes > limit:
            table = _sample(table, day, share=share, done=done)
    for day in past:
        if limit is not None and table.bytes > limit:
            table = _drop(table, [day], done)
    return table


def _drop(table: delta.Table, days: Sequence[date], done: list[str]) -> delta.Table:
    if not days:
        return table
    rows = sum(table.days()[day].rows for day in days)
    table, _ = table.delete(delta.in_days(days), note=delta.Note({"upkeep": "drop"}))
    done.append(f"dropped {rows:,} rows of {len(days)} days up to {max(days)}")
    return table


def _sample(table: delta.Table, day: date, *, share: float, done: list[str]) -> delta.Table:
    """Keeps a share of a day's requests, whole; a day that is a sample already stays as it is."""
    number, latest = (day - date(1970, 1, 1)).days, table.transaction(SAMPLED)
    if latest is not None and number <= latest:
        return table
    before = table.days()[day].rows
    rows = table.schema.remove(table.schema.get_field_index(schema.DATE))
    note = delta.Note({"upkeep": "sample"}, transaction=(SAMPLED, number))
    table = table.replace_days(_chosen(table, day, share=share), days=[day], layout=layout_of(rows), note=note)
    kept = table.days()[day].rows if day in table.days() else 0
    done.append(f"kept a sample of {kept:,} of the {before:,} rows of {day}")
    return table


def _chosen(table: delta.Table, day: date, *, share: float) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for batch in table.dataset(start=day, end=day).to_batches():
        waiting.append(_of_chosen_requests(pa.Table.from_batches([batch]), share=share))
        if sum(part.num_rows for part in waiting) >= FILE_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    yield pa.concat_tables([table.dataset().schema.empty_table(), *waiting])


def _of_chosen_requests(rows: pa.Table, *, share: float) -> pa.Table:
    """The rows of the requests whose hash is below the share; a prediction's id ends with its place in the request."""
    ids = rows[schema.PREDICTION_ID].cast(pa.string()).combine_chunks()
    requests = pc.utf8_slice_codeunits(ids, 0, stop=-POSITION_DIGITS).dictionary_encode()
    hashes = pd.util.hash_array(requests.dictionary.to_numpy(zero_copy_only=False).astype(object))
    chosen = hashes < np.uint64(share * (2**64 - 1)) if share < 1 else np.ones(len(hashes), dtype=bool)
    return rows.filter(pa.array(chosen[requests.indices.to_numpy()]))


def _tidy(table: delta.Table, *, vacuum_hours: int, done: list[str], versions: Sequence[int] = ()) -> delta.Table:
    files = sum(day.files for day in table.days().values())
    table = table.compact()
    merged = files - sum(day.files for day in table.days().values())
    if merged:
        done.append(f"merged {merged:,} small files away")
    there = [version for version in versions if version <= table.version]  # another table may have been in its place
    removed = len(table.vacuum(keep_hours=vacuum_hours, keep_versions=there))
    if removed:
        done.append(f"removed {removed:,} files that nothing needs")
    return table
