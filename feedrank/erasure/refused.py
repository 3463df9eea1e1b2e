"""The list of erased ids at a door: a file by which ingestion and the log's compactor refuse their later rows.

An erased id stays refused; a person who comes back needs a new one. The list holds salted hashes: it tells whether
an id that is at the door was erased, and names nobody.
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from pydantic import BaseModel, ConfigDict, ValidationError

from feedrank import storage
from feedrank.delta.store import Location, errors, file_system, is_local
from feedrank.erasure.person import Mask, numbers_of, words_of
from feedrank.errors import DataError

FILE = "_erased.json"
"""Beside the data of a table, which takes no file of that name for its own."""


class Refused(BaseModel):
    """The file's content."""

    model_config = ConfigDict(frozen=True)

    salt: str = ""
    users: frozenset[str] = frozenset()

    def has(self, number: int) -> bool:
        """Whether the id was erased."""
        return self._hash(number) in self.users

    def rows(self, users: pa.Array | pa.ChunkedArray) -> Mask:
        """Which of a column of ids were erased, [rows]; a null was not."""
        if not self.users:
            return np.zeros(len(users), dtype=bool)
        refused = [number for number in pc.unique(users).to_pylist() if number is not None and self.has(number)]
        found = pc.is_in(users, value_set=pa.array(refused, pa.int64()))
        return np.asarray(found.to_numpy() if isinstance(found, pa.ChunkedArray) else found.to_numpy(False), bool)

    def records(self, records: pa.ChunkedArray) -> Mask:
        """Which raw records have an erased id as any of their values, [rows]: rather too many than one too few."""
        if not self.users:
            return np.zeros(len(records), dtype=bool)
        return np.array([self._names(record) for record in records.to_pylist()], dtype=bool)

    def _names(self, record: str) -> bool:
        return any(self.has(number) for word in words_of(record) for number in numbers_of(word))

    def with_users(self, numbers: Iterable[int]) -> "Refused":
        """The list with more of them."""
        salted = self if self.salt else Refused(salt=secrets.token_hex(16))
        return Refused(salt=salted.salt, users=self.users | {salted._hash(number) for number in numbers})

    def _hash(self, number: int) -> str:
        key = bytes.fromhex(self.salt)
        return hashlib.blake2b(number.to_bytes(8, "little", signed=True), key=key, digest_size=16).hexdigest()


NOBODY = Refused()


@dataclass(frozen=True)
class Door:
    """Where a list lies: in a folder, or in that of a table at a path or an s3:// address."""

    folder: Location
    name: str = FILE

    @staticmethod
    def at(file: Path) -> "Door":
        """A list at a path of its own."""
        return Door(file.parent, file.name)

    def read(self) -> Refused:
        """The list; NOBODY where none is.

        Raises:
            DataError: it can't be read, so nobody may be let in.
            StorageError: the store doesn't answer.
        """
        with errors(self.folder):
            try:
                with file_system(self.folder).open_input_stream(self.name) as stream:
                    text = stream.read()
            except FileNotFoundError:
                return NOBODY
        try:
            return Refused.model_validate_json(text)
        except ValidationError as error:
            raise DataError(
                f"{self.folder}/{self.name}: the list of erased users can't be read ({error.errors()[0]['msg']}); "
                "restore it, or remove it and erase them again"
            ) from error

    def refuse(self, numbers: Iterable[int]) -> None:
        """Adds ids to the list, all or nothing; on disk when it returns."""
        known = self.read()
        wanted = known.with_users(numbers)
        if wanted.users == known.users:
            return
        text = wanted.model_dump_json()
        if is_local(self.folder):
            storage.write_text(Path(self.folder) / self.name, text)
            return
        with errors(self.folder):
            files: pafs.SubTreeFileSystem = file_system(self.folder)
            with files.open_output_stream(self.name) as stream:
                stream.write(text.encode())
