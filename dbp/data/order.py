"""The order of the examples: a function of seed, purpose and epoch alone, without a table.

A table of all rows on every rank would be the largest thing in memory for large data sets. A Feistel
network gives the row at any position directly, so a run can start in the middle of an epoch at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbp.random import generator

Indices = NDArray[Any]
ROUNDS = 8
READ_AHEAD = 1 << 15  # positions whose rows are computed at once


def _mix(x: Indices) -> Any:
    """Hash 64-bit words by the output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Order:
    """A pseudo-random permutation of range(size); a call with an array of positions returns rows.

    A position is a pair (left, right) in Z_a x Z_b with a b >= size; each round adds to one half a hash
    of the other, which can be undone and so is one-to-one (Luby and Rackoff 1988). The few results not
    below `size` are sent through again until they are (cycle walking; Black and Rogaway 2002).
    """

    def __init__(self, size: int, seed: int, purpose: str, epoch: int = 0):
        self.size = size
        self._a = math.isqrt(size - 1) + 1
        self._b = -(-size // self._a)
        rng = generator(seed, purpose, epoch)
        self._keys = rng.bit_generator.random_raw(ROUNDS)
        self._ahead, self._ahead_start = np.empty(0, np.int64), 0

    def __call__(self, positions: Indices) -> Indices:
        """Return the rows at some positions, as int64."""
        rows = self._shuffle(np.asarray(positions, np.uint64))
        while (outside := np.flatnonzero(rows >= self.size)).size:
            rows[outside] = self._shuffle(rows[outside])
        return rows.astype(np.int64)

    def rows(self, positions: range) -> Indices:
        """Return the rows at consecutive positions; the next READ_AHEAD are computed along with them."""
        start = positions.start - self._ahead_start
        if not 0 <= start <= start + len(positions) <= len(self._ahead):
            end = min(max(positions.stop, positions.start + READ_AHEAD), self.size)
            self._ahead, self._ahead_start, start = self(np.arange(positions.start, end)), positions.start, 0
        return self._ahead[start : start + len(positions)]

    def _shuffle(self, x: Indices) -> Indices:
        left, right = np.divmod(x, np.uint64(self._b))
        for round_, key in enumerate(self._keys):
            if round_ % 2:
                right = (right + _mix(left ^ key) % np.uint64(self._b)) % np.uint64(self._b)
            else:
                left = (left + _mix(right ^ key) % np.uint64(self._a)) % np.uint64(self._a)
        return left * np.uint64(self._b) + right


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
