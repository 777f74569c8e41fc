"""A column of a data set in a file: where it lies if that is in one piece, and the interface of its readers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np

from dbp.data.dataset import Rows
from dbp.types import Array


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


class RowReader(Protocol):
    """A column of a data set in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return its shape; rows come first."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of its numbers."""
        ...

    @property
    def borders(self) -> Array | None:
        """Return the first row of each unit of rows that are stored together, and the number of rows; None for one."""
        ...

    def read(self, rows: Rows) -> Array:
        """Read rows as they are stored; raise DataError, naming file and rows, if they cannot be read."""
        ...

    def read_into(self, rows: range, into: Array) -> None:
        """Read consecutive rows into a contiguous array of their shape and type; other threads may read meanwhile."""
        ...
