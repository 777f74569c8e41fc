"""The gradients of tables: by the rows that the examples of a mini-batch look up.

In a training pass these rows are leaves of the graph, so that backward ends at them and never makes an array as large
as the table. What it has found for the positions of a shard is added up by row, and then over all shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.autodiff import Tensor
from dbp.autodiff.row_sums import added_by_row
from dbp.errors import UserError
from dbp.nn.masks import on_axes_of
from dbp.parallel import EXAMPLE_WEIGHT, Arena, Rows, RowSum, RowTable, Shards, no_rows
from dbp.types import Array


class RowGradient(NamedTuple):
    """The gradient of the cost by the rows of a table that were looked up; by all others it is zero.

    It is a RowGradient of optim/protocols.py.

    Args:
        name: of the parameter.
        sparse: True if only these rows are to be changed.
        part: its part of the flat weights.
        owned: the parts of the flat weights, cut between rows, with the rows that this rank updates.
        numbers: of the rows that this rank updates, in rising order.
        values: the gradient by these, (rows, units).
        square: the sum of squares over all rows, the same on every rank.
    """

    name: str
    sparse: bool
    part: slice
    owned: Sequence[slice]
    numbers: Array
    values: Array
    square: float


class RowGradients:
    """The gradients of all tables of a run, mini-batch by mini-batch.

    Args:
        arena: of the weights.
        shards: who computes which shard.
    """

    def __init__(self, arena: Arena, shards: Shards):
        self._tables, self._shards, self._dtype = arena.layout.row_tables, shards, arena.dtype
        self._owned = [deal.parts for deal in arena.row_deals]
        self._sum = RowSum(arena, shards)
        self.free = self._sum.free
        self._passes: dict[int, RowLookups] = {}  # by shard

    def lookups(self, weights: Array, shard: int) -> RowLookups:
        """Return what looks up rows in the pass of a shard; total() takes what it has found.

        Args:
            weights: the flat weights.
            shard: its number.
        """
        self._passes[shard] = RowLookups(self._tables, weights)
        return self._passes[shard]

    def total(self, scalars: Array) -> tuple[list[RowGradient], bool]:
        """Return the gradients of the cost, and whether they are finite; collective.

        Args:
            scalars: the sums over all shards, of which the example weight is one.
        """
        none = [no_rows(table.units, self._dtype) for table in self._tables]
        of_shards = [self._passes[n].rows or none if n in self._passes else none for n in self._shards.mine]
        self._passes.clear()
        total = self._sum.total(of_shards, float(scalars[EXAMPLE_WEIGHT]))
        found = [
            RowGradient(table.name, table.sparse, table.part, owned, *rows, square)
            for table, owned, rows, square in zip(self._tables, self._owned, total.rows, total.squares, strict=True)
        ]
        return found, total.finite


class _Lookup(NamedTuple):
    """Rows that a layer has looked up.

    Args:
        numbers: of the rows, (*positions).
        mask: which of the positions hold data, (examples, ...); None if all do.
        leaf: the rows, (*positions, units).
        gradient: memory for the gradient by them.
    """

    numbers: Array
    mask: Array | None
    leaf: Tensor
    gradient: Array

    def of_positions(self) -> Rows:
        """Return the number and the gradient of each position that holds data, which are no sums by row yet."""
        numbers, values = self.numbers.reshape(-1), self.gradient.reshape(self.numbers.size, -1)
        if self.mask is None:
            return Rows(numbers, values)
        valid = np.broadcast_to(on_axes_of(self.mask, self.numbers), self.numbers.shape).reshape(-1)
        return Rows(numbers[valid], values[valid])


class RowLookups:
    """The rows of tables that one pass looks up; see RowLookup in dbp/nn/call.py.

    Args:
        tables: of the layout.
        weights: the flat weights.

    Attributes:
        rows: the gradients by the rows of each table, after add_up(); empty before.
    """

    def __init__(self, tables: Sequence[RowTable], weights: Array):
        self._tables = {table.name: table.view(weights) for table in tables}
        self._found: dict[str, list[_Lookup]] = {table.name: [] for table in tables}
        self.rows: list[Rows] = []

    def __call__(self, name: str, numbers: Array, mask: Array | None) -> Tensor | None:
        """Return rows of a table as a leaf; None for a parameter whose gradient is not computed by rows."""
        if name not in self._found:
            return None
        if numbers.size and numbers.min() < 0:
            raise UserError(f"numbers of rows of {name!r} must not be negative, but one is {numbers.min()}")
        leaf = Tensor(self._tables[name][numbers])
        self._found[name].append(_Lookup(numbers.astype(np.int64, copy=False), mask, leaf, np.empty_like(leaf.value)))
        return leaf

    @property
    def leaves(self) -> list[Tensor]:
        """Return all rows, of one table after the other."""
        return [one.leaf for found in self._found.values() for one in found]

    @property
    def gradients(self) -> list[Any]:
        """Return the memory for the gradients by the leaves, in their order."""
        return [one.gradient for found in self._found.values() for one in found]

    def add_up(self) -> None:
        """Add up by row what is in the gradients, and forget these."""
        for name, table in self._tables.items():
            positions = [one.of_positions() for one in self._found[name]] or [no_rows(table.shape[1], table.dtype)]
            numbers, values = positions[0] if len(positions) == 1 else map(np.concatenate, zip(*positions, strict=True))
            self.rows.append(Rows(*added_by_row(numbers, values)))
        self._found.clear()
