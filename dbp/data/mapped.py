"""Data sets in files whose columns are mapped into memory, so that HDF5 need not be imported to read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dbp.data.dataset import Examples, Rows
from dbp.errors import unknown
from dbp.types import Array

PACKAGED = "dbp:"


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

    dtype: Any
    shape: tuple[int, ...]
    offset: int  # in bytes

    def mapped(self, path: Path) -> Array:
        """Map the values. All ranks of a node share the pages of the file, which are read when they are used."""
        return np.memmap(path, self.dtype, "r", self.offset, self.shape)


class FileLayout(NamedTuple):
    """The positions of the columns of a data set: inputs, targets and weights, of which the last two may be missing."""

    size: int  # of the file, in bytes, by which another file of that name is recognized
    columns: tuple[Column | None, ...]
    scale: float | None

    def fits(self, path: Path) -> bool:
        """Return True if the file exists for this process and has the same size."""
        return path.is_file() and path.stat().st_size == self.size


class FileDataset:
    """Examples in a file.

    Args:
        name: name for messages.
        columns: inputs, targets and weights, of which the last two may be None; arrays, or data sets of h5py.
        scale: factor by which inputs are multiplied.
    """

    def __init__(self, name: str, columns: Sequence[Any], scale: float | None):
        self.name, self._columns, self.scale = name, list(columns), scale
        self.input_shape: tuple[int, ...] = self._columns[0].shape[1:]

    def __len__(self) -> int:
        return len(self._columns[0])

    def read(self, rows: Rows) -> Examples:
        """Read rows as they are stored."""
        inputs, targets, weights = (None if c is None else _rows(c, rows) for c in self._columns)
        assert inputs is not None
        return Examples(inputs, targets, weights)


def mapped(name: str, layout: FileLayout) -> FileDataset:
    """Map the data set of that name, whose layout another process has found."""
    return FileDataset(name, [None if c is None else c.mapped(data_path(name)) for c in layout.columns], layout.scale)


def _rows(column: Any, rows: Rows) -> Array:
    if isinstance(rows, slice) or isinstance(column, np.memmap):
        return np.asarray(column[rows])
    wanted, back = np.unique(rows, return_inverse=True)
    values = np.empty((len(wanted), *column.shape[1:]), column.dtype)
    start = 0
    for run in np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1):
        if len(run):  # HDF5 reads consecutive rows far faster than a list of row numbers
            column.read_direct(values, np.s_[run[0] : run[-1] + 1], np.s_[start : start + len(run)])
        start += len(run)
    return values[back]
