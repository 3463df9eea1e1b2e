"""Reads foreign files through a mapping and merges them into the partitioned table, each interaction once."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ValidationError

from feedrank.config.ingest import IngestConfig, Mapping
from feedrank.data.ingest.files import InputFile, find_files
from feedrank.data.ingest.identity import ImpressionIds
from feedrank.data.ingest.normalise import Normalised, Plan, normalise, plan_columns
from feedrank.data.ingest.pieces import EmptyFileError, Piece
from feedrank.data.ingest.readers import read_pieces
from feedrank.data.ingest.versions import Outcome, Versions
from feedrank.data.ingest_facts import read_facts, write_facts
from feedrank.errors import ConfigError, DataError
from feedrank.storage import new_directory
from feedrank.tables import read_parquet, write_partitioned

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
"""`row` counts from 1 after the header. `record` is JSON, or the line where it couldn't be parsed."""


class IngestSummary(BaseModel):
    """What an ingestion did; counts are rows: read = added + updated + known + quarantined."""

    files: int
    rows_read: int
    rows_added: int
    rows_updated: int
    rows_known: int
    rows_quarantined: int
    quarantine_reasons: dict[str, int]
    defaulted_columns: tuple[str, ...]
    naive_times: int
    """Times that named no zone, and were taken as the mapping's."""
    zone: str
    warnings: tuple[str, ...]
    rows_in_table: int
    output: Path

    @property
    def sentence(self) -> str:
        """The counts for a person."""
        return (
            f"{self.rows_read:,} rows of {self.files} files read: {self.rows_added:,} added, {self.rows_updated:,} "
            f"updated, {self.rows_known:,} known, {self.rows_quarantined:,} in quarantine"
        )


@dataclass
class _Run:
    mapping: Mapping | None
    config: IngestConfig
    read: int = 0
    naive_times: int = 0
    defaulted: set[str] = field(default_factory=set)
    from_files: set[str] = field(default_factory=set)
    rejected: list[pa.Table] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def zone(self) -> str:
        source = None if self.mapping is None else self.mapping.columns.get("timestamp")
        return "UTC" if source is None else source.zone


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
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, p['loc'])) or 'mapping'}: {p['msg']}" for p in error.errors()]
        raise ConfigError(f"{path}: {'; '.join(problems)}") from error


def ingest(inputs: Sequence[str], *, output: Path, mapping: Path | None, config: IngestConfig) -> IngestSummary:
    """Adds the interactions of files, folders, globs or addresses to the partitioned table at `output`.

    A later version of an interaction (in the order of the inputs, and of runs) replaces the earlier one; a version
    that stands in the table adds nothing. Without a mapping the files must have our own columns; what follows from
    the others may be missing.

    Raises:
        DataError: an input is missing, unreadable, empty or lacks a column, too many rows can't be cast, or not every
            row read is accounted for.
        ConfigError: the mapping file is wrong.
        StorageError: another run is writing `output`.
    """
    files = find_files(inputs)
    run = _Run(mapping=None if mapping is None else load_mapping(mapping), config=config)
    with new_directory(output) as fresh:
        versions = Versions(output, fresh)
        write_partitioned(_chunks(files, run, versions), fresh)
        outcome = versions.finish()
        rejected = pa.concat_tables([QUARANTINE_SCHEMA.empty_table(), *run.rejected])
        _check(inputs, run, rejected, outcome)
        _write_quarantine(rejected, output / QUARANTINE, fresh / QUARANTINE)
        write_facts(fresh, run.from_files, earlier=read_facts(output))
    return IngestSummary(
        files=len(files),
        rows_read=run.read,
        rows_added=outcome.added,
        rows_updated=outcome.updated,
        rows_known=outcome.known,
        rows_quarantined=rejected.num_rows,
        quarantine_reasons=dict(Counter(_kinds(rejected)).most_common()),
        defaulted_columns=tuple(sorted(run.defaulted)),
        naive_times=run.naive_times,
        zone=run.zone,
        warnings=tuple(dict.fromkeys(run.warnings)),
        rows_in_table=versions.stored + outcome.added,
        output=output,
    )


def _chunks(files: Sequence[InputFile], run: _Run, versions: Versions) -> Iterator[pa.Table]:
    """Tables of about `chunk_rows` rows, without those that the table knows."""
    waiting: list[pa.Table] = []
    empty: list[EmptyFileError] = []
    for file in files:
        try:
            for good in _read(file, run):
                waiting.append(good)
                if sum(table.num_rows for table in waiting) >= run.config.chunk_rows:
                    yield versions.unknown(pa.concat_tables(waiting))
                    waiting = []
        except EmptyFileError as error:
            empty.append(error)
            run.warnings.append(str(error))
    if len(empty) == len(files):
        raise empty[0]
    if waiting:
        yield versions.unknown(pa.concat_tables(waiting))


def _read(file: InputFile, run: _Run) -> Iterator[pa.Table]:
    for piece, result in read_file(file, mapping=run.mapping, config=run.config, defaulted=run.defaulted):
        run.read += piece.rows
        run.naive_times += result.naive_times
        run.from_files |= result.from_file
        run.warnings += piece.warnings
        run.rejected += _rejected(piece, result)
        yield result.good


def read_file(
    file: InputFile, *, mapping: Mapping | None, config: IngestConfig, defaulted: set[str]
) -> Iterator[tuple[Piece, Normalised]]:
    """The pieces of a file with their interactions; adds the columns that took a default to `defaulted`.

    Raises:
        DataError: the file can't be read, or lacks a column.
    """
    plans: list[Plan] = []
    ids = ImpressionIds()

    def wanted(name: str, present: Sequence[str]) -> list[str]:
        plans.append(plan_columns(name, present, mapping, keys_may_lack=file.format == "json"))
        return plans[-1].file_columns

    for piece in read_pieces(file, wanted=wanted, mapping=mapping or Mapping(), config=config):
        defaulted.update(plans[-1].defaulted)
        yield piece, normalise(piece.table, plans[-1], config=config, ids=ids)


def _rejected(piece: Piece, result: Normalised) -> list[pa.Table]:
    rows: list[dict[str, object]] = [
        {"file": piece.file, "row": entry.row, "reason": entry.reason, "record": entry.text} for entry in piece.broken
    ]
    records = piece.table.take(pa.array(result.bad)).to_pylist()
    numbers = piece.numbers[result.bad].tolist()
    rows += [
        {"file": piece.file, "row": number, "reason": reason, "record": json.dumps(record, default=str)}
        for number, reason, record in zip(numbers, result.reasons, records, strict=True)
    ]
    rows.sort(key=lambda row: str(row["row"]).zfill(20))
    return [pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)] if rows else []


def _kinds(rejected: pa.Table) -> list[str]:
    """The reasons without the cell's value, so that equal ones can be counted."""
    return pc.replace_substring_regex(rejected["reason"], r" ('.*'|\".*\") is not", " is not").to_pylist()


def _check(inputs: Sequence[str], run: _Run, rejected: pa.Table, outcome: Outcome) -> None:
    if not run.read:
        raise DataError(f"{', '.join(inputs)}: no rows in it; nothing was written")
    share = rejected.num_rows / run.read
    tolerated = max(run.config.max_unreadable_share * run.read, min(run.config.max_unreadable_rows, run.read - 1))
    if rejected.num_rows > tolerated:
        first = rejected.slice(0, 1).to_pylist()[0]
        raise DataError(
            f"{rejected.num_rows} of {run.read} rows ({share:.1%}) can't be read, allowed are "
            f"{run.config.max_unreadable_share:.1%}; the first: {first['file']} row {first['row']}: {first['reason']}"
        )
    told = outcome.added + outcome.updated + outcome.known + rejected.num_rows
    if told != run.read:
        raise DataError(
            f"{run.read} rows were read and {told} are accounted for; nothing was written. Report this file"
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
