"""Data sets in files whose columns are mapped into memory, so that HDF5 need not be imported to read them."""

from __future__ import annotations

import itertools
import math
import mmap
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from dbp.data.bus_error import bus_errors
from dbp.data.dataset import Examples, Rows, first_inputs
from dbp.data.meaning import Meaning
from dbp.errors import DataError, unknown
from dbp.files import reading_from
from dbp.types import Array

PACKAGED = "dbp:"
LARGE_ROW_BYTES = 1 << 16  # from this size on, plain reads of rows cost no more than a map


def packaged_names() -> list[str]:
    """Return the names of the data sets that come with dbp."""
    return [PACKAGED + path.stem for path in Path(__file__).parent.glob("*.h5")]


def data_path(name: str) -> Path:
    """Return the file of a data set, given a path or the name of one that comes with dbp ("dbp:digits-train")."""
    if not name.startswith(PACKAGED):
        return Path(name)
    if name not in packaged_names():
        raise unknown("packaged data set", name, packaged_names())
    return Path(__file__).parent / (name.removeprefix(PACKAGED) + ".h5")


class Column(NamedTuple):
    """The type, shape and position of a contiguous column of a file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int  # in bytes

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def end(self) -> int:
        """Return the position of the first byte after the column."""
        return self.offset + self.shape[0] * self.row_bytes


class FileLayout(NamedTuple):
    """The positions of the columns of a data set, by name."""

    size: int  # of the file, in bytes, by which another file of that name is recognized
    columns: dict[str, Column]
    meaning: Meaning

    def fits(self, path: Path) -> bool:
        """Return True if the file exists for this process and has the same size."""
        return path.is_file() and path.stat().st_size == self.size


class RowReader(Protocol):
    """A column of a data set in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return its shape; rows come first."""
        ...

    def read(self, rows: Rows) -> Array:
        """Read rows as they are stored; raise DataError, naming file and rows, if they cannot be read."""
        ...


class FileDataset:
    """Examples in a file.

    Args:
        name: name for messages.
        columns: its columns, by name.
        meaning: kinds, scale and names.
        warnings: what the user should know of the data before they are used.
    """

    def __init__(self, name: str, columns: Mapping[str, RowReader], meaning: Meaning, warnings: Sequence[str] = ()):
        self.name, self._columns, self.meaning, self.warnings = name, columns, meaning, warnings
        inputs = first_inputs(columns)
        self.scale = meaning[inputs].scale
        self.input_shape: tuple[int, ...] = columns[inputs].shape[1:]

    def __len__(self) -> int:
        return next(iter(self._columns.values())).shape[0]

    def read(self, rows: Rows) -> Examples:
        """Read rows as they are stored; raise DataError, naming file and rows, if they cannot be read."""
        return Examples({name: column.read(rows) for name, column in self._columns.items()})


def mapped(name: str, layout: FileLayout) -> FileDataset:
    """Map the data set of that name, whose layout another process has found."""
    return FileDataset(name, map_columns(data_path(name), layout.columns), layout.meaning)


def map_columns(path: Path, columns: Mapping[str, Column]) -> dict[str, MappedColumn]:
    """Return readers of columns of a file by name, which share one open file."""
    file = OpenFile(path)
    return {name: MappedColumn(file, name, column) for name, column in columns.items()}


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

    def error(self, what: str, reason: str | None) -> DataError:
        """Return the error for something in the file that cannot be read."""
        return DataError(f"data file {self.path}: {what} cannot be read: {reason}; restore the file and start again")


class MappedColumn:
    """A contiguous column of a file.

    Small rows are taken from a map of the column, in which random rows cost a hundredth of a read by HDF5, and all
    ranks of a node share the pages. Large rows, and consecutive ones, are read into memory of their own, which costs no
    more, and which alone is then the process's memory.
    """

    def __init__(self, file: OpenFile, name: str, column: Column):
        self._file, self._name, self._column = file, name, column
        self.shape, self.dtype = column.shape, column.dtype
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

    def _read_runs(self, rows: Array) -> Array:
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        into = values.reshape(-1).view(np.uint8).data
        size = self._column.row_bytes
        for first, at, count in runs(rows) if values.size else ():
            self._read_bytes(into[at * size : (at + count) * size], self._column.offset + first * size, first, count)
        return values

    def _read_bytes(self, into: memoryview, offset: int, first: int, count: int) -> None:
        done = 0
        while done < len(into):
            try:
                got = os.preadv(self._file.descriptor, [into[done:]], offset + done)
            except OSError as error:
                what = f"{self._name} of {rows_text(range(first, first + count))}"
                raise self._file.error(what, error.strerror) from None
            if not got:
                self._file.check_end(self._end, self._name)
            done += got


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
    return f"{len(rows):,} examples from {min(rows)} to {max(rows)}"
