"""Data sets in files whose columns are mapped into memory, or read in chunks, without importing HDF5."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dbp.data.bus_error import bus_errors
from dbp.data.columns import Column, HeldColumn, HeldLocation, MissingColumn, MissingLocation, RowReader
from dbp.data.dataset import Examples, Rows, first_inputs, input_shapes, role_of
from dbp.data.file_names import data_path
from dbp.data.meaning import Meaning
from dbp.data.open_file import OpenFile, rows_text, runs
from dbp.data.ragged import MaskColumn, Ragged, RaggedLocation, with_masks
from dbp.types import Array, Shapes

if TYPE_CHECKING:
    from dbp.data.chunks import ChunkTable
    from dbp.data.parts import Parts
    from dbp.data.row_names import JoinedRowNames, RowNames

    Location = Column | ChunkTable | Parts | RaggedLocation | MissingLocation | HeldLocation

LARGE_PART = 8  # a column is large if its share of the bytes of an example is at least one in so many
LARGE_ROW_BYTES = 1 << 16  # from this size on, plain reads of rows cost no more than a map


class FileLayout(NamedTuple):
    """The locations of the columns of a data set, by name."""

    size: int  # of the file, in bytes, by which another file of that name is recognized
    columns: Mapping[str, Location]
    meaning: Meaning
    row_names: RowNames | None = None

    def fits(self, path: Path) -> bool:
        """Return True if this process finds the files that rows lie in, of the same sizes, and can read them."""
        others = [part for column in self.columns.values() for part in getattr(column, "parts", ())]
        is_readable = all(getattr(column, "can_be_read", True) for column in self.columns.values())
        is_there = path.is_file() and path.stat().st_size == self.size
        return is_there and is_readable and all(part.fits() for part in others)


class FileDataset:
    """Examples in a file.

    Args:
        name: name for messages.
        columns: its columns, by name.
        meaning: kinds, scale and names.
        warnings: what the user should know of the data before they are used.
    """

    layout: FileLayout | None = None  # by which other processes open the file without HDF5, if they can
    row_names: RowNames | JoinedRowNames | None = None  # of the files that the examples come from

    def __init__(self, name: str, columns: Mapping[str, RowReader], meaning: Meaning, warnings: Sequence[str] = ()):
        self.name, self.columns, self.meaning, self.warnings = name, columns, meaning, warnings
        inputs = first_inputs(columns)
        self.scale = meaning[inputs].scale
        self.input_shape: Shapes = input_shapes(columns)

    def __len__(self) -> int:
        return next(iter(self.columns.values())).shape[0]

    def paths(self) -> list[Path]:
        """Return its files."""
        return [data_path(self.name)]

    @property
    def borders(self) -> Array | None:
        """Return the first row of each unit of rows that are read together, and the number of rows; None for one unit.

        The units are those of the large column with the most bytes per row that has some.
        """
        sizes = {name: _row_bytes(column) for name, column in self.columns.items()}
        large = [name for name, size in sizes.items() if LARGE_PART * size >= sum(sizes.values())]
        in_order = sorted(large, key=lambda name: sizes[name], reverse=True)
        found = (self.columns[name].borders for name in in_order)
        return next((borders for borders in found if borders is not None), None)

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a row of all columns, on average."""
        return int(sum(map(_row_bytes, self.columns.values())))

    def example_form(self) -> Examples:
        """Return an example of the shapes and types of the first one, of zeros."""
        first = slice(0, 1)
        found = {
            name: column.zeros(first) if isinstance(column, Ragged) else np.zeros((1, *column.shape[1:]), column.dtype)
            for name, column in self.columns.items()
        }
        return Examples(with_masks(self.columns, found, first))

    def read(self, rows: Rows) -> Examples:
        """Read rows as they are stored; raise DataError, naming file and rows, if they cannot be read."""
        found = {name: column.read(rows) for name, column in self.columns.items()}
        return Examples(with_masks(self.columns, found, rows))

    def read_into(self, rows: range, into: Mapping[str, Array]) -> None:
        """Read consecutive rows into contiguous arrays, by column; other threads may read meanwhile.

        Those of equal length have the shape of their rows; of others all values lie one after the other.
        """
        for name, column in self.columns.items():
            column.read_into(rows, into[name])


def _row_bytes(column: RowReader) -> float:
    """Return the bytes of a row, on average if rows have unequal lengths."""
    if isinstance(column, Ragged):
        return column.value_bytes * int(column.offsets[-1]) / len(column)
    return column.dtype.itemsize * math.prod(column.shape[1:], start=1)


def mapped(name: str, layout: FileLayout) -> FileDataset:
    """Map the data set of that name, whose layout another process has found."""
    data = FileDataset(name, open_columns(data_path(name), layout.columns), layout.meaning)
    data.row_names = layout.row_names
    return data


def open_columns(path: Path, columns: Mapping[str, Location]) -> dict[str, RowReader]:
    """Return readers of columns of a file by name, which share one open file."""
    file = OpenFile(path)
    return {name: as_boolean(name, reader_of(file, name, location), str(path)) for name, location in columns.items()}


def as_boolean(name: str, column: RowReader, file: str) -> RowReader:
    """Return a column of booleans for one that is a mask, and any other as it is."""
    return MaskColumn(column, file) if role_of(name) == "mask" else column


def reader_of(file: OpenFile, name: str, location: Location) -> RowReader:
    """Return the reader of a column of an open file."""
    if isinstance(location, RaggedLocation):
        return Ragged(reader_of(file, name, location.values), location.offsets, name)
    if isinstance(location, MissingLocation):
        return MissingColumn(reader_of(file, name, location.values), location.missing)
    if isinstance(location, HeldLocation):
        return HeldColumn(location.values)
    if isinstance(location, Column):
        return MappedColumn(file, name, location)
    from dbp.data import chunked, parts  # which other data do not need

    if isinstance(location, parts.Parts):
        return parts.PartedColumn(name, location, reader_of)
    return chunked.ChunkedColumn(file, name, location)


class MappedColumn:
    """A contiguous column of a file.

    Small rows are taken from a map of the column, in which random rows cost a hundredth of a read by HDF5, and all
    ranks of a node share the pages. Large rows, and consecutive ones, are read into memory of their own, which costs no
    more, and which alone is then the process's memory.
    """

    def __init__(self, file: OpenFile, name: str, column: Column):
        self._file, self._name, self._column = file, name, column
        self.shape, self.dtype = column.shape, column.dtype
        self.borders: Array | None = None  # all rows lie in one piece
        self._end = column.end
        file.check_end(self._end, name)
        self._is_lost = False  # True if a bus error has put zeros in place of the map
        self._map: Array | None = None
        if 0 < column.row_bytes < LARGE_ROW_BYTES and column.shape[0]:
            self._map = self._mapped(column)

    def _mapped(self, column: Column) -> Array | None:
        """Return the map of the column; None if the system does not map it, so that its rows are read."""
        start = column.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        try:
            bus_errors.install()
            mapped = mmap.mmap(self._file.descriptor, self._end - start, access=mmap.ACCESS_READ, offset=start)
        except (OSError, ValueError):
            return None
        self._pages = np.frombuffer(mapped, np.uint8).ctypes.data, self._end - start
        return np.ndarray(column.shape, column.dtype, mapped, column.offset - start)

    def read(self, rows: Rows) -> Array:
        """Read rows as they are stored; raise DataError, naming file and rows, if they cannot be read."""
        if isinstance(rows, slice):
            first, stop, _ = rows.indices(self.shape[0])
            return self._read_runs(np.arange(first, stop))
        return self._read_runs(rows) if self._map is None else self._take(self._map, rows)

    def _take(self, values: Array, rows: Array) -> Array:
        bus_errors.reading = self._pages
        try:
            taken: Array = values[rows]
        finally:
            bus_errors.reading = None
        if bus_errors.caught:
            bus_errors.caught, self._is_lost = False, True
        self._file.check_end(self._end, self._name)  # behind the end of a file, the last page of a map has zeros
        if self._is_lost:
            raise self._file.error(f"{self._name} of {rows_text(rows)}", "the system could not load its pages")
        return taken

    def read_into(self, rows: range, into: Array) -> None:
        """Read consecutive rows into a contiguous array of their shape and type; other threads may read meanwhile."""
        target = into.reshape(-1).view(np.uint8).data
        self._file.read_at(self._column.offset + rows.start * self._column.row_bytes, target, self._name, rows)

    def _read_runs(self, rows: Array) -> Array:
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        into = values.reshape(-1).view(np.uint8).data
        size = self._column.row_bytes
        for first, at, count in runs(rows) if values.size else ():
            target = into[at * size : (at + count) * size]
            self._file.read_at(self._column.offset + first * size, target, self._name, range(first, first + count))
        return values
