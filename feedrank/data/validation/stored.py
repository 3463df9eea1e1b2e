"""The tables that a validation keeps, `clean` and `quarantine`: it replaces the days that changed.

Each commit says what stands for every day, so the next validation knows it without a file beside the table. A crash
between two commits leaves days that the next run writes again.
"""

import json
from collections.abc import Callable, Mapping, Set
from pathlib import Path

import pyarrow as pa

from feedrank import schema
from feedrank.data.validation.batch import NULLABLE
from feedrank.data.validation.record import day_date
from feedrank.delta import Layout, Note, Table, create_table, is_table, open_table

CLEAN, QUARANTINE = "clean", "quarantine"
REASON, DAY = "reason", "day"
CLEAN_LAYOUT = Layout(schema.INTERACTIONS, day_of=schema.TIMESTAMP)
QUARANTINE_LAYOUT = Layout(
    pa.schema([*NULLABLE, pa.field(REASON, pa.string()), pa.field(DAY, schema.TIMESTAMP_TYPE)]), day_of=DAY
)
"""`day` is the midnight that begins the day a row was judged with: a row without a timestamp has one, too."""
STANDING, SOURCE = "days", "interactions_version"
"""Keys of a commit's metadata: a JSON object of what stands for each day; the version of the table that was judged."""
NOTHING = ""
SEARCHED_COMMITS = 100
"""Compactions and erasures stand between two validations; behind so many, every day is written again."""

RowsOf = Callable[[Set[int]], pa.Table]
"""The rows of some days (since 1970-01-01)."""


def replace_changed_days(
    location: Path, rows_of: RowsOf, *, wanted: Mapping[int, str], layout: Layout, source: str
) -> None:
    """Writes the days whose wanted content isn't what stands, in one commit; the other days stay as they are.

    Args:
        location: of the table; a folder of an earlier release is replaced by one.
        rows_of: gives the rows to write.
        wanted: for each day, what its rows are made of; NOTHING for none.
        layout: the table's.
        source: the version of the interactions.
    """
    table, earlier_files = _opened(location, layout)
    standing = _standing(table)
    changed = {day for day, content in wanted.items() if standing.get(day, NOTHING) != content}
    if changed:
        metadata = {STANDING: json.dumps(standing | dict(wanted)), SOURCE: source}
        rows, note = rows_of(changed), Note(metadata)
        if table.rows:
            days = [day_date(day) for day in sorted(changed)]
            table.replace_days(rows, days=days, layout=layout, note=note)
        else:
            table.append(rows, layout=layout, note=note)
    for file in earlier_files:
        file.unlink()


def _opened(location: Path, layout: Layout) -> tuple[Table, list[Path]]:
    """The table, made if need be, and the files of an earlier release that it replaces."""
    if is_table(location):
        return open_table(location), []
    earlier_files = sorted(location.rglob("*.parquet"))
    return create_table(location, layout=layout), earlier_files


def _standing(table: Table) -> dict[int, str]:
    for commit in table.history(limit=SEARCHED_COMMITS):
        if STANDING in commit.metadata:
            return {int(day): content for day, content in json.loads(commit.metadata[STANDING]).items()}
    return {}
