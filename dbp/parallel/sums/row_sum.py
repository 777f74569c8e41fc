"""The sum over all shards of gradients of a few rows of large tables, along the tree of all sums.

A shard has a gradient for each row that it has looked up; of a branch of the tree, a row is the sum of those of the
shards that have it. So the bits do not depend on who computes which shard, nor on rows that nobody has looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from dbp.parallel.shards import Shards
from dbp.parallel.sums.division import Division
from dbp.parallel.sums.rank_bytes import RankBytes
from dbp.parallel.sums.summation_tree import TreeSum, branches_of
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.row_deal import RowDeal
from dbp.parallel.vectors.shared_tables import SharedTables
from dbp.types import Array


class Rows(NamedTuple):
    """Some rows of a table.

    Args:
        numbers: of the rows, in rising order, each once.
        values: their elements, (rows, units).
    """

    numbers: Array
    values: Array


def no_rows(units: int, dtype: Any) -> Rows:
    """Return no rows of a table."""
    return Rows(np.zeros(0, np.int64), np.zeros((0, units), dtype))


def merged(left: Rows, right: Rows) -> Rows:
    """Return the sum of two sets of rows: of those that both have, and the others as they are."""
    numbers = np.concatenate([left.numbers, right.numbers])
    order = np.argsort(numbers, kind="stable")  # of two equal ones that on the left is first
    numbers = numbers[order]
    is_second = np.diff(numbers, prepend=-1) == 0
    first = np.flatnonzero(~is_second)
    values = np.concatenate([left.values, right.values])
    sums = values[order[first]]
    second = np.flatnonzero(is_second)
    sums[np.searchsorted(first, second) - 1] += values[order[second]]
    return Rows(numbers[first], sums)


class TableRows:
    """Rows of each of some tables, which a tree adds up.

    Args:
        rows: of each table.
    """

    def __init__(self, rows: Sequence[Rows]):
        self.rows = list(rows)

    def __iadd__(self, other: TableRows) -> TableRows:
        self.rows = [merged(*pair) for pair in zip(self.rows, other.rows, strict=True)]
        return self


class RowTotal(NamedTuple):
    """The sum over all shards of rows of some tables.

    Args:
        rows: of each table, those that this rank updates.
        squares: of each table, the sum of the squares of all rows, the same on every rank.
        finite: True if all rows of all ranks are finite.
    """

    rows: list[Rows]
    squares: list[float]
    finite: bool


class RowSum:
    """The sum over the shards of all ranks of rows of the tables among the parameters.

    Each rank receives the rows of all shards, and adds up those that it updates.

    Args:
        arena: of the parameters, who updates which rows.
        shards: who computes which shard.
    """

    def __init__(self, arena: Arena, shards: Shards):
        self._comm, self._shards, self._deals, self._dtype = arena.comm, shards, arena.row_deals, arena.dtype
        self._units = [deal.table.units for deal in self._deals]
        self._tables = SharedTables(arena.comm, arena.shared, divided=False)
        self._bytes = RankBytes(arena.comm, arena.shared)
        self._branches = [branches_of(shards.of_rank(rank)) for rank in range(shards.ranks)]
        self._header_bytes = [8 * len(self._units) * len(branches) for branches in self._branches]
        self._counts = np.zeros(sum(self._header_bytes) // 8, np.int64)  # of rows, by rank, branch and table
        self._first_indices = [
            0,
            *accumulate(length // 8 for length in self._header_bytes),
        ]  # of each rank

    def total(self, mine: Sequence[Sequence[Rows]], divisor: float) -> RowTotal:
        """Return the sums of rows, divided; collective.

        Args:
            mine: the rows of each table, of each shard of this rank.
            divisor: by which rows are divided, unless it is zero.
        """
        tree: TreeSum[TableRows] = TreeSum()
        for number, of_shard in zip(self._shards.mine, mine, strict=True):
            tree.push(0, number, TableRows(of_shard))
        parts = self._gathered([rows for *_, part in tree.branches for rows in part.rows])
        tree = TreeSum()
        for number, branch in enumerate(branch for of_rank in self._branches for branch in of_rank):
            of_branch = parts[number * len(self._deals) : (number + 1) * len(self._deals)]
            tree.push(*branch, TableRows([_owned(*pair) for pair in zip(of_branch, self._deals, strict=True)]))
        total = tree.total().rows
        division = Division(divisor, self._dtype)
        for rows in total:
            division.divide(rows.values, rows.values)
        squares = [self._squares(*pair) for pair in zip(self._deals, total, strict=True)]
        return RowTotal(total, [square for square, _ in squares], all(finite for _, finite in squares))

    def _squares(self, deal: RowDeal, rows: Rows) -> tuple[float, bool]:
        """Return the sum of squares of a table's rows on all ranks, chunk by chunk, and whether all are finite."""
        table = self._tables.table(2, deal.chunks)
        chunks, mine = deal.chunk_of(rows.numbers), slice(deal.position, None, deal.ranks)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.vecdot(rows.values, rows.values).astype(np.float64)
            if not np.isfinite(squares).all():
                large = ~np.isfinite(squares)  # above the largest float32
                squares[large] = np.square(rows.values[large], dtype=np.float64).sum(axis=1)
            table[0, mine] = np.bincount(chunks, squares, deal.chunks)[mine]
            table[1, mine] = 0 if np.isfinite(squares).all() else not np.isfinite(rows.values).all()
            self._tables.complete(table, (), lambda: ())
            return float(table[0].sum()), not table[1].any()

    def _gathered(self, mine: Sequence[Rows]) -> list[Rows]:
        """Return the rows of all branches and tables, by rank, given those of this rank; collective."""
        counts = np.array([len(rows.numbers) for rows in mine], np.int64)
        self._comm.gather_bytes(counts.view(np.uint8), self._counts.view(np.uint8), self._header_bytes)
        units = np.tile(self._units, len(self._counts) // len(self._units))
        lengths = 8 * self._counts + -(-self._counts * units * self._dtype.itemsize // 8) * 8
        ends = np.cumsum([0, *lengths])
        memory = self._bytes.begin(np.diff(ends[self._first_indices]).tolist())
        first = self._first_indices[self._comm.rank]
        for index, rows in enumerate(mine, first):
            target = self._view(memory[ends[index] - ends[first] : ends[index + 1] - ends[first]], index)
            target.numbers[:], target.values[:] = rows
        everyones = self._bytes.complete()
        return [self._view(everyones[ends[index] : ends[index + 1]], index) for index in range(len(lengths))]

    def _view(self, memory: Array, index: int) -> Rows:
        """Return the rows that lie in the bytes of one branch and table."""
        count, units = int(self._counts[index]), self._units[index % len(self._units)]
        numbers, values = memory[: 8 * count].view(np.int64), memory[8 * count :].view(self._dtype)
        return Rows(numbers, values[: count * units].reshape(count, units))

    def free(self) -> None:
        """Give the shared memory back; collective."""
        self._tables.free()
        self._bytes.free()


def _owned(rows: Rows, deal: RowDeal) -> Rows:
    """Return the rows that this rank updates."""
    if deal.ranks == 1:
        return rows
    mine = deal.mine(rows.numbers)
    return Rows(rows.numbers[mine], rows.values[mine])
