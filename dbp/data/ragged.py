"""Columns whose rows have unequal lengths, such as sequences: values of all rows one after the other, and offsets.

Some rows together are padded with zeros to the longest of them, rounded up so that there are few shapes. A mask says
which positions hold data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.errors import DataError, UserError
from dbp.types import Array

LEAST_LENGTH = 8  # that rows are padded to, and a factor of all such lengths
PARTS_OF_LENGTH = 8  # the step between two such lengths is at most one in so many of them
MOST_CHUNKS, CHUNKS_BYTES = 8, 1 << 22  # of a unit of rows: so many chunks of values, but no more bytes unless of one


def padded_length(longest: int) -> int:
    """Return the length that rows are padded to, of which the longest has this length."""
    step = max(LEAST_LENGTH, (1 << longest.bit_length()) // (2 * PARTS_OF_LENGTH))
    return max(1, -(-longest // step)) * step


def unmasked(name: str, values: Any) -> Array:
    """Return values as an array; raise UserError for an array of numpy.ma with a masked position.

    NumPy would return the number behind the mask, which nobody has meant.
    """
    if np.ma.is_masked(values):
        masked = int(np.ma.getmaskarray(values).sum())
        raise UserError(
            f"{name} have {masked:,} masked positions, of which the numbers are not known; fill them "
            "(values.filled(...)), leave such rows out, or give them weight 0"
        )
    return np.asarray(values)


class Ragged:
    """A column whose rows have unequal lengths.

    Args:
        values: those of all rows, one after the other: an array (positions, ...), or a column that reads one.
        offsets: the position where each row begins, and the number of positions as the last one.
        name: name for messages.
        borders: the first row of each unit of rows that are stored together, and the number of rows; by default those
            of the chunks of the values, if there are any.
    """

    def __init__(self, values: Any, offsets: Any, name: str = "the ragged column", borders: Array | None = None):
        self._values = values if hasattr(values, "read") else unmasked(f"{name}: values", values)
        self.offsets, self.dtype = _checked(name, np.asarray(offsets), self._values.shape), self._values.dtype
        self.longest = int(self.lengths.max(initial=0))
        if not self.longest:
            raise UserError(f"{name}: all rows are empty; leave them out")
        self.shape = (len(self.offsets) - 1, padded_length(self.longest), *self._values.shape[1:])
        self.borders = self._unit_borders() if borders is None else borders

    def _unit_borders(self) -> Array | None:
        """Return the borders of rows that begin in the same few chunks of values; None for values in one piece.

        Rows at the end of a unit may reach into the first chunk of the next one, which is then unpacked for both. So a
        unit has several chunks, unless they are large.
        """
        chunks: Array | None = getattr(self._values, "borders", None)
        if chunks is None:
            return None
        chunk_bytes = int(np.diff(chunks).max()) * self.value_bytes
        together = max(1, min(MOST_CHUNKS, CHUNKS_BYTES // max(1, chunk_bytes)))
        rows = np.searchsorted(self.offsets[:-1], chunks[:-1:together])
        rows = np.append(rows, len(self))
        return np.asarray(rows[np.diff(rows, prepend=-1) > 0])

    @classmethod
    def of(cls, rows: Sequence[Any]) -> Ragged:
        """Return the column of these rows, each an array (length, ...)."""
        arrays = [unmasked("the rows of a ragged column", row) for row in rows]
        if not arrays:
            raise UserError("a ragged column needs at least one row")
        return cls(np.concatenate(arrays), np.cumsum([0, *map(len, arrays)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Array:
        """Return the lengths of all rows."""
        return np.diff(self.offsets)

    def lengths_of(self, rows: slice | Array) -> Array:
        """Return the lengths of some rows."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        return np.asarray(self.offsets[rows + 1] - self.offsets[rows])

    @property
    def value_bytes(self) -> int:
        """Return the bytes of one value."""
        return int(self.dtype.itemsize * math.prod(self.shape[2:]))

    def mask(self, rows: slice | Array) -> Array:
        """Return which positions of the padded rows hold data, (rows, length)."""
        lengths = self.lengths_of(rows)
        return np.asarray(np.arange(padded_length(int(lengths.max(initial=0)))) < lengths[:, None])

    def read(self, rows: slice | Array) -> Array:
        """Return rows (rows, length, ...), padded with zeros."""
        if not isinstance(rows, slice):
            return self.padded(rows, self.offsets[:-1][rows], self.read_values)
        first, stop, _ = rows.indices(len(self))
        mask = self.mask(rows)
        padded = np.zeros((*mask.shape, *self.shape[2:]), self.dtype)
        padded[mask] = self.read_values(slice(int(self.offsets[first]), int(self.offsets[max(first, stop)])))
        return padded

    def padded(self, rows: Array, begins: Array, values_at: Callable[[Array], Array]) -> Array:
        """Return rows (rows, length, ...), padded with zeros, whose values lie anywhere.

        Args:
            rows: their numbers.
            begins: the position of the first value of each.
            values_at: returns the values at some positions.
        """
        mask = self.mask(rows)
        padded = np.zeros((*mask.shape, *self.shape[2:]), self.dtype)
        padded[mask] = values_at((begins[:, None] + np.arange(mask.shape[1]))[mask])
        return padded

    def zeros(self, rows: slice | Array) -> Array:
        """Return what read() does, but with zeros in the place of all values, which are not read."""
        return np.zeros((*self.mask(rows).shape, *self.shape[2:]), self.dtype)

    def read_values(self, positions: slice | Array) -> Array:
        """Return the values of some positions, whichever rows these belong to."""
        read: Array = self._values[positions] if isinstance(self._values, np.ndarray) else self._values.read(positions)
        return read

    def read_into(self, rows: range, into: Array) -> None:
        """Read the values of consecutive rows, one after the other, into an array (positions, ...).

        Other threads may read meanwhile.
        """
        self.read_values_into(range(int(self.offsets[rows.start]), int(self.offsets[rows.stop])), into)

    def read_values_into(self, positions: range, into: Array) -> None:
        """Read the values of consecutive positions into an array; other threads may read meanwhile."""
        if isinstance(self._values, np.ndarray):
            into[...] = self._values[positions.start : positions.stop]
        elif len(positions):
            self._values.read_into(positions, into)


class RaggedLocation(NamedTuple):
    """The location of a column whose rows have unequal lengths: that of its values, and where each row begins."""

    values: Any
    offsets: Array


class MaskColumn:
    """A column of booleans, from one of numbers that are 0 where a position holds no data, and 1 elsewhere.

    Args:
        column: of numbers.
        file: name of its file for messages.
    """

    def __init__(self, column: Any, file: str):
        self._file = file
        self._column, self.shape, self.borders = column, column.shape, column.borders
        self.dtype = np.dtype(np.bool_)

    def read(self, rows: slice | Array) -> Array:
        """Read rows."""
        return self._as_boolean(self._column.read(rows), rows)

    def read_into(self, rows: range, into: Array) -> None:
        """Read consecutive rows into a contiguous array; other threads may read meanwhile."""
        numbers = np.empty(into.shape, self._column.dtype)
        self._column.read_into(rows, numbers)
        into[...] = self._as_boolean(numbers, slice(rows.start, rows.stop))

    def _as_boolean(self, numbers: Array, rows: slice | Array) -> Array:
        return as_mask(self._file, numbers, np.arange(self.shape[0])[rows])


def as_mask(name: str, numbers: Array, rows: Array) -> Array:
    """Return numbers as booleans; raise DataError for one that is neither 0 nor 1.

    Args:
        name: of the data set, for messages.
        numbers: the mask of some rows.
        rows: their numbers.
    """
    found = np.asarray(numbers != 0)
    if (wrong := found & (numbers != 1)).any():
        row = rows[int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))]
        raise DataError(
            f"{name}: mask must be 1 or 0 for each position, but that of example {row} contains {numbers[wrong][0]}; "
            "write 1 where a position holds data"
        )
    return found


def _checked(name: str, offsets: Array, shape: tuple[int, ...]) -> Array:
    """Return offsets as int64; raise UserError unless they cut values of this shape into rows."""
    if offsets.dtype.kind not in "iu" or offsets.ndim != 1 or len(offsets) < 2:
        raise UserError(
            f"{name}: offsets must be whole numbers, one more than there are rows, but are {offsets.dtype} of shape "
            f"{offsets.shape}"
        )
    offsets = offsets.astype(np.int64, copy=False)  # which the ranks of a node may share
    if not shape:
        raise UserError(f"{name}: values must be numbers (positions, ...), but are one number")
    if offsets[0] != 0 or offsets[-1] != shape[0] or (np.diff(offsets) < 0).any():
        are_lengths = (offsets >= 0).all() and offsets.sum() == shape[0]
        raise UserError(
            f"{name}: offsets must rise from 0 to the number of values, which is {shape[0]:,}, but go from "
            f"{offsets[0]:,} to {offsets[-1]:,}{' and fall in between' if (np.diff(offsets) < 0).any() else ''}"
            f"{'; these are lengths: give np.cumsum([0, *lengths])' if are_lengths else ''}"
        )
    return offsets


def with_masks(columns: Mapping[str, Any], found: dict[str, Array], rows: slice | Array) -> dict[str, Array]:
    """Return some rows of columns with what follows from those of unequal length.

    Inputs get a mask of their positions. Targets that are padded get weights of 0 where they are.

    Args:
        columns: all columns by name.
        found: the rows read of them.
        rows: their numbers.
    """
    for name, column in columns.items():
        role, _, rest = name.partition(".")
        suffix = f".{rest}" if rest else ""
        if role == "inputs" and isinstance(column, Ragged):
            found[f"mask{suffix}"] = column.mask(rows)
        elif role == "targets" and isinstance(column, Ragged):
            mask, weights = column.mask(rows), found.get(f"weights{suffix}")
            if weights is None:
                found[f"weights{suffix}"] = mask.astype(np.float32)
            else:
                found[f"weights{suffix}"] = np.where(mask, weights if weights.ndim > 1 else weights[:, None], 0)
    return found


def check_positions(name: str, columns: Mapping[str, Any]) -> None:
    """Raise UserError unless masks fit the inputs, and columns of unequal length have the same lengths."""
    for column, array in columns.items():
        inputs = columns.get("inputs" + column.removeprefix("mask"))
        if column.partition(".")[0] != "mask" or inputs is None:
            continue
        if isinstance(inputs, Ragged):
            raise UserError(f"{name}: inputs of unequal lengths have a mask already; leave {column} out")
        if len(array.shape) < 2 or array.shape != inputs.shape[: len(array.shape)]:
            raise UserError(
                f"{name}: {column} must have the first axes of the inputs, which have shape {inputs.shape}, but has "
                f"shape {array.shape}"
            )
    ragged = {column: array for column, array in columns.items() if isinstance(array, Ragged)}
    inputs = [column for column in ragged if column.partition(".")[0] == "inputs"]
    for column, array in ragged.items():
        if not inputs:
            raise UserError(f"{name}: {column} have unequal lengths, but inputs have not; pad them")
        if column not in inputs and not any(np.array_equal(array.lengths, ragged[one].lengths) for one in inputs):
            raise UserError(f"{name}: {inputs[0]} and {column} must have the same lengths, row by row, but have others")


def positions_of(
    output_shape: tuple[int, ...], targets: Array, mask: Array | None, output_positions: int
) -> tuple[int, ...]:
    """Return the shape of the outputs for one of some examples, whose positions may be fewer than those of the longest.

    Args:
        output_shape: of the model, for inputs as long as the longest example.
        targets: of some examples.
        mask: of their positions; None if all hold data.
        output_positions: how many of the first axes of outputs are positions of masked inputs.
    """
    positions = () if mask is None else mask.shape[1:]
    if output_positions and len(positions) == output_positions and targets.shape[1 : 1 + len(positions)] == positions:
        return (*positions, *output_shape[len(positions) :])
    return output_shape
