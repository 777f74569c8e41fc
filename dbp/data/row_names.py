"""The names of the examples in an HDF5 file: the files that they were read from, or what a table calls them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import h5py
import numpy as np

from dbp.data.completeness import reading_hdf5
from dbp.types import Array

FILES, IDS = "files", "ids"  # the data sets of such names, beside the inputs
SINGULAR = {FILES: "file", IDS: "id"}
PIECE = 1 << 16  # names that are measured at a time


class RowNames:
    """A column of names, one for each example. The file is open only while names are read.

    Args:
        path: an HDF5 file.
        column: the name of a data set of texts in it.
        count: of the examples.
    """

    def __init__(self, path: str, column: str, count: int):
        self._path, self._column, self._count = path, column, count
        self.label = column.rpartition("/")[2]

    def __len__(self) -> int:
        return self._count

    @cached_property
    def width(self) -> int:
        """Return the bytes of the longest name."""
        pieces = range(0, self._count, PIECE)
        return max(1, *(len(name) for at in pieces for name in self._names(slice(at, at + PIECE))))

    def read(self, rows: slice) -> Array:
        """Return the names of rows in UTF-8, in the same type for all rows; raise DataError if they cannot be read."""
        return np.array(self._names(rows), f"S{self.width}")

    def _names(self, rows: slice) -> list[bytes]:
        with reading_hdf5(f"{self._path}: {self._column!r}"), h5py.File(self._path, "r") as file:
            return [bytes(name) for name in file[self._column][rows].tolist()]


class JoinedRowNames:
    """The names of the examples of several files.

    Args:
        parts: those of each file.
        starts: the first row of each file, and the number of rows of all.
    """

    def __init__(self, parts: Sequence[RowNames | JoinedRowNames], starts: Array):
        self._parts, self._starts = parts, starts
        self.label: str = parts[0].label

    @cached_property
    def width(self) -> int:
        """Return the bytes of the longest name."""
        return max(part.width for part in self._parts)

    def read(self, rows: slice) -> Array:
        """Return the names of rows in UTF-8, in the same type for all rows; raise DataError if they cannot be read."""
        starts, (first, stop, _) = self._starts, rows.indices(int(self._starts[-1]))
        found = [
            part.read(slice(max(first - int(start), 0), stop - int(start)))
            for part, start, end in zip(self._parts, starts[:-1], starts[1:], strict=True)
            if start < stop and first < end
        ]
        return np.concatenate([np.empty(0, f"S{self.width}"), *found])


def row_names(file: h5py.File, inputs: str, count: int) -> RowNames | None:
    """Return the names in the data set FILES or IDS beside the inputs; None if there is no such data set that fits.

    Args:
        file: the open file.
        inputs: the name of the inputs in it.
        count: of the examples.
    """
    for label in SINGULAR:
        name = "/".join([*inputs.split("/")[:-1], label])
        with reading_hdf5(f"{file.filename}: {name!r}"):
            found = file.get(name)
            if isinstance(found, h5py.Dataset) and found.shape == (count,) and h5py.check_string_dtype(found.dtype):
                return RowNames(file.filename, name, count)
    return None
