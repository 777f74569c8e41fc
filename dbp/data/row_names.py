"""The names of the examples in an HDF5 file: the files that they were read from, or what a table calls them."""

from __future__ import annotations

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
        self._width = 0  # of the longest name, in bytes; 0 until it is known

    def read(self, rows: slice) -> Array:
        """Return the names of rows in UTF-8, in the same type for all rows; raise DataError if they cannot be read."""
        with reading_hdf5(f"{self._path}: {self._column!r}"), h5py.File(self._path, "r") as file:
            column = file[self._column]
            if not self._width:
                pieces = range(0, self._count, PIECE)
                self._width = max(1, *(len(name) for at in pieces for name in _names(column, slice(at, at + PIECE))))
            return np.array(_names(column, rows), f"S{self._width}")


def _names(column: h5py.Dataset, rows: slice) -> list[bytes]:
    return [bytes(name) for name in column[rows].tolist()]


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
