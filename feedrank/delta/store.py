"""Where tables lie: a local folder or an object store, how it is asked, and what its errors mean."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.fs as pafs

from feedrank.errors import DataError, FeedrankError, StorageError

if TYPE_CHECKING:
    from deltalake import DeltaTable

Location = str | Path
"""A local folder, or an address such as s3://bucket/prefix."""

READABLE_FEATURES = frozenset({"timestampNtz"})
"""Features of a table that this release reads; another one says that the files need what it doesn't do."""
STORE_OPTIONS = {
    "aws_conditional_put": "etag",
    "connect_timeout": "5s",
    "timeout": "60s",
    "max_retries": "4",
    "retry_timeout": "60s",
}
"""An object store that doesn't answer is an error after about a minute, never a hang."""


def is_local(location: Location) -> bool:
    """Whether it is a folder of a file system."""
    return "://" not in str(location)


def options(location: Location) -> dict[str, str] | None:
    """For an object store: what the environment doesn't say. Credentials, region and endpoint are the environment's."""
    if is_local(location):
        return None
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    return STORE_OPTIONS | ({"aws_allow_http": "true"} if endpoint.startswith("http://") else {})


def file_system(location: Location) -> pafs.SubTreeFileSystem:
    """The table's folder as Arrow's file system, of which paths are relative to the table."""
    address = Path(location).absolute().as_uri() if is_local(location) else str(location)
    store, path = pafs.FileSystem.from_uri(address)
    return pafs.SubTreeFileSystem(path, store)


def handle_of(location: Location, version: int | None = None) -> "DeltaTable":
    """The newest snapshot in deltalake's terms, or that of a version.

    Raises:
        DataError: there is no table, no such version, or the table needs features that this release doesn't know.
        StorageError: the store doesn't answer.
    """
    from deltalake import DeltaTable

    with errors(location, version):
        handle = DeltaTable(str(location), version=version, storage_options=options(location))
        unknown = {*(handle.protocol().reader_features or ())} - READABLE_FEATURES
    if unknown:
        raise DataError(_newer(location, f"it uses {', '.join(sorted(unknown))}"))
    return handle


@contextlib.contextmanager
def errors(location: Location, version: int | None = None) -> Iterator[None]:
    """Turns what deltalake and Arrow raise into errors that a person understands."""
    from deltalake.exceptions import (
        DeltaError,
        DeltaProtocolError,
        SchemaMismatchError,
        TableNotFoundError,
    )

    try:
        yield
    except TableNotFoundError as error:
        raise DataError(f"{location}: there is no table; run the step that writes it, or give another path") from error
    except SchemaMismatchError as error:
        raise DataError(f"{location}: the rows don't have the table's columns ({_first(error)})") from error
    except DeltaProtocolError as error:
        raise DataError(_newer(location, _first(error))) from error
    except DeltaError as error:
        raise _explained(location, version, error) from error
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        snapshot = "" if version is None else f", version {version},"
        raise DataError(
            f"{location}{snapshot} can't be read ({_first(error)}); a file of it is damaged or gone (a vacuum takes "
            "those of earlier versions, an erasure those with rows of the erased user: take a later one)"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise  # as from any other file
        raise StorageError(f"{location}: {_first(error)}; check the store, then try again") from error


def is_conflict(error: Exception) -> bool:
    """Whether a commit failed by another one, not by what the table asks for."""
    return not _is_unsupported(str(error))


def _is_unsupported(text: str) -> bool:
    return "Unsupported" in text or "not supported" in text


def _newer(location: Location, what: object) -> str:
    return f"{location}: the table needs a newer release ({what}); take one that knows it, or write the table anew"


def _first(error: BaseException) -> str:
    return " ".join(re.sub("\\x1b\\[[0-9;]*m", "", str(error)).split())[:300]


def _explained(location: Location, version: int | None, error: Exception) -> FeedrankError:
    from deltalake.exceptions import CommitFailedError

    text = _first(error)
    if _is_unsupported(text):
        return DataError(_newer(location, text))
    if isinstance(error, CommitFailedError):
        return StorageError(f"{location}: another run wrote the same rows meanwhile ({text}); try again")
    if version is not None and "version" in text.lower():
        return DataError(f"{location}: there is no version {version} of the table any more, or yet ({text})")
    return StorageError(f"{location}: {text}; check the store, then try again")
