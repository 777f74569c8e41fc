"""Parts of a data set, such as the examples that are held out for validation."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from dbp.data import Dataset, Examples
from dbp.data.dataset import Rows
from dbp.reading.order import RowOrder
from dbp.types import Array


class RowSet(Protocol):
    """Some rows of a data set, numbered anew from 0."""

    borders: Array | None  # of the units that the rows lie in, as numbers of this set; None if any row is read alone

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def __call__(self, numbers: Array) -> Array:
        """Return the rows of the whole data set, given their numbers in this set."""
        ...


class PositionRange:
    """The rows at consecutive positions of an order, or at all others.

    Args:
        order: of all rows.
        positions: the positions.
        others: True for the rows at all other positions.
    """

    borders: Array | None = None

    def __init__(self, order: RowOrder, positions: range, others: bool = False):
        self._order, self._positions, self._others = order, positions, others

    def __len__(self) -> int:
        return self._order.size - len(self._positions) if self._others else len(self._positions)

    def __call__(self, numbers: Array) -> Array:
        """Return the rows of the whole data set, given their numbers in this set."""
        start, count = self._positions.start, len(self._positions)
        return self._order(numbers + count * (numbers >= start) if self._others else numbers + start)


class Subset:
    """Some rows of a data set.

    Args:
        whole: the data set.
        rows: which of its rows.
    """

    def __init__(self, whole: Dataset, rows: RowSet):
        self.whole, self._rows, self.borders = whole, rows, rows.borders
        self.name, self.scale, self.input_shape = whole.name, whole.scale, whole.input_shape
        self.meaning, self.shift = getattr(whole, "meaning", None), getattr(whole, "shift", None)

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, whole: Dataset) -> Subset:
        """Return the same rows of another data set."""
        return Subset(whole, self._rows)

    def rows_of_whole(self, rows: Array) -> Array:
        """Return the row numbers in the whole data set of rows of the subset."""
        return self._rows(rows)

    def read(self, rows: Rows) -> Examples:
        """Read rows of the subset."""
        chosen = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        return self.whole.read(self.rows_of_whole(chosen))


def whole_of(data: Dataset) -> Dataset:
    """Return the data set that examples are a part of, or themselves if they are no part of another."""
    return data.whole if isinstance(data, Subset) else data
