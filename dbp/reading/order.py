"""The order of the examples: a function of seed, epoch and position, and of nothing that depends on ranks or memory.

A table of all rows on every rank would be the largest thing in memory for large data sets. A Feistel
network gives the row at any position directly, so a run can start in the middle of an epoch at once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbp.random import generator

Indices = NDArray[Any]
ROUNDS = 8
READ_AHEAD = 1 << 15  # positions whose rows are computed at once
EXAMPLES = "order of examples"  # the purpose of the random numbers of an order of single rows
CHUNKS, ROWS = "order of chunks", "order of rows in a window"  # the purposes of a ChunkOrder's random numbers


def _mix(x: Indices) -> Any:
    """Hash 64-bit words by the output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class RowOrder(ABC):
    """The rows of a data set at positions 0 to size - 1."""

    size: int
    _ahead, _ahead_start = np.empty(0, np.int64), 0

    @abstractmethod
    def __call__(self, positions: Indices) -> Indices:
        """Return the rows at some positions, as int64."""

    def rows(self, positions: range) -> Indices:
        """Return the rows at consecutive positions; the next READ_AHEAD are computed along with them."""
        start = positions.start - self._ahead_start
        if not 0 <= start <= start + len(positions) <= len(self._ahead):
            end = min(max(positions.stop, positions.start + READ_AHEAD), self.size)
            self._ahead, self._ahead_start, start = self(np.arange(positions.start, end)), positions.start, 0
        return self._ahead[start : start + len(positions)]


class Order(RowOrder):
    """A pseudo-random permutation of range(size); a call with an array of positions returns rows.

    A position is a pair (left, right) in Z_a x Z_b with a b >= size; each round adds to one half a hash
    of the other, which can be undone and so is one-to-one (Luby and Rackoff 1988). The few results not
    below `size` are sent through again until they are (cycle walking; Black and Rogaway 2002).

    Args:
        size: number of rows.
        seed: of the run.
        purpose: what the permutation is for; other purposes have others.
        counters: such as the epoch; at most three.
    """

    def __init__(self, size: int, seed: int, purpose: str, *counters: int):
        self.size = size
        self._a = math.isqrt(size - 1) + 1
        self._b = -(-size // self._a)
        rng = generator(seed, purpose, *counters)
        self._keys = rng.bit_generator.random_raw(ROUNDS)

    def __call__(self, positions: Indices) -> Indices:
        """Return the rows at some positions, as int64."""
        rows = self._shuffle(np.asarray(positions, np.uint64))
        while (outside := np.flatnonzero(rows >= self.size)).size:
            rows[outside] = self._shuffle(rows[outside])
        return rows.astype(np.int64)

    def _shuffle(self, x: Indices) -> Indices:
        left, right = np.divmod(x, np.uint64(self._b))
        for round_, key in enumerate(self._keys):
            if round_ % 2:
                right = (right + _mix(left ^ key) % np.uint64(self._b)) % np.uint64(self._b)
            else:
                left = (left + _mix(right ^ key) % np.uint64(self._a)) % np.uint64(self._a)
        return left * np.uint64(self._b) + right


class ChunkOrder(RowOrder):
    """A pseudo-random permutation of rows that are read in units, such as the chunks of an HDF5 file.

    The units are permuted, consecutive ones are gathered into windows, and the rows within each window are permuted.
    So all rows of a unit are used while one window is in memory. A window ends with the unit that brings it to at
    least `window` rows; the rows that remain after the last such window belong to it.

    Attributes:
        window_borders: the first position of each window, and the number of rows as the last entry.

    Args:
        borders: the first row of each unit, and the number of rows as the last entry.
        window: least number of rows of a window.
        seed: of the run.
        epoch: counted from 0.
    """

    def __init__(self, borders: Indices, window: int, seed: int, epoch: int = 0):
        self._seed, self._epoch = seed, epoch
        borders = np.asarray(borders, np.int64)
        sizes = np.diff(borders)
        self.size = int(borders[-1])
        self._units = Order(len(sizes), seed, CHUNKS, epoch)(np.arange(len(sizes)))
        sizes = sizes[self._units]
        self._ends = np.cumsum(sizes)  # of each unit, in order, counted in rows
        self._shifts = borders[self._units] - (self._ends - sizes)  # from positions in the order of units to rows
        self._last_units = _last_units(self._ends, max(1, window))
        self.window_borders = np.concatenate([[0], self._ends[self._last_units]])

    @property
    def windows(self) -> int:
        """Return the number of windows."""
        return len(self._last_units)

    def window_of(self, positions: Any) -> Any:
        """Return the windows that positions lie in."""
        return np.searchsorted(self.window_borders, positions, side="right") - 1

    def positions_in(self, window: int) -> range:
        """Return the positions of a window."""
        return range(int(self.window_borders[window]), int(self.window_borders[window + 1]))

    @property
    def units(self) -> Indices:
        """Return the numbers of the units that have rows, in the order of the permutation, window after window."""
        units: Indices = self._units[np.diff(self._ends, prepend=0) > 0]
        return units

    @property
    def unit_counts(self) -> Indices:
        """Return the number of units of each window that have rows."""
        before = np.cumsum(np.diff(self._ends, prepend=0) > 0)[self._last_units]
        counts: Indices = np.diff(before, prepend=0)
        return counts

    def __call__(self, positions: Indices) -> Indices:
        """Return the rows at some positions, as int64."""
        shuffled = np.array(positions, np.int64)
        windows = self.window_of(shuffled)
        for window in np.flatnonzero(np.bincount(windows.ravel())).tolist():
            inside = np.flatnonzero(windows == window)
            span = self.positions_in(window)
            order = Order(len(span), self._seed, ROWS, self._epoch, window)
            shuffled[inside] = span.start + order(shuffled[inside] - span.start)
        rows: Indices = shuffled + self._shifts[np.searchsorted(self._ends, shuffled, side="right")]
        return rows


def _last_units(ends: Indices, window: int) -> Indices:
    """Return the last unit of each window, given where each unit ends, counted in rows."""
    last, at = [], 0
    while ends[-1] - at >= window:
        last.append(int(np.searchsorted(ends, at + window)))
        at = int(ends[last[-1]])
    return np.array([*last[:-1], len(ends) - 1], np.int64)


@dataclass(frozen=True)
class Batches:
    """The mini-batches of an epoch as ranges of positions; the last one may be short."""

    examples: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Return the number of mini-batches in an epoch."""
        return -(-self.examples // self.batch_size)

    def positions(self, step: int) -> range:
        """Return the positions of the mini-batch of a step, counted from 0 in the epoch."""
        start = step * self.batch_size
        return range(start, min(start + self.batch_size, self.examples))
