"""Parts of a data set, such as the examples that are held out for validation."""

from __future__ import annotations

import numpy as np

from dbp.data import Dataset, Examples
from dbp.data.dataset import Rows
from dbp.reading.order import RowOrder
from dbp.types import Array


class Subset:
    """The rows of a data set at a range of positions in an order."""

    def __init__(self, whole: Dataset, order: RowOrder, positions: range):
        self._whole, self._order, self._positions = whole, order, positions
        self.name, self.scale, self.input_shape = whole.name, whole.scale, whole.input_shape

    def __len__(self) -> int:
        return len(self._positions)

    def rows_of_whole(self, rows: Array) -> Array:
        """Return the row numbers in the whole data set of rows of the subset."""
        return self._order(rows + self._positions.start)

    def read(self, rows: Rows) -> Examples:
        """Read rows of the subset."""
        chosen = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        return self._whole.read(self.rows_of_whole(chosen))
