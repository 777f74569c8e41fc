"""A column of a data set in memory: units of its rows in slots, or single rows one after the other."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from dbp.data import Dataset, Ragged
from dbp.data.dataset import example_form
from dbp.types import Array


class StoredForm(NamedTuple):
    """What the memory for a column depends on. Its elements are rows, or the values of rows of unequal length.

    Args:
        dtype: of its numbers.
        shape: of an element.
        starts: the first element of each unit, and the number of elements.
        ragged: the column, if its rows have unequal lengths.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    starts: Array
    ragged: Ragged | None = None

    @property
    def element_bytes(self) -> int:
        """Return the bytes of an element."""
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def total(self) -> int:
        """Return the number of elements of all units."""
        return int(self.starts[-1])

    @property
    def of_slot(self) -> int:
        """Return the number of elements of the largest unit."""
        return int(np.diff(self.starts).max())

    @property
    def of_row(self) -> int:
        """Return the number of elements of the longest row."""
        return 1 if self.ragged is None else self.ragged.longest


def stored_forms(data: Dataset, borders: Array) -> dict[str, StoredForm]:
    """Return the form of each column that is stored, by name.

    Args:
        data: the data set.
        borders: the first row of each unit, and the number of rows.
    """
    columns = getattr(data, "columns", None) or example_form(data)
    return {name: _form(column, borders) for name, column in columns.items()}


def _form(column: Any, borders: Array) -> StoredForm:
    if isinstance(column, Ragged):
        return StoredForm(column.dtype, column.shape[2:], column.offsets[borders], column)
    return StoredForm(column.dtype, column.shape[1:], borders)


class ColumnStore:
    """The memory for a column.

    Args:
        form: of the column.
        elements: (elements, ...), the memory.
        in_slots: False if all units lie one after the other, each at its own offset.
    """

    def __init__(self, form: StoredForm, elements: Array, in_slots: bool):
        self._elements, self._starts, self._ragged = elements, form.starts, form.ragged
        self._of_slot, self._of_row = form.of_slot if in_slots else 0, form.of_row

    def unit(self, unit: int, slot: int) -> Array:
        """Return the memory of a unit in a slot, which the elements of its rows are written to."""
        shift = self._shift(unit, slot)
        return self._elements[self._starts[unit] + shift : self._starts[unit + 1] + shift]

    def _shift(self, units: Any, slots: Any) -> Any:
        """Return the distance from the number of an element of a unit to its index in memory."""
        return slots * self._of_slot - self._starts[units] if self._of_slot else 0

    def take(self, rows: Array, units: Array, slots: Array) -> Array:
        """Return a copy of rows, whose units are in slots."""
        shift = self._shift(units, slots)
        if self._ragged is None:
            return np.asarray(self._elements[rows + shift])
        return self._ragged.padded(rows, self._ragged.offsets[rows] + shift, self._elements.__getitem__)

    def collect(self, rows: Array, indices: Array, unit: int, slot: int) -> None:
        """Copy rows of a unit in a slot to the slots of single rows, which take up the memory from its beginning on."""
        shift = self._shift(unit, slot)
        if self._ragged is None:
            self._elements[indices] = self._elements[rows + shift]
            return
        begins, lengths = self._ragged.offsets[rows] + shift, self._ragged.lengths_of(rows)
        for begin, index, length in zip(begins.tolist(), indices.tolist(), lengths.tolist(), strict=True):
            at = index * self._of_row
            self._elements[at : at + length] = self._elements[begin : begin + length]

    def take_collected(self, rows: Array, indices: Array) -> Array:
        """Return a copy of rows that were collected at these indices."""
        if self._ragged is None:
            return np.asarray(self._elements[indices])
        return self._ragged.padded(rows, indices * self._of_row, self._elements.__getitem__)
