"""A file of data that is open for reading, and row numbers: their runs, and their text in messages."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dbp.errors import DataError
from dbp.files import reading_from
from dbp.types import Array


class OpenFile:
    """A file that is open for reading as long as this object lives."""

    def __init__(self, path: Path):
        self.path = path
        with reading_from(f"data file {path}"):
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)

    def check_end(self, end: int, what: str) -> None:
        """Raise DataError if the file has become so short that a column ends behind it."""
        if (size := os.lseek(self.descriptor, 0, os.SEEK_END)) < end:  # a third of the time of fstat
            raise self.error(what, f"the file was cut off to {size:,} bytes, of which {end:,} are needed")

    def read_at(self, offset: int, into: memoryview, name: str, rows: range) -> None:
        """Read bytes at a position; raise DataError, naming the column and the rows, if they cannot be read."""
        done = 0
        while done < len(into):
            try:
                got = os.preadv(self.descriptor, [into[done:]], offset + done)
            except OSError as error:
                raise self.error(f"{name} of {rows_text(rows)}", error.strerror) from None
            if not got:
                self.check_end(offset + len(into), f"{name} of {rows_text(rows)}")
            done += got

    def error(self, what: str, reason: str | None) -> DataError:
        """Return the error for something in the file that cannot be read."""
        return DataError(f"data file {self.path}: {what} cannot be read: {reason}; restore the file and start again")


def runs(rows: Array) -> Iterator[tuple[int, int, int]]:
    """Yield the runs of consecutive row numbers: the first row, its position among the rows, and their count."""
    borders = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    for at, end in itertools.pairwise(borders):
        if at < end:
            yield int(rows[at]), at, end - at


def rows_text(rows: Sequence[int] | Array) -> str:
    """Return which examples rows are, in words."""
    if len(rows) == 1:
        return f"example {rows[0]}"
    first, last = (rows[0], rows[-1]) if isinstance(rows, range) else (min(rows), max(rows))
    return f"{len(rows):,} examples from {first} to {last}"
