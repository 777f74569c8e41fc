"""A file of records that is only appended to, so that it can be read however the process ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from dbp.errors import StorageError
from dbp.files import new_file, reading_from, writing_to
from dbp.plain_files import open_own

Records = Callable[[BinaryIO], Iterable[tuple[bytes, bool]]]


class AppendedFile:
    """A file to which records are appended, each by one call of the system.

    If the process is killed, all records but perhaps the last are whole; keep() removes a broken last one.

    Args:
        path: the file, created with its first record.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file, self._size = -1, 0

    def keep(self, records: Records) -> None:
        """Rewrite the file without the records that do not stay; do nothing if all do, or if there is no file.

        Args:
            records: yields the records of an open file, and whether each of them stays; a broken one must not.

        Raises:
            StorageError: the file cannot be read or written, or is a link.
        """
        self.close()
        if not self.path.exists():
            return
        with reading_from(self.path):
            file = os.fdopen(open_own(self.path, os.O_RDONLY), "rb")
        with file, reading_from(self.path):
            if all(stays for _, stays in records(file)):
                return
            file.seek(0)
            with new_file(self.path) as rest:
                rest.writelines(record for record, stays in records(file) if stays)

    def append(self, record: bytes) -> None:
        """Append a record; raise StorageError, and leave nothing of it, if that fails."""
        with writing_to(self.path):
            if self._file < 0:
                self.path.parent.mkdir(exist_ok=True)
                self._file = open_own(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                self._size = os.fstat(self._file).st_size
            written = 0
            try:
                written = os.write(self._file, record)
            finally:
                if written < len(record):
                    os.ftruncate(self._file, self._size)
        if written < len(record):
            raise StorageError(f"{self.path} cannot be written: {written} of {len(record)} bytes were")
        self._size += written

    def close(self) -> None:
        """Close the file, which append() opens again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
