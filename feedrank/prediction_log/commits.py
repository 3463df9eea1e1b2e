"""From closed spool files to the log: the rows of several files of one predictor process in one commit.

The commit notes the number of its last file, so that a crash between the commit and the deletion of the files repeats
nothing. A file that was kept aside and came back has a number that was committed: only its rows that are not in the
log are added.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from feedrank import delta, schema
from feedrank.erasure.refused import Door
from feedrank.prediction_log import spool
from feedrank.prediction_log.rows import log_rows
from feedrank.prediction_log.spool_files import read_file
from feedrank.prediction_log.table import create_log, layout_of, open_log


@dataclass
class Written:
    """What became of some spool files."""

    rows: int = 0
    """That need the spool no more: they are in the log, or refused."""
    refused: int = 0
    """Of users who were erased."""
    damaged: dict[Path, str] = field(default_factory=dict)
    """What can't be read of which file."""


def in_commits(files: Sequence[Path], *, max_bytes: int) -> Iterator[list[Path]]:
    """The files in order, in groups of at most so many bytes; a larger file is a group of its own."""
    group: list[Path] = []
    size = 0
    for file in files:
        bytes_ = file.stat().st_size
        if group and size + bytes_ > max_bytes:
            yield group
            group, size = [], 0
        group.append(file)
        size += bytes_
    if group:
        yield group


def write(files: Sequence[Path], location: delta.Location) -> Written:
    """Adds the rows of files of one process to the log and deletes the files; damaged ones are kept aside.

    The rows of erased users are refused, by the list in the folder of the log.

    Raises:
        FeedrankError, OSError: nothing was added, or all of it and the files are still there; call it again.
    """
    boot, written, refused = files[0].parent.name, Written(), Door(location).read()
    done = open_log(location).transaction(boot) if delta.is_table(location) else None
    known: list[pa.Table] = []
    fresh: list[pa.Table] = []
    for file in files:
        table = _rows_of(file, boot=boot, damaged=written.damaged)
        if table is None:
            continue
        erased = refused.rows(table[schema.USER_ID])
        written.refused += int(erased.sum())
        kept = table.filter(pa.array(~erased)) if erased.any() else table
        (known if done is not None and _number(file) <= done else fresh).append(kept)
    late, new = _together(known), _together(fresh)
    if late is not None and (late := _not_logged(late, open_log(location))).num_rows:
        create_log(location, late.schema).append(late, layout=layout_of(late.schema))
    if new is not None:
        note = delta.Note(transaction=(boot, _number(files[-1])))
        create_log(location, new.schema).append(new, layout=layout_of(new.schema), note=note)
    for file in files:
        if file in written.damaged:
            file.rename(file.with_suffix(spool.DAMAGED_SUFFIX))
        else:
            file.unlink(missing_ok=True)
    written.rows = sum(rows.num_rows for rows in (late, new) if rows is not None) + written.refused
    return written


def _number(file: Path) -> int:
    return int(file.stem)


def _together(tables: list[pa.Table]) -> pa.Table | None:
    """The rows of some files, perhaps of several models with other features; None if there is none."""
    return pa.concat_tables(tables, promote_options="permissive") if sum(map(len, tables)) else None


def _rows_of(file: Path, *, boot: str, damaged: dict[Path, str]) -> pa.Table | None:
    contents = read_file(file)
    if contents.damage is not None:
        damaged[file] = contents.damage
    if contents.batches:
        try:
            return log_rows(pa.Table.from_batches(contents.batches), boot=boot)
        except (pa.ArrowException, ValueError, KeyError, IndexError) as error:  # whole messages with wrong content
            damaged[file] = f"{file}: {type(error).__name__}: {error}"
    return None


def _not_logged(rows: pa.Table, log: delta.Table) -> pa.Table:
    span = pc.min_max(rows[schema.RECEIVED_AT])
    first, last = span["min"], span["max"]
    arrived = pc.field(schema.RECEIVED_AT)
    logged = log.read(
        columns=[schema.PREDICTION_ID],
        start=first.as_py().date(),
        end=last.as_py().date(),
        where=(arrived >= first) & (arrived <= last),
    )[schema.PREDICTION_ID].cast(pa.string())
    return rows.filter(pc.invert(pc.is_in(rows[schema.PREDICTION_ID], value_set=logged)))
