"""Reads foreign files through a mapping and merges them into the table of interactions, each interaction once."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import BaseModel, ValidationError

from feedrank import delta, schema
from feedrank.config.ingest import IngestConfig, Mapping
from feedrank.data.ingest import quarantine
from feedrank.data.ingest.files import InputFile, find_files
from feedrank.data.ingest.identity import ImpressionIds
from feedrank.data.ingest.normalise import Normalised, Plan, normalise, plan_columns
from feedrank.data.ingest.pieces import EmptyFileError, Piece
from feedrank.data.ingest.readers import read_pieces
from feedrank.data.ingest.unread import from_first_unread, is_unread, reading_of, stamp
from feedrank.data.ingest.versions import Outcome, Versions
from feedrank.data.ingest_facts import APPLICATION, NO_FACTS, FileRead, facts_of
from feedrank.erasure.person import Mask
from feedrank.erasure.refused import NOBODY, Door, Refused
from feedrank.errors import ConfigError, DataError
from feedrank.interactions import LAYOUT, only_writer, refuse_old_folder

NONE_REJECTED = quarantine.SCHEMA.empty_table()


class IngestSummary(BaseModel):
    """What an ingestion did; counts are rows: read = added + updated + known + quarantined + erased."""

    files: int
    files_unchanged: int
    """Of those: they were read before as they are, and not again."""
    rows_read: int
    rows_added: int
    rows_updated: int
    rows_known: int
    rows_quarantined: int
    rows_erased: int
    """Of users who were erased; they are refused."""
    quarantine_reasons: dict[str, int]
    defaulted_columns: tuple[str, ...]
    naive_times: int
    """Times that named no zone, and were taken as the mapping's."""
    zone: str
    warnings: tuple[str, ...]
    rows_in_table: int
    output: str

    @property
    def sentence(self) -> str:
        """The counts for a person."""
        return (
            f"{self.rows_read:,} rows of {self.files - self.files_unchanged} files read, {self.files_unchanged} files "
            f"unchanged: {self.rows_added:,} added, {self.rows_updated:,} "
            f"updated, {self.rows_known:,} known, {self.rows_quarantined:,} in quarantine"
            + (f", {self.rows_erased:,} of erased users refused" if self.rows_erased else "")
        )


@dataclass
class _Run:
    """What is found while files are read."""

    mapping: Mapping | None
    config: IngestConfig
    refused: Refused = NOBODY
    read: int = 0
    erased: int = 0
    naive_times: int = 0
    defaulted: set[str] = field(default_factory=set)
    from_files: set[str] = field(default_factory=set)
    rejected: list[pa.Table] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rows_of: Counter[str] = field(default_factory=Counter)

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


def ingest(
    inputs: Sequence[str], *, output: delta.Location, mapping: Path | None, config: IngestConfig
) -> IngestSummary:
    """Adds the interactions of files, folders, globs or addresses to the table at `output`.

    A file that was read before, as it is and by the same mapping, is not read again. A later version of an interaction
    (in the order of the inputs, and of runs) replaces the earlier one; a version that stands in the table adds nothing.
    Without a mapping the files must have our own columns; what follows from the others may be missing.

    Raises:
        DataError: an input is missing, unreadable, empty or lacks a column, too many rows can't be cast, or not every
            row read is accounted for; nothing was written then.
        ConfigError: the mapping file is wrong.
        StorageError: another run is writing `output`, or its store doesn't answer.
    """
    files = find_files(inputs)
    chosen = None if mapping is None else load_mapping(mapping)
    refuse_old_folder(output)
    with only_writer(output):
        table = delta.create_table(output, layout=LAYOUT).widened(LAYOUT)
        return _Ingestion(table, files, chosen, config).run()


class _Ingestion:
    """One run into a table."""

    def __init__(
        self, table: delta.Table, files: list[InputFile], mapping: Mapping | None, config: IngestConfig
    ) -> None:
        self._table, self._files, self._mapping, self._config = table, files, mapping, config
        self._facts = facts_of(table) or NO_FACTS
        self._refused = Door.at(config.erased_users).read()
        reading = reading_of(mapping, config)
        self._stamps = {file.name: stamp(file, reading=reading) for file in files}

    def run(self) -> IngestSummary:
        """Reads what was not read yet; what later files say of the same interactions is then read again."""
        unread = [file for file in self._files if is_unread(file.name, self._stamps[file.name], self._facts)]
        if not unread:
            return self._summary(_Run(self._mapping, self._config), Outcome(0, 0, 0), self._table, read=[])
        following = from_first_unread(self._files, unread)
        done = self._read(unread, commit_updates=len(following) == len(unread))
        return done or self._read(following, commit_updates=True)  # type: ignore[return-value]

    def _read(self, files: list[InputFile], *, commit_updates: bool) -> IngestSummary | None:
        """Reads files and commits what they say; None if they change interactions and were not to."""
        run, versions = _Run(self._mapping, self._config, self._refused), Versions(self._table)
        try:
            for rows in _chunks(files, run, may_be_empty=len(files) < len(self._files)):
                versions.add(rows)
            outcome = versions.finish()
            if not run.read and len(files) < len(self._files):
                return self._summary(run, outcome, self._table, read=files)
            if outcome.updated and not commit_updates:
                versions.discard()
                return None
            rejected = pa.concat_tables([NONE_REJECTED, *run.rejected])
            _check(files, run, rejected, outcome)
            quarantine.add(rejected, self._table.location)
            facts = self._facts.after(run.from_files, self._as_read(files, run))
            table = versions.commit(facts.note(transaction=(self._table.transaction(APPLICATION) or 0) + 1))
        except BaseException:
            versions.discard()
            raise
        return self._summary(run, outcome, table, read=files, rejected=rejected)

    def _as_read(self, files: list[InputFile], run: _Run) -> dict[str, FileRead]:
        for file in files:
            before, now = self._facts.files.get(file.name), run.rows_of[file.name]
            if before is not None and now < before.rows:
                run.warnings.append(
                    f"{file.name}: has {now:,} rows, {before.rows:,} when it was read before; what it says no more "
                    "stays in the table"
                )
        rows_of = {name: rows for name, rows in run.rows_of.items() if rows}
        return {name: self._stamps[name].model_copy(update={"rows": rows}) for name, rows in rows_of.items()}

    def _summary(
        self,
        run: _Run,
        outcome: Outcome,
        table: delta.Table,
        *,
        read: list[InputFile],
        rejected: pa.Table = NONE_REJECTED,
    ) -> IngestSummary:
        return IngestSummary(
            files=len(self._files),
            files_unchanged=len(self._files) - len(read),
            rows_read=run.read,
            rows_added=outcome.added,
            rows_updated=outcome.updated,
            rows_known=outcome.known,
            rows_quarantined=rejected.num_rows,
            rows_erased=run.erased,
            quarantine_reasons=dict(Counter(_kinds(rejected)).most_common()),
            defaulted_columns=tuple(sorted(run.defaulted)),
            naive_times=run.naive_times,
            zone=run.zone,
            warnings=tuple(dict.fromkeys(run.warnings)),
            rows_in_table=table.rows,
            output=str(table.location),
        )


def _chunks(files: Sequence[InputFile], run: _Run, *, may_be_empty: bool) -> Iterator[pa.Table]:
    """Tables of about `chunk_rows` rows."""
    waiting: list[pa.Table] = []
    empty: list[EmptyFileError] = []
    for file in files:
        try:
            for good in _read(file, run):
                waiting.append(good)
                if sum(table.num_rows for table in waiting) >= run.config.chunk_rows:
                    yield pa.concat_tables(waiting)
                    waiting = []
        except EmptyFileError as error:
            empty.append(error)
            run.warnings.append(str(error))
    if len(empty) == len(files) and not may_be_empty:
        raise empty[0]
    if waiting:
        yield pa.concat_tables(waiting)


def _read(file: InputFile, run: _Run) -> Iterator[pa.Table]:
    for piece, result in read_file(file, mapping=run.mapping, config=run.config, defaulted=run.defaulted):
        run.read += piece.rows
        run.rows_of[file.name] += piece.rows
        run.naive_times += result.naive_times
        run.from_files |= result.from_file
        run.warnings += piece.warnings
        run.rejected += [_refuse(rows, run.refused.records(rows["record"]), run) for rows in _rejected(piece, result)]
        yield _refuse(result.good, run.refused.rows(result.good[schema.USER_ID]), run)


def _refuse(rows: pa.Table, erased: Mask, run: _Run) -> pa.Table:
    """The rows without those of erased users, which are counted."""
    run.erased += int(erased.sum())
    return rows.filter(pa.array(~erased)) if erased.any() else rows


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
    return [pa.Table.from_pylist(rows, schema=quarantine.SCHEMA)] if rows else []


def _kinds(rejected: pa.Table) -> list[str]:
    """The reasons without the cell's value, so that equal ones can be counted."""
    return pc.replace_substring_regex(rejected["reason"], r" ('.*'|\".*\") is not", " is not").to_pylist()


def _check(files: Sequence[InputFile], run: _Run, rejected: pa.Table, outcome: Outcome) -> None:
    if not run.read:
        raise DataError(f"{', '.join(file.name for file in files)}: no rows in it; nothing was written")
    share = rejected.num_rows / run.read
    tolerated = max(run.config.max_unreadable_share * run.read, min(run.config.max_unreadable_rows, run.read - 1))
    if rejected.num_rows > tolerated:
        first = rejected.slice(0, 1).to_pylist()[0]
        raise DataError(
            f"{rejected.num_rows} of {run.read} rows ({share:.1%}) can't be read, allowed are "
            f"{run.config.max_unreadable_share:.1%}; the first: {first['file']} row {first['row']}: {first['reason']}"
        )
    told = outcome.added + outcome.updated + outcome.known + rejected.num_rows + run.erased
    if told != run.read:
        raise DataError(
            f"{run.read} rows were read and {told} are accounted for; nothing was written. Report this file"
        )
