"""A column whose rows lie in other files: behind a link, or as the sources of a virtual data set."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dbp.data.chunks import ChunkTable
from dbp.data.columns import Column, RowReader
from dbp.data.dataset import Rows
from dbp.data.open_file import OpenFile
from dbp.types import Array

MOST_OPEN = 64  # parts of a column, which each have an open file
PIECE_BYTES = 1 << 20  # of a unit in a part whose rows lie in one piece, if other parts lie in chunks


class Part(NamedTuple):
    """Rows of a column in a file.

    Args:
        path: of the file.
        size: of the file, in bytes, by which another file of that name is recognized.
        location: where the column of that file lies.
        first: the first of its rows that belong here.
        stop: the row behind the last of them.
    """

    path: Path
    size: int
    location: Column | ChunkTable
    first: int
    stop: int

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return self.stop - self.first

    def fits(self) -> bool:
        """Return True if this process finds the file, of the same size, and can read it."""
        return (
            getattr(self.location, "can_be_read", True)
            and self.path.is_file()
            and self.path.stat().st_size == self.size
        )

    def borders(self, piece_rows: int) -> Array:
        """Return the first row of each unit, counted from the first row of the part; the units of one piece are cut."""
        if isinstance(self.location, Column):
            return np.arange(0, self.rows, piece_rows)
        inside = self.location.borders - self.first
        return np.append(0, inside[(inside > 0) & (inside < self.rows)])


class Parts(NamedTuple):
    """The type and shape of a column, and the parts that its rows lie in, one after the other."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    parts: tuple[Part, ...]


Opener = Callable[[OpenFile, str, Column | ChunkTable], RowReader]


class PartedColumn:
    """A column in parts, of which those that were used last are open. Several threads may read it at the same time.

    Args:
        name: of the column, for messages.
        layout: its parts.
        opener: returns the reader of a column, given its open file, its name for messages and its location.
    """

    def __init__(self, name: str, layout: Parts, opener: Opener):
        self._opener = opener
        self._name, self._parts, self.dtype, self.shape = name, layout.parts, layout.dtype, layout.shape
        self._starts = np.cumsum([0, *(part.rows for part in layout.parts)])
        self._open: OrderedDict[int, RowReader] = OrderedDict()  # the part used last at the end
        self._lock = threading.Lock()
        self.borders = self._borders()
        for number in range(min(len(self._parts), MOST_OPEN)):
            self._reader(number)

    def _borders(self) -> Array | None:
        if all(isinstance(part.location, Column) for part in self._parts):
            return None
        row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=int))
        piece_rows = max(1, PIECE_BYTES // max(1, row_bytes))
        units = [start + part.borders(piece_rows) for start, part in zip(self._starts, self._parts, strict=False)]
        return np.append(np.concatenate(units), self.shape[0])

    def read(self, rows: Rows) -> Array:
        """Read rows as they are stored; raise DataError, naming file and rows, if they cannot be read."""
        chosen = np.arange(*rows.indices(self.shape[0])) if isinstance(rows, slice) else np.asarray(rows)
        values = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        numbers = np.searchsorted(self._starts, chosen, side="right") - 1
        for number in np.flatnonzero(np.bincount(numbers)).tolist():
            inside = np.flatnonzero(numbers == number)
            own = chosen[inside] - self._starts[number] + self._parts[number].first
            is_run = isinstance(rows, slice) and len(own) > 0
            values[inside] = self._reader(number).read(slice(int(own[0]), int(own[-1]) + 1) if is_run else own)
        return values

    def read_into(self, rows: range, into: Array) -> None:
        """Read consecutive rows into a contiguous array of their shape and type; other threads may read meanwhile."""
        number = int(np.searchsorted(self._starts, rows.start, side="right")) - 1
        if rows.stop > self._starts[number + 1]:
            into[...] = self.read(slice(rows.start, rows.stop))
            return
        shift = self._parts[number].first - int(self._starts[number])
        self._reader(number).read_into(range(rows.start + shift, rows.stop + shift), into)

    def _reader(self, number: int) -> RowReader:
        """Return the reader of a part, opened now or before."""
        with self._lock:
            if number not in self._open:
                while len(self._open) >= MOST_OPEN:
                    self._open.popitem(last=False)
                part = self._parts[number]
                self._open[number] = self._opener(OpenFile(part.path), self._name, part.location)
            self._open.move_to_end(number)
            return self._open[number]
