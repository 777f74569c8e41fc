"""Rows of a column that wait until all of them are known."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dbp.convert.content import ColumnShape
from dbp.files import writing_to
from dbp.types import Array


class Spool:
    """The rows of a column in a nameless file, in the folder of the file to write, as that has the room.

    All methods raise StorageError if the disk does not take them.

    Args:
        path: the file to write in the end.
        files: closes the nameless file.
    """

    def __init__(self, path: Path, files: ExitStack):
        self._path = path
        with writing_to(path):
            self._file = files.enter_context(tempfile.TemporaryFile(dir=path.parent))  # noqa: SIM115
        self._first: Array | None = None  # no rows, but the shape and type of those that follow
        self._count = 0

    @property
    def is_empty(self) -> bool:
        """Return True if nothing was added yet."""
        return self._first is None

    @property
    def shape(self) -> ColumnShape:
        """Return shape and type of the rows so far."""
        assert self._first is not None
        return ColumnShape((self._count, *self._first.shape[1:]), self._first.dtype)

    def append(self, values: Array) -> None:
        """Add rows."""
        self._first = values[:0] if self._first is None else self._first
        with writing_to(self._path):
            self._file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        self._count += len(values)

    def blocks(self, rows: int) -> Iterator[Array]:
        """Yield all rows, so many at a time."""
        with writing_to(self._path):
            self._file.seek(0)
        shape, dtype = self.shape
        for start in range(0, self._count, rows):
            values = np.empty((min(rows, self._count - start), *shape[1:]), dtype)
            with writing_to(self._path):
                self._file.readinto(values.reshape(-1).view(np.uint8).data)
            yield values
