"""Reads foreign files through a mapping and merges them into the partitioned table, each interaction once."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ValidationError

from feedrank import schema
from feedrank.config.ingest import IngestConfig, Mapping
from feedrank.data.ingest.identity import Hashes, KnownIds, text_hashes
from feedrank.data.ingest.normalise import Plan, normalise, plan_columns
from feedrank.data.ingest.readers import InputFile, Piece, find_files, read_pieces
from feedrank.data.links import link_file
from feedrank.errors import ConfigError, DataError
from feedrank.storage import new_directory
from feedrank.tables import partition_days, read_parquet, write_partitioned

QUARANTINE = "_quarantine"
"""Folder inside the table for the rows that couldn't be cast; readers of partitions don't see it."""
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("record", pa.string()),
    ]
)
"""`row` counts from 1 after the header; null for a line that couldn't be parsed. `record` is JSON, or the line."""


class IngestSummary(BaseModel):
    """What an ingestion did; counts are rows."""

    files: int
    rows_read: int
    rows_added: int
    rows_known: int
    rows_quarantined: int
    quarantine_reasons: dict[str, int]
    defaulted_columns: tuple[str, ...]
    rows_in_table: int
    output: Path


@dataclass
class _Run:
    mapping: Mapping | None
    config: IngestConfig
    known: KnownIds
    read: int = 0
    repeated: int = 0
    defaulted: set[str] = field(default_factory=set)
    rejected: list[pa.Table] = field(default_factory=list)


def load_mapping(path: Path) -> Mapping:
    """Reads and validates a mapping file.

    Raises:
        ConfigError: names the file, the key and what is expected.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Mapping.model_validate(content or {})
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such mapping file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, p['loc'])) or 'mapping'}: {p['msg']}" for p in error.errors()]
        raise ConfigError(f"{path}: {'; '.join(problems)}") from error


def ingest(inputs: Sequence[str], *, output: Path, mapping: Path | None, config: IngestConfig) -> IngestSummary:
    """Adds the interactions of files, folders, globs or addresses to the partitioned table at `output`.

    Rows whose interaction_id the table (or an earlier input file) has are skipped, so a repeated run adds nothing.
    Without a mapping the files must have our own columns; what follows from the others may be missing.

    Raises:
        DataError: an input is missing, unreadable, empty or lacks a column, or too many rows can't be cast.
        ConfigError: the mapping file is wrong.
        StorageError: another run is writing `output`.
    """
    files = find_files(inputs)
    columns = None if mapping is None else load_mapping(mapping)
    with new_directory(output) as fresh:
        run = _Run(mapping=columns, config=config, known=KnownIds(_carry_over(output, fresh)))
        before = len(run.known)
        added = write_partitioned(_chunks(files, run), fresh)
        rejected = pa.concat_tables([QUARANTINE_SCHEMA.empty_table(), *run.rejected])
        _check_share(inputs, run, rejected)
        _write_quarantine(rejected, output / QUARANTINE, fresh / QUARANTINE)
    return IngestSummary(
        files=len(files),
        rows_read=run.read,
        rows_added=added,
        rows_known=run.repeated,
        rows_quarantined=rejected.num_rows,
        quarantine_reasons=dict(Counter(_kinds(rejected)).most_common()),
        defaulted_columns=tuple(sorted(run.defaulted)),
        rows_in_table=before + added,
        output=output,
    )


def _carry_over(output: Path, fresh: Path) -> Hashes:
    """Links the existing partitions into the new directory; returns the hashes of their interaction ids."""
    hashes = [np.array([], dtype=np.uint64)]
    for _, folder in partition_days(output) if output.is_dir() else []:
        for number, file in enumerate(sorted(folder.glob("*.parquet"))):
            hashes.append(text_hashes([read_parquet(file, columns=[schema.INTERACTION_ID])[0]]))
            link_file(file, fresh / folder.name / f"kept-{number}.parquet")
    return np.concatenate(hashes)


def _chunks(files: Sequence[InputFile], run: _Run) -> Iterator[pa.Table]:
    """Tables of about `chunk_rows` new rows."""
    waiting: list[tuple[int, pa.Table]] = []
    rows = 0
    for number, file in enumerate(files):
        for good in _read(file, run):
            waiting.append((number, good))
            rows += good.num_rows
            if rows >= run.config.chunk_rows:
                yield _unseen(waiting, run)
                waiting, rows = [], 0
    if waiting:
        yield _unseen(waiting, run)


def _unseen(pieces: Sequence[tuple[int, pa.Table]], run: _Run) -> pa.Table:
    table = pa.concat_tables([piece for _, piece in pieces])
    hashes = text_hashes([table[schema.INTERACTION_ID]])
    owners = np.repeat([number for number, _ in pieces], [piece.num_rows for _, piece in pieces])
    repeated = run.known.repeated(hashes, owners)
    run.known.add(hashes[~repeated])
    run.repeated += int(repeated.sum())
    return table.filter(pa.array(~repeated)) if repeated.any() else table


def _read(file: InputFile, run: _Run) -> Iterator[pa.Table]:
    plans: list[Plan] = []

    def wanted(name: str, present: Sequence[str]) -> list[str]:
        plans.append(plan_columns(name, present, run.mapping))
        return plans[-1].file_columns

    for piece in read_pieces(file, wanted=wanted, mapping=run.mapping or Mapping(), chunk_rows=run.config.chunk_rows):
        plan = plans[-1]
        run.defaulted.update(plan.defaulted)
        run.read += piece.table.num_rows + len(piece.broken)
        result = normalise(piece.table, plan)
        run.rejected += _rejected(piece, result.bad, result.reasons)
        yield result.good


def _rejected(piece: Piece, bad: npt.NDArray[np.int64], reasons: Sequence[str]) -> list[pa.Table]:
    rows: list[dict[str, object]] = [
        {"file": piece.file, "row": None, "reason": "line can't be parsed", "record": line} for line in piece.broken
    ]
    records = piece.table.take(pa.array(bad)).to_pylist()
    rows += [
        {
            "file": piece.file,
            "row": piece.first_row + int(place),
            "reason": reason,
            "record": json.dumps(record, default=str),
        }
        for place, reason, record in zip(bad, reasons, records, strict=True)
    ]
    return [pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)] if rows else []


def _kinds(rejected: pa.Table) -> list[str]:
    """The reasons without the cell's value, so that equal ones can be counted."""
    return pc.replace_substring_regex(rejected["reason"], r" '.*' is not", " is not").to_pylist()


def _check_share(inputs: Sequence[str], run: _Run, rejected: pa.Table) -> None:
    if not run.read:
        raise DataError(f"{', '.join(inputs)}: no rows in it; nothing was written")
    share = rejected.num_rows / run.read
    if share > run.config.max_unreadable_share:
        first = rejected.slice(0, 1).to_pylist()[0]
        where = "" if first["row"] is None else f" row {first['row']}"
        raise DataError(
            f"{rejected.num_rows} of {run.read} rows ({share:.1%}) can't be read, allowed are "
            f"{run.config.max_unreadable_share:.1%}; the first: {first['file']}{where}: {first['reason']}"
        )


def _write_quarantine(rejected: pa.Table, old: Path, fresh: Path) -> None:
    """Adds to the quarantine what it doesn't hold yet."""
    file = "rows.parquet"
    earlier = [read_parquet(old / file)] if (old / file).exists() else []
    rows = pa.concat_tables([*earlier, rejected]).to_pandas().drop_duplicates()
    if len(rows):
        fresh.mkdir()
        table = pa.Table.from_pandas(rows, schema=QUARANTINE_SCHEMA, preserve_index=False)
        pq.write_table(table, fresh / file, compression="zstd")
