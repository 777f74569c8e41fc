"""A column of a data set in a file: its name, where it lies if that is in one piece, and its readers' interface."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from dbp.data.dataset import Rows, by_name, check_columns, role_of
from dbp.data.meaning import ColumnMeaning, Meaning, kind_of
from dbp.data.scaling import stated_for
from dbp.errors import UserError
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


class ColumnNames(NamedTuple):
    """The names of the columns in a file; None for one that is not named.

    Inputs and targets may be several columns of a table, side by side: a tuple. Columns with names of their own are a
    mapping from these to such names in the file.
    """

    inputs: Any = "inputs"
    targets: Any = "targets"
    weights: Any = None
    mask: Any = None
    offsets: str | None = None

    def by_column(self) -> dict[str, str | tuple[str, ...]]:
        """Return the name in the file of each column that is named, by names such as inputs or targets.energy."""
        return {column: name for role, given in self._asdict().items() for column, name in by_name(role, given).items()}

    def single(self, file: str) -> dict[str, str]:
        """Return by_column(), of texts alone; raise UserError if a column is several side by side.

        Args:
            file: the name of a file in which each of them is one column, for the message.
        """
        found: dict[str, str] = {}
        for column, name in self.by_column().items():
            if isinstance(name, tuple):
                raise UserError(
                    f"{file}: data.{column} must be the name of one data set, but is {list(name)}; only columns of "
                    "Parquet files are put side by side"
                )
            found[column] = name
        return found


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


class HeldLocation(NamedTuple):
    """The location of a column that is held in memory: its numbers."""

    values: Array


class HeldColumn:
    """A column that is held in memory, as it cannot be read in parts.

    Args:
        values: its numbers.
    """

    borders: Array | None = None

    def __init__(self, values: Array):
        self._values, self.dtype, self.shape = values, values.dtype, values.shape

    def read(self, rows: Rows) -> Array:
        """Return a copy of rows."""
        return np.array(self._values[rows])

    def read_into(self, rows: range, into: Array) -> None:
        """Copy consecutive rows into an array of their shape and type."""
        into[...] = self._values[rows.start : rows.stop]


class MissingLocation(NamedTuple):
    """The location of a column in which a number stands for missing ones."""

    values: Any
    missing: float


class MissingColumn:
    """A column in which NaN takes the place of a number that stands for missing ones.

    Args:
        column: the column; integers become floats that hold them.
        missing: the number.
    """

    def __init__(self, column: RowReader, missing: float):
        self._column, self._missing = column, missing
        self.shape, self.borders = column.shape, column.borders
        small = np.dtype(np.float32 if column.dtype.itemsize <= 2 else np.float64)
        self.dtype = column.dtype if column.dtype.kind == "f" else small

    def read(self, rows: Rows) -> Array:
        """Read rows; raise DataError, naming file and rows, if they cannot be read."""
        stored = self._column.read(rows)
        numbers = stored.astype(self.dtype)
        numbers[stored == stored.dtype.type(self._missing)] = np.nan
        return numbers

    def read_into(self, rows: range, into: Array) -> None:
        """Read consecutive rows into a contiguous array of their shape and type; other threads may read meanwhile."""
        into[...] = self.read(slice(rows.start, rows.stop))


def plain_meaning(name: str, columns: Mapping[str, RowReader], scale: Any, shift: Any) -> Meaning:
    """Return the meaning of columns in a file that says nothing of it.

    Args:
        name: of the data set, for messages.
        columns: its columns.
        scale: that the user states for the inputs, if any, or for several inputs by name.
        shift: likewise.

    Raises:
        UserError: the columns, or scale and shift, break a rule.
    """
    check_columns(name, columns)
    kinds = {column: ColumnMeaning(kind_of(reader.dtype)) for column, reader in columns.items()}
    for column, reader in columns.items():
        if role_of(column) == "inputs":
            stated = stated_for(name, column, reader.shape, scale, shift)
            kinds[column] = kinds[column]._replace(scale=stated[0], shift=stated[1])
    return {column: what for column, what in kinds.items() if role_of(column) != "weights"}
