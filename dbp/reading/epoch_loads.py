"""What is read into memory during an epoch, in the order of its use.

The units of a window are loaded one after the other, and stay until the window is over. A window that has more units
than there are slots is cut into parts of consecutive positions. For each part all units of the window are read once
more, and only its rows are kept: so a chunk is read as often as the rows of its window exceed the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from dbp.reading.order import READ_AHEAD, ChunkOrder
from dbp.types import Array

NO_LOAD = -1  # of a unit that has no slot
RowsOfWhole = Callable[[Array], Array]  # returns the rows of the whole data set, given those of the training examples


class CollectedRows:
    """The rows at some positions, with their indices in memory: the positions, counted from the first.

    Args:
        order: of the epoch.
        positions: consecutive ones.
        rows_of_whole: returns rows of the whole data set.
    """

    ROW_BYTES = 32  # of memory that each row takes, at most, until it is collected

    def __init__(self, order: ChunkOrder, positions: range, rows_of_whole: RowsOfWhole):
        self._order, self._positions, self._rows_of_whole = order, positions, rows_of_whole

    @cached_property
    def _sorted(self) -> tuple[Array, Array]:
        """Return the rows in ascending order, and the index of each."""
        rows = np.empty(len(self._positions), np.int64)
        for at in range(0, len(rows), READ_AHEAD):
            inside = self._positions[at : at + READ_AHEAD]
            rows[at : at + READ_AHEAD] = self._rows_of_whole(self._order(np.arange(inside.start, inside.stop)))
        indices = np.argsort(rows)
        return rows[indices], indices

    def between(self, first: int, stop: int) -> tuple[Array, Array]:
        """Return the rows from one to before another, in ascending order, and their indices."""
        rows, indices = self._sorted
        inside = slice(*np.searchsorted(rows, [first, stop]))
        return rows[inside], indices[inside]


class BatchRows:
    """The rows of a mini-batch, of which a rank reads the runs of its shards, one after the other.

    Args:
        order: of the epoch.
        positions: of the mini-batch.
        rows_of_whole: returns rows of the whole data set.
    """

    def __init__(self, order: ChunkOrder, positions: range, rows_of_whole: RowsOfWhole):
        self._order, self._positions, self._rows_of_whole = order, positions, rows_of_whole
        self._at = 0  # behind the last run

    @cached_property
    def _rows(self) -> Array:
        return self._rows_of_whole(self._order(np.arange(self._positions.start, self._positions.stop)))

    def positions_of(self, rows: Array) -> Array | None:
        """Return the positions of the next run of these rows; None if there is none.

        Rows that are drawn several times are thus never looked for before those that were read.
        """
        for start in (self._at + np.flatnonzero(self._rows[self._at :] == rows[0])).tolist():
            if np.array_equal(self._rows[start : start + len(rows)], rows):
                self._at = start + len(rows)
                return np.arange(start, self._at) + self._positions.start
        return None


class Load(NamedTuple):
    """The load of a unit.

    Args:
        unit: which one.
        needs: the number before which all other loads must be over and no longer needed, as it takes their memory.
        wanted: the rows of the unit to collect; None if the unit is kept in a slot.
    """

    unit: int
    needs: int
    wanted: CollectedRows | None = None


class EpochLoads:
    """The loads of an epoch. A part is a window, or a part of one that is too large for the slots.

    Attributes:
        parts: of the first part of the window of each unit, the number.
        load_of_unit: the number of the load of each unit; NO_LOAD where its window is too large for the slots.
        reads: how often each unit of a window is read.

    Args:
        order: of the epoch.
        units: number of units of the data set.
        slots: number of slots.
        collected_rows: number of rows for which there is memory if they are collected.
    """

    def __init__(self, order: ChunkOrder, units: int, slots: int, collected_rows: int):
        self._order, self._slots = order, slots
        in_order, counts = order.units, order.unit_counts
        sizes = np.diff(order.window_borders)
        self._fits = counts <= slots
        self.reads = np.where(self._fits, 1, -(-sizes // max(1, collected_rows)))
        windows = np.repeat(np.arange(len(counts)), self.reads)
        first_parts = np.cumsum(self.reads) - self.reads
        within = np.arange(len(windows)) - first_parts[windows]
        self.positions = np.append(
            order.window_borders[:-1][windows] + sizes[windows] * within // self.reads[windows], order.size
        )
        is_loaded = self._fits | (collected_rows > 0)  # else its rows are read anew for each mini-batch
        loads = (counts * is_loaded)[windows]
        self.starts = np.concatenate([[0], np.cumsum(loads)])  # the first load of each part
        first_units = (np.cumsum(counts) - counts)[windows] - self.starts[:-1]
        self.units = in_order[np.arange(self.starts[-1]) + np.repeat(first_units, loads)]
        self.left_out = int((~is_loaded).sum())  # number of windows
        self._windows = windows
        self.parts, self.load_of_unit = np.zeros(units, np.int64), np.full(units, NO_LOAD)
        self.parts[in_order] = np.repeat(first_parts, counts)
        kept = np.repeat(self._fits[windows], loads)
        self.load_of_unit[self.units[kept]] = np.flatnonzero(kept)

    def part_of(self, positions: Array | int) -> Array:
        """Return the parts that positions lie in."""
        return np.asarray(np.searchsorted(self.positions, positions, side="right") - 1)

    def start_of(self, position: int) -> int:
        """Return the first load of the part of a position; that behind all others for the end of the epoch."""
        return int(self.starts[-1] if position >= self._order.size else self.starts[self.part_of(position)])

    def is_collected(self, part: int) -> bool:
        """Return True if the rows of a part are collected from units, so that these have no slots."""
        return not self._fits[self._windows[part]] and bool(self.starts[part] < self.starts[part + 1])

    @property
    def ends_collected(self) -> bool:
        """Return True if the rows of the last part are collected."""
        return self.is_collected(len(self._windows) - 1)

    def loads(self, first: int, shift: int, rows_of_whole: RowsOfWhole, needs: int = 0) -> Iterator[Load]:
        """Yield the loads from one on.

        Args:
            first: number of the load.
            shift: what is to be added to numbers.
            rows_of_whole: returns rows of the whole data set.
            needs: the number before which all other loads must be over in any case.
        """
        for part in range(int(np.searchsorted(self.starts, first, side="right")) - 1, len(self._windows)):
            inside = range(max(first, int(self.starts[part])), int(self.starts[part + 1]))
            units = self.units[inside.start : inside.stop].tolist()
            if self.is_collected(part):
                positions = range(int(self.positions[part]), int(self.positions[part + 1]))
                wanted = CollectedRows(self._order, positions, rows_of_whole)
                yield from (Load(unit, shift + inside.start, wanted) for unit in units)
                needs = shift + inside.stop
            else:
                numbered = zip(inside, units, strict=True)
                yield from (Load(unit, max(needs, shift + number - self._slots + 1)) for number, unit in numbered)
