"""Draws of rows in proportion to weights: rows of large weights come up several times in an epoch, others in some."""

from __future__ import annotations

import numpy as np

from dbp.errors import UserError
from dbp.random import generator
from dbp.reading.order import EXAMPLES, ChunkOrder, Indices, Order
from dbp.types import Array

PURPOSE = "draws of examples"


class Draws:
    """As many draws of rows as there are rows, by systematic sampling (Madow 1949).

    The weights lie side by side on a line, and evenly spaced points on it draw the rows that they fall on. So each row
    is drawn as often as its share of all weights says, rounded down or up, and draws in order are of rows in order.
    Where the points begin changes with the epoch.

    Args:
        ends: where the weight of each row ends on the line.
        seed: of the run.
        epoch: counted from 0.
    """

    def __init__(self, ends: Array, seed: int, epoch: int):
        self._ends, self._begin = ends, generator(seed, PURPOSE, epoch).random()
        self._space = float(ends[-1]) / len(ends)

    def _points(self, draws: Indices) -> Array:
        return np.asarray((draws + self._begin) * self._space)

    def __call__(self, draws: Indices) -> Indices:
        """Return the rows of some draws, which are numbered from 0 to the number of rows less one."""
        rows = np.searchsorted(self._ends, self._points(draws), side="right")
        return np.minimum(rows, self._last_row)  # rounding may carry a point beyond the end

    @property
    def _last_row(self) -> int:
        """Return the last row with a weight."""
        return int(np.searchsorted(self._ends, self._ends[-1]))

    def borders(self, rows: Array) -> Array:
        """Return the numbers of the first draws that are not before some rows: units of draws, given those of rows."""
        size = len(self._ends)
        starts = np.concatenate([[0.0], self._ends])[rows]
        found = np.clip(np.ceil(starts / self._space - self._begin), 0, size).astype(np.int64)
        found += (found < size) & (self._points(found) < starts)
        found -= (found > 0) & (self._points(found - 1) >= starts)
        found[rows > self._last_row] = size
        return found


class DrawnOrder(Order):
    """Draws of single rows, in a random order.

    Args:
        draws: of the rows.
        size: number of rows, and of draws.
        seed: of the run.
        epoch: counted from 0.
    """

    def __init__(self, draws: Draws, size: int, seed: int, epoch: int):
        super().__init__(size, seed, EXAMPLES, epoch)
        self._draws = draws

    def __call__(self, positions: Indices) -> Indices:
        """Return the rows at some positions."""
        return self._draws(super().__call__(positions))


class DrawnChunkOrder(ChunkOrder):
    """Draws of rows that are read in units: those of a unit lie in one window.

    Args:
        draws: of the rows.
        borders: of the units of rows.
        window: least number of draws of a window.
        seed: of the run.
        epoch: counted from 0.
    """

    def __init__(self, draws: Draws, borders: Array, window: int, seed: int, epoch: int):
        super().__init__(draws.borders(borders), window, seed, epoch)
        self._draws = draws

    def __call__(self, positions: Indices) -> Indices:
        """Return the rows at some positions."""
        return self._draws(super().__call__(positions))


def ends_of(weights: Array, what: str) -> Array:
    """Return where the weight of each row ends on a line of all weights; raise UserError if they are no weights.

    Args:
        weights: one for each row.
        what: what they are, for messages.
    """
    if weights.dtype.kind not in "buif" or weights.ndim != 1:
        raise UserError(
            f"{what} must be one number per example, but has type {weights.dtype} and shape {weights.shape}"
        )
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(f"{what} must be finite and not negative, but that of example {row} is {weights[row]}")
    ends = np.cumsum(weights, dtype=np.float64)
    if not 0 < ends[-1] < np.inf:
        raise UserError(f"{what} must have a finite sum above 0, but it is {ends[-1]}")
    return ends
