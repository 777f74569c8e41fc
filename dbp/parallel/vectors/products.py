"""Global inner products and norms, bitwise identical on every rank. Optimizers base their decisions on them.

A vector is cut into fixed blocks. The owner of a block computes its partial product, and every rank adds up all partial
products in the order of blocks, so that the result does not depend on who owns which block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from dbp.parallel.shards import pieces
from dbp.parallel.vectors.deal import GRAIN
from dbp.parallel.vectors.layout import Layout
from dbp.parallel.vectors.shared_tables import Columns, SharedTables
from dbp.types import Array

Rows = Sequence[Array] | Array  # vectors, or an array whose rows they are; as in optim/protocols.py
BLOCKS_AT_A_TIME = 8  # of each vector: what several products need is then still in the cache


class Products(ABC):
    """Inner products and norms of vectors that ranks own in parts; all methods but combine() are collective.

    Attributes:
        layout: of the parameters in a vector.
        owned: the parts of each vector that this rank owns.
        ranks: how many ranks there are.
        tables: for the partial products.
    """

    layout: Layout
    owned: Sequence[slice]
    ranks: int
    tables: SharedTables

    @abstractmethod
    def owned_by(self, rank: int) -> Sequence[slice]:
        """Return the parts of each vector that a rank owns, if they are divided among all ranks."""

    def dot(self, a: Array, b: Array) -> float:
        """Return the inner product of two vectors."""
        return float(self.dots([a], [b])[0, 0])

    def dots(self, left: Rows, right: Rows) -> Array:
        """Return the inner products of each vector on the left with each on the right, in one pass over all of them.

        Args:
            left: vectors; if both are rows of an array, blocks are multiplied as matrices, which is faster.
            right: vectors.

        Returns:
            float64, shape (left, right).
        """
        table = self.tables.table(len(left) * len(right), self._block_count)
        cube = table.reshape(len(left), len(right), self._block_count)
        for span in self._full_blocks:
            if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
                products = np.matmul(_in_blocks(left, span), _in_blocks(right, span).transpose(0, 2, 1))
                cube[:, :, span] = products.transpose(1, 2, 0)
            else:
                for piece in pieces(span, BLOCKS_AT_A_TIME):
                    _write_products(left, right, piece, cube)
        if self._owns_short_block:
            rest = slice(self._full_block_count * GRAIN, None)
            cube[:, :, self._full_block_count] = [[np.dot(a[rest], b[rest]) for b in right] for a in left]
        self.tables.complete(table, self._owned_blocks, lambda: self._blocks_of_ranks)
        found: Array = np.add.reduce(cube, axis=2)
        return found

    def combine(self, coefficients: Array, rows: Array, target: Array) -> None:
        """Write the linear combination of the rows of an array where it is owned; not collective.

        Args:
            coefficients: one for each row.
            rows: vectors.
            target: the vector to be written; it may be one of the rows, if its coefficient is 0.
        """
        factors = coefficients.astype(rows.dtype)[None]
        for span in self._full_blocks:
            for piece in pieces(
                span, BLOCKS_AT_A_TIME
            ):  # one product a block, so that no bit depends on who owns which
                target_block = target[piece.start * GRAIN : piece.stop * GRAIN].reshape(-1, 1, GRAIN)
                target_block[...] = 0  # as 0 times the old content might be NaN
                target_block[...] = np.matmul(factors, _in_blocks(rows, piece))
        if self._owns_short_block:
            rest = slice(self._full_block_count * GRAIN, None)
            target[rest] = 0
            target[rest] = np.matmul(factors, rows[:, rest])[0]

    def squares(self, vector: Array) -> Array:
        """Return the sum of squares of each parameter's elements, float64."""
        starts = self._segment_starts
        table = self.tables.table(1, len(starts))
        for first, where, width in self._segment_spans:
            rows = vector[where].reshape(-1, width)
            with np.errstate(over="ignore"):
                sums = np.vecdot(rows, rows).astype(np.float64)
            if not np.isfinite(sums).all():
                large = ~np.isfinite(sums)  # above the largest float32
                sums[large] = np.square(rows[large], dtype=np.float64).sum(axis=1)
            table[0, first : first + len(rows)] = sums
        self.tables.complete(table, self._owned_segments, lambda: self._segments_of_ranks)
        found = np.zeros(len(self._first_segments))
        filled = np.diff([*self._first_segments, len(starts)]) > 0  # reduceat returns an element for an empty span
        found[filled] = np.add.reduceat(table[0], self._first_segments[filled]) if filled.any() else 0
        return found

    # --- blocks of a fixed length -----------------------------------------------------------------------

    @property
    def _block_count(self) -> int:
        return -(-self.layout.size // GRAIN)

    @property
    def _full_block_count(self) -> int:
        """Return the number of blocks without the last, if that is a short one."""
        return self.layout.size // GRAIN

    @cached_property
    def _full_blocks(self) -> list[slice]:
        """Return the full blocks of each part that this rank owns."""
        return [slice(span.start, min(span.stop, self._full_block_count)) for span in self._owned_blocks]

    @property
    def _owns_short_block(self) -> bool:
        """Return True if this rank owns the last block, and it is a short one."""
        blocks = self._owned_blocks
        return self._full_block_count < self._block_count and bool(blocks) and blocks[-1].stop == self._block_count

    @cached_property
    def _owned_blocks(self) -> Columns:
        return [_blocks_of(part) for part in self.owned]

    @cached_property
    def _blocks_of_ranks(self) -> list[Columns]:
        return [[_blocks_of(part) for part in self.owned_by(rank)] for rank in range(self.ranks)]

    # --- segments: blocks cut where parameters begin ------------------------------------------------------

    @cached_property
    def _segment_starts(self) -> Array:
        """Return where blocks and parameters begin."""
        begins = [0, *self.layout.ends][:-1]
        starts = set(range(0, self.layout.size, GRAIN)) | {start for start in begins if start < self.layout.size}
        return np.array(sorted(starts), np.int64)

    @cached_property
    def _first_segments(self) -> Array:
        """Return the first segment of each parameter."""
        return np.searchsorted(self._segment_starts, [0, *self.layout.ends][:-1])

    def _segments_of(self, part: slice) -> range:
        first, last = np.searchsorted(self._segment_starts, [part.start, part.stop])
        return range(int(first), int(last))

    @cached_property
    def _owned_segments(self) -> Columns:
        return [self._segments_of(part) for part in self.owned]

    @cached_property
    def _segment_spans(self) -> list[tuple[int, slice, int]]:
        """Return the spans of owned segments of equal length, each with its first number, its range and that length."""
        spans: list[tuple[int, slice, int]] = []
        ends = [*self._segment_starts[1:].tolist(), self.layout.size]
        for segments in self._owned_segments:
            for number in segments:
                start, end = int(self._segment_starts[number]), ends[number]
                if spans and spans[-1][1].stop == start and spans[-1][2] == end - start:
                    spans[-1] = (spans[-1][0], slice(spans[-1][1].start, end), end - start)
                else:
                    spans.append((number, slice(start, end), end - start))
        return spans

    @cached_property
    def _segments_of_ranks(self) -> list[Columns]:
        return [[self._segments_of(part) for part in self.owned_by(rank)] for rank in range(self.ranks)]


def _blocks_of(part: slice) -> range:
    return range(part.start // GRAIN, -(-part.stop // GRAIN))


def _in_blocks(rows: Array, span: slice) -> Array:
    """Return some full blocks of all rows, shape (blocks, rows, elements of a block); a view."""
    return rows[:, span.start * GRAIN : span.stop * GRAIN].reshape(len(rows), -1, GRAIN).transpose(1, 0, 2)


def _write_products(left: Rows, right: Rows, span: slice, cube: Array) -> None:
    """Write the products of some full blocks; each vector on the left is read once for all on the right."""
    where = slice(span.start * GRAIN, span.stop * GRAIN)
    blocks = [b[where].reshape(-1, GRAIN) for b in right]
    for a, row_of_cube in zip(left, cube, strict=True):
        row = a[where].reshape(-1, GRAIN)
        for b, out in zip(blocks, row_of_cube, strict=True):
            np.vecdot(row, b, out=out[span])
