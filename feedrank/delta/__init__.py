"""Delta tables: what lives long, at a local path or an s3:// address, partitioned by the UTC day of a time.

The only package that imports `deltalake`, and only where a table is used: the predictor's process never does.
"""

from feedrank.delta.erasing import Purged, Rows, commits, erase_rows, files_with, readable
from feedrank.delta.files import DataFile, data_files, write_files
from feedrank.delta.layout import NOTHING, Commit, DayFiles, Layout, Merged, Note
from feedrank.delta.snapshot import Snapshot, text
from feedrank.delta.store import Location, errors, file_system, is_local
from feedrank.delta.table import Table, convert, create_table, in_days, is_table, open_table

__all__ = [
    "NOTHING",
    "Commit",
    "DataFile",
    "DayFiles",
    "Layout",
    "Location",
    "Merged",
    "Note",
    "Purged",
    "Rows",
    "Snapshot",
    "Table",
    "commits",
    "convert",
    "create_table",
    "data_files",
    "erase_rows",
    "errors",
    "file_system",
    "files_with",
    "in_days",
    "is_local",
    "is_table",
    "open_table",
    "readable",
    "text",
    "write_files",
]
