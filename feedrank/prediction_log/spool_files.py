"""Reads spool files, whole or not.

Such a file is a row of Arrow messages, and a closed one ends with Arrow's end mark. A crash leaves the last message
incomplete, which is no damage. Anything else that can't be read is: then what follows it is looked for and read, too.
"""

import errno
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

END_MARK = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_START = END_MARK[:4]
_MAX_METADATA_BYTES = 1_048_576
DISK_ERRORS = (errno.EIO, errno.EBADMSG, errno.EUCLEAN)
"""The medium's; any other may pass, and the file is tried again."""


@dataclass
class Contents:
    """What a spool file holds."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    damage: str | None = None
    """Where something is missing that a crash doesn't explain."""


def read_file(path: Path) -> Contents:
    """All whole batches of a file.

    Raises:
        OSError: it can't be opened or read now, for a reason that may pass.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        return Contents(damage=f"{path}: {error.strerror}")
    contents, schema, place = Contents(), pa.schema([]), 0
    while place < len(data) and data[place:] != END_MARK:
        try:
            message, after = _message_at(data, place)
            if message.type == "schema":
                schema = pa.ipc.read_schema(message)
            else:
                batch = pa.ipc.read_record_batch(message, schema)
                batch.validate(full=True)
                contents.batches.append(batch)
            place = after
        except (pa.ArrowException, OSError, EOFError, ValueError) as error:
            following = _next_message(data, place + 1)
            if following is not None or data.endswith(END_MARK):
                contents.damage = contents.damage or f"{path}: at byte {place}: {error}"
            if following is None:
                break
            place = following
    return contents


def _message_at(data: bytes, place: int) -> tuple[pa.Message, int]:
    source = pa.BufferReader(pa.py_buffer(data).slice(place))
    message = pa.ipc.read_message(source)
    return message, place + source.tell()


def _next_message(data: bytes, place: int) -> int | None:
    """Where the next whole message begins."""
    while (place := data.find(_START, place)) >= 0 and place + 8 <= len(data):
        (size,) = struct.unpack_from("<i", data, place + 4)
        if 0 < size <= min(_MAX_METADATA_BYTES, len(data) - place - 8):
            try:
                _message_at(data, place)
            except (pa.ArrowException, OSError, EOFError):
                pass
            else:
                return place
        place += 1
    return None
