"""Splits of a data set into training and validation examples, by seed and data alone."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dbp.checks import check_integer
from dbp.data import Dataset
from dbp.errors import UserError, unknown
from dbp.reading.order import Indices, Order
from dbp.reading.subset import PositionRange, RowSet, Subset
from dbp.types import Array

RANDOM, LAST, STRATIFIED, GROUPS = TAKES = ("random", "last", "stratified", "groups")
MAX_FOLDS = 1 << 16
MAX_EXACT = 1 << 32  # rows, up to which products of two numbers of rows fit 64 bits
FINE_PARTS = 1 << 24  # parts of which a fraction of more rows is a whole number
KEPT_UNITS = 256  # whose held-out rows are remembered
BLOCK_ROWS = 256  # of a table of marks, whose marked rows are counted


@dataclass(frozen=True)
class Split:
    """The part of the training data that is held out for validation.

    Args:
        part: the fraction that is held out; None with folds.
        take: which examples: "random" ones; the "last" ones; "stratified" for the same fraction of each class; "groups"
            for whole groups of examples, such as all of a patient.
        groups: the column whose values tell the groups apart.
        folds: number of parts of equal size, one of which is held out.
        fold: which one, from 1 to folds.
    """

    part: float | None = None
    take: str = RANDOM
    groups: str | None = None
    folds: int | None = None
    fold: int | None = None

    def __post_init__(self) -> None:
        key = "data.validation"
        if self.take not in TAKES:
            raise unknown(f"{key}.take", self.take, TAKES)
        if (self.take == GROUPS) != (self.groups is not None):
            raise UserError(
                f'{key}.groups names the column of groups with take = "groups", and is not set else, but take is '
                f"{self.take!r} and groups is {self.groups!r}; set both or none"
            )
        if (self.part is None) != (self.folds is not None) or (self.folds is None) != (self.fold is None):
            raise UserError(
                f"{key} must have part, such as 0.2, or folds and fold, such as 5 and 1, but has part {self.part}, "
                f"folds {self.folds} and fold {self.fold}; leave the others out, on the command line by all in one: "
                f"--set '{key}={{folds=5, fold=1}}'"
            )
        if self.part is not None and not 0 < self.part < 1:
            raise UserError(f"{key}.part must be a fraction between 0 and 1, but is {self.part}")
        if self.folds is not None and self.fold is not None:
            object.__setattr__(self, "folds", check_integer(f"{key}.folds", self.folds, 2, MAX_FOLDS))
            object.__setattr__(self, "fold", check_integer(f"{key}.fold", self.fold, 1, self.folds))

    def __str__(self) -> str:
        return f"fold {self.fold} of {self.folds}" if self.part is None else str(self.part)

    def positions(self, size: int) -> range:
        """Return which of `size` positions are held out, if those are consecutive."""
        if self.folds is None or self.fold is None:
            return range(size - self.held_out(size), size)
        return range(size * (self.fold - 1) // self.folds, size * self.fold // self.folds)

    def held_out(self, size: int) -> int:
        """Return how many of `size` examples are held out, but for take = "groups"."""
        return round(size * self.part) if self.part is not None else len(self.positions(size))

    def held_before(self, positions: Indices, size: int) -> Indices:
        """Return how many are held out before each position, if those are spread evenly over all `size` positions."""
        if self.folds is not None and self.fold is not None:
            return np.asarray((positions + (self.fold - 1)) // self.folds)
        assert self.part is not None
        held, of = (round(size * self.part), size) if size < MAX_EXACT else (round(self.part * FINE_PARTS), FINE_PARTS)
        return (positions.astype(np.uint64) * np.uint64(held) // np.uint64(of)).astype(np.int64)

    def is_held(self, positions: Indices, size: int) -> Indices:
        """Return which of some positions are held out, if those are spread evenly over all `size` positions."""
        return np.asarray(self.held_before(positions + 1, size) > self.held_before(positions, size))


def split(
    data: Dataset, how: Split, seed: int, borders: Array | None = None, held: Array | None = None
) -> tuple[Subset, Subset]:
    """Return training and validation examples.

    Args:
        data: the data set.
        how: what is held out.
        seed: of the run.
        borders: of the units that the data set is read in; None if any row is read alone.
        held: for "stratified" and "groups", the marks of the rows that are held out, eight rows a byte.

    Raises:
        UserError: one side would have no example.
    """
    size = len(data)
    sides: Sequence[RowSet]
    if held is not None:
        sides = [MarkedRows(bits, size, borders) for bits in (~held, held)]
    elif how.take == LAST:
        sides = [ConsecutiveRows(size, how.positions(size), borders, others) for others in (True, False)]
    elif borders is not None:
        parts = UnitSplit(how, seed, borders)
        sides = [UnitRows(parts, held_out) for held_out in (False, True)]
    else:
        order = Order(size, seed, "validation split")
        sides = [PositionRange(order, how.positions(size), others) for others in (True, False)]
    if not all(map(len, sides)):
        raise UserError(f"data.validation of {how} leaves no example on one side of {size}")
    train, validation = (Subset(data, rows) for rows in sides)
    return train, validation


# --- the last rows ------------------------------------------------------------------------------------


class ConsecutiveRows:
    """Consecutive rows, or all others.

    Args:
        size: number of all rows.
        rows: the rows.
        borders: of units of all rows, if there are any.
        others: True for all other rows.
    """

    def __init__(self, size: int, rows: range, borders: Array | None, others: bool):
        self._rows, self._others = rows, others
        self._size = size - len(rows) if others else len(rows)
        self.borders: Array | None = None
        if borders is not None:
            inside = np.clip(borders, rows.start, rows.stop) - rows.start
            self.borders = borders - inside if others else inside

    def __len__(self) -> int:
        return self._size

    def __call__(self, numbers: Array) -> Array:
        """Return the rows of the whole data set, given their numbers in this set."""
        shift = len(self._rows) * (numbers >= self._rows.start) if self._others else self._rows.start
        return np.asarray(numbers + shift)


# --- the same fraction of each unit -------------------------------------------------------------------


class UnitSplit:
    """A split of each unit of rows in the same proportion, without a table of rows.

    The units are permuted and their rows numbered in this order; within a unit the rows are permuted. The numbers that
    are held out are spread evenly, so units of few rows, even of one, are split in this proportion together.

    Args:
        how: what is held out.
        seed: of the run.
        borders: of the units.
    """

    def __init__(self, how: Split, seed: int, borders: Array):
        self._how, self._seed, self._size = how, seed, int(borders[-1])
        self.borders, sizes = borders, np.diff(borders)
        units = Order(len(sizes), seed, "validation split of chunks")(np.arange(len(sizes)))
        self._starts = np.empty(len(sizes), np.int64)
        self._starts[units] = np.cumsum(sizes[units]) - sizes[units]
        self._known: OrderedDict[int, tuple[Array, Array]] = OrderedDict()
        self._lock = threading.Lock()  # of what is known: a thread that reads ahead asks too
        ends = self._starts + sizes
        self.held = how.held_before(ends, self._size) - how.held_before(self._starts, self._size)

    def rows(self, unit: int) -> tuple[Array, Array]:
        """Return the rows of a unit that are not held out, and those that are, each in ascending order."""
        with self._lock:
            if unit not in self._known:
                while len(self._known) >= KEPT_UNITS:
                    self._known.popitem(last=False)
                self._known[unit] = self._split(unit)
            self._known.move_to_end(unit)
            return self._known[unit]

    def _split(self, unit: int) -> tuple[Array, Array]:
        indices = np.arange(self.borders[unit + 1] - self.borders[unit])
        held = self._how.is_held(self._starts[unit] + indices, self._size)
        inside = Order(len(indices), self._seed, "validation split of a chunk", unit)(indices)
        return self.borders[unit] + np.sort(inside[~held]), self.borders[unit] + np.sort(inside[held])


class UnitRows:
    """The rows on one side of a UnitSplit.

    Args:
        parts: the split.
        held_out: True for the rows that are held out.
    """

    def __init__(self, parts: UnitSplit, held_out: bool):
        self._parts, self._side = parts, int(held_out)
        counts = parts.held if held_out else np.diff(parts.borders) - parts.held
        self.borders: Array | None = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        assert self.borders is not None
        return int(self.borders[-1])

    def __call__(self, numbers: Array) -> Array:
        """Return the rows of the whole data set, given their numbers in this set."""
        assert self.borders is not None
        units = np.searchsorted(self.borders, numbers, side="right") - 1
        rows = np.empty(len(numbers), np.int64)
        for unit, indices in _indices_by_value(units):
            rows[indices] = self._parts.rows(unit)[self._side][numbers[indices] - self.borders[unit]]
        return rows


def _indices_by_value(values: Array) -> list[tuple[int, Array]]:
    """Return each value with its indices in an array."""
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(values[order])) + 1
    return [(int(values[indices[0]]), indices) for indices in np.split(order, cuts) if len(indices)]


# --- rows that are marked -----------------------------------------------------------------------------


class MarkedRows:
    """Rows that are marked in a table of bits.

    Args:
        marks: one bit for each of all rows, eight rows a byte.
        size: number of all rows.
        borders: of units of all rows, if there are any.
    """

    def __init__(self, marks: Array, size: int, borders: Array | None):
        blocks = -(-size // BLOCK_ROWS)
        padded = np.zeros(blocks * BLOCK_ROWS // 8, np.uint8)
        padded[: len(marks)] = marks
        if size % 8:
            padded[size // 8] &= 0xFF << (8 - size % 8) & 0xFF
        self._marks = padded.reshape(blocks, -1)
        counts = np.bitwise_count(self._marks).sum(axis=1, dtype=np.int64)
        self._before = np.concatenate([[0], np.cumsum(counts)])  # marked rows before each block
        self.borders = None if borders is None else self._count_before(borders)

    def __len__(self) -> int:
        return int(self._before[-1])

    def _count_before(self, rows: Array) -> Array:
        """Return how many marked rows there are before each of some rows."""
        blocks, inside = np.divmod(rows, BLOCK_ROWS)
        counted = self._before[blocks]
        for index in np.flatnonzero(inside):
            counted[index] += np.unpackbits(self._marks[blocks[index]], count=int(inside[index])).sum()
        return counted

    def __call__(self, numbers: Array) -> Array:
        """Return the rows of the whole data set, given their numbers in this set."""
        blocks = np.searchsorted(self._before, numbers, side="right") - 1
        nth = np.cumsum(np.unpackbits(self._marks[blocks], axis=1), axis=1, dtype=np.uint16)
        inside = (nth > (numbers - self._before[blocks])[:, None]).argmax(axis=1)
        return np.asarray(blocks * BLOCK_ROWS + inside)


def mark(size: int, values: Array, how: Split, seed: int) -> Array:
    """Return the marks of the rows that are held out for "stratified" or "groups", eight rows a byte.

    Args:
        size: number of rows.
        values: the class or group of each row.
        how: what is held out.
        seed: of the run.
    """
    kinds, codes = np.unique(values, return_inverse=True)
    counts = np.bincount(codes, minlength=len(kinds))
    if how.take == GROUPS:
        return np.packbits(_held_groups(counts, how, seed)[codes])
    held = np.zeros(size, bool)
    indices = _indices_by_value(codes)
    starts = np.cumsum(counts) - counts
    for kind, rows in indices:
        order = Order(len(rows), seed, "validation split of a class", kind)
        held[rows] = how.is_held(starts[kind] + order(np.arange(len(rows))), size)
    return np.packbits(held)


def _held_groups(counts: Array, how: Split, seed: int) -> Array:
    """Return which groups are held out: those that lie, in a random order, at the positions that are held out."""
    order = Order(len(counts), seed, "validation split of groups")(np.arange(len(counts)))
    middles = np.cumsum(counts[order]) - (counts[order] + 1) // 2
    positions = how.positions(int(counts.sum()))
    held = np.empty(len(counts), bool)
    held[order] = (positions.start <= middles) & (middles < positions.stop)
    return held
