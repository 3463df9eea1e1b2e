"""The rows that could not be cast: a Delta table in the folder of the interactions, which their readers don't see."""

from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feedrank import delta, schema

FOLDER = "_quarantine"
SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("record", pa.string()),
    ]
)
"""`row` counts from 1 after the header. `record` is JSON, or the line where it couldn't be parsed."""
INGESTED_AT = "ingested_at"
LAYOUT = delta.Layout(SCHEMA.append(pa.field(INGESTED_AT, schema.TIMESTAMP_TYPE, nullable=False)), day_of=INGESTED_AT)


def place(interactions: delta.Location) -> str:
    """Of the quarantine of a table of interactions."""
    return f"{str(interactions).rstrip('/')}/{FOLDER}"


def add(rejected: pa.Table, interactions: delta.Location) -> None:
    """Adds the rows (`SCHEMA`) that are not there yet."""
    if not rejected.num_rows:
        return
    table = delta.create_table(place(interactions), layout=LAYOUT)
    files = pc.unique(rejected["file"])
    known = table.read(columns=SCHEMA.names, where=delta.text("file").isin(files)).to_pandas()
    both = pd.concat([known, rejected.to_pandas()], ignore_index=True)
    fresh = both[~both.duplicated() & (both.index >= len(known))]
    if len(fresh):
        rows = pa.Table.from_pandas(fresh, schema=SCHEMA, preserve_index=False)
        times = pa.repeat(pa.scalar(datetime.now(UTC), schema.TIMESTAMP_TYPE), len(rows))
        table.append(rows.append_column(LAYOUT.columns.field(INGESTED_AT), times), layout=LAYOUT)
