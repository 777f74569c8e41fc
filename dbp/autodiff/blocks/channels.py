"""Passes over arrays (..., channels), piece by piece: vectors of channels against every row, and sums over the rows.

Several rows lie side by side in one long row, as many as fit, so that sums have long inner loops, and vectors are
repeated for a whole piece: NumPy is two to three times slower where it broadcasts a row. Pieces stay in the cache while
several operations follow each other. The order of sums depends on the shape of the array alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dbp.autodiff.pieces import row_pieces
from dbp.autodiff.products import column_sum
from dbp.types import Array

LONG = 2048  # elements of a long row, at most, unless there are as many channels
LONG_PIECE = 1 << 17  # elements of a piece, at least a long row; with fewer, calls take longer than the cache saves


@functools.lru_cache(maxsize=256)
def rows_side_by_side(rows: int, channels: int) -> int:
    """Return how many rows lie in a long one: as many as fit, so that no row is left over."""
    return next(count for count in range(max(1, LONG // channels), 0, -1) if rows % count == 0)


def long_rows(x: Array, channels: int) -> Array:
    """Return x as a matrix of long rows, each of which is several rows of `channels`; a copy unless contiguous."""
    channels = max(1, channels)
    return x.reshape(-1, rows_side_by_side(x.size // channels, channels) * channels)


def on_rows(vector: Array, matrix: Array) -> Array:
    """Return a vector of channels repeated on all rows of a piece of the matrix, in its dtype."""
    rows = next(pieces(matrix), slice(0, 0)).stop
    repeated = matrix.shape[1] // max(1, vector.size) * rows
    return np.tile(vector.astype(matrix.dtype, copy=False), repeated).reshape(rows, matrix.shape[1])


def on_channels(weights: Array, matrix: Array) -> Array:
    """Return the weight of each row (...) on all of its channels, as a matrix of long rows of the same shape."""
    channels = matrix.size // max(1, weights.size)
    return np.repeat(weights.reshape(-1).astype(matrix.dtype, copy=False), channels).reshape(matrix.shape)


def pieces(matrix: Array) -> Iterator[slice]:
    """Return the slices of the rows of each piece of a matrix."""
    return row_pieces(len(matrix), matrix.shape[1], LONG_PIECE)


class ChannelSums:
    """Sums of channels over the rows of pieces, which are added in turn.

    Args:
        long: elements of a long row.
        dtype: of the pieces.
    """

    def __init__(self, long: int, dtype: npt.DTypeLike) -> None:
        self._sums = np.zeros(long, dtype)
        self._part = np.empty(long, dtype)

    def add(self, piece: Array) -> None:
        """Add the long rows of a piece."""
        self._sums += column_sum(piece, self._part)

    def total(self, channels: int) -> Array:
        """Return the sum of each channel, in float64."""
        sums: Array = np.add.reduce(self._sums.reshape(-1, max(1, channels)), axis=0, dtype=np.float64)
        return sums
