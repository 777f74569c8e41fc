"""Columns of MATLAB's files (version 7.3), which are HDF5 with the axes of each array reversed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from dbp.data.completeness import reading_hdf5
from dbp.data.hdf5_column import HDF5Column
from dbp.data.locations import Location
from dbp.errors import UserError
from dbp.files import reading_from
from dbp.types import Array

MARK = b"MATLAB 7.3 MAT-file"  # at the beginning of such a file
OLD_MARK = b"MATLAB 5.0 MAT-file"  # likewise, of versions 5 to 7


def is_matlab(path: Path) -> bool:
    """Return True if a file is one of MATLAB."""
    with reading_from(f"data file {path}"), path.open("rb") as file:
        return file.read(len(MARK)) == MARK


def is_old_matlab(path: Path) -> bool:
    """Return True if a file that is not HDF5 is one of an earlier version of MATLAB; version 4 has a name only."""
    with reading_from(f"data file {path}"), path.open("rb") as file:
        return file.read(len(OLD_MARK)) == OLD_MARK or path.suffix.lower() == ".mat"


class MatlabColumn(HDF5Column):
    """A column with the axes in MATLAB's order, but for that of the examples, which is the first.

    Args:
        file: the open file.
        data: name of the data set in messages.
        name: name of the column in the file.
    """

    def __init__(self, file: h5py.File, data: str, name: str):
        super().__init__(file, data, name)
        with reading_hdf5(self.what):
            kind = self._stored.attrs.get("MATLAB_class", b"")
        if kind == b"char":
            raise UserError(f"{self.what} is text, not numbers; name another array")
        self.size: tuple[int, ...] = tuple(reversed(self._stored.shape))
        self._axis = 0
        self.turn(0 if len(self.size) < 3 else len(self.size) - 1)

    def turn(self, axis: int) -> None:
        """Take the examples along this axis of MATLAB's array."""
        self._axis = axis
        self.shape = (self.size[axis], *self.size[:axis], *self.size[axis + 1 :])

    @property
    def borders(self) -> Array | None:
        """Return the first row of each unit of rows that are stored together, and the number of rows; None for one."""
        chunks, rows = self._stored.chunks, self.shape[0]
        return None if chunks is None else np.append(np.arange(0, rows, chunks[::-1][self._axis]), rows)

    def location(self, file: h5py.File) -> Location | None:  # noqa: ARG002
        """Return None, as only HDF5Column reads along such an axis."""
        return None

    def _stored_rows(self, rows: range) -> Array:
        chosen = [slice(None)] * len(self.size)
        chosen[len(self.size) - 1 - self._axis] = slice(rows.start, rows.stop)
        return np.ascontiguousarray(np.moveaxis(np.asarray(self._stored[tuple(chosen)]).T, self._axis, 0))


def turn(columns: Mapping[str, HDF5Column], inputs: str) -> list[str]:
    """Turn the columns of a file so that the examples come first; return a line on it for the user.

    The examples lie along the first axis of the inputs if the other columns have as many, else along the last one.

    Args:
        columns: the columns by name.
        inputs: the name of the inputs.
    """
    found = {name: column for name, column in columns.items() if isinstance(column, MatlabColumn)}
    if inputs not in found:
        return []
    size = found[inputs].size
    others = [column for name, column in found.items() if name != inputs]
    fitting = [axis for axis in (0, len(size) - 1) if all(size[axis] in column.size for column in others)]
    axis = fitting[0] if others and fitting else (0 if len(size) < 3 else len(size) - 1)
    found[inputs].turn(axis)
    for column in others:
        ends = [end for end in (0, len(column.size) - 1) if column.size[end] == size[axis]]
        column.turn(ends[0] if ends else 0)
    return [
        f"{found[inputs].what} is of MATLAB: axis {axis + 1} of {len(size)} is that of the examples, and comes first; "
        "dbp convert hdf5 writes a file that is read faster"
    ]
