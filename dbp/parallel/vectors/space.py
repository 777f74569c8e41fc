"""Numbers that steer, from the arena's vectors: inner products and norms, with the same bits on every rank.

A vector is cut into fixed blocks. The owner of a block finds its part of a product, and every rank adds up the parts
in the order of blocks, so that the result does not depend on who owns what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from dbp.errors import UserError
from dbp.parallel.machine.shared_memory import SharedMemory
from dbp.parallel.shards import pieces
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.changes import Changes
from dbp.parallel.vectors.deal import GRAIN
from dbp.parallel.vectors.layout import Layout
from dbp.types import Array

Rows = Sequence[Array] | Array
AT_A_TIME = 8  # blocks of each vector: what several products need is then still in the cache


class Vectors:
    """What an optimizer asks about the vectors of an arena; all methods but jobs and combine are collective.

    Args:
        arena: where the vectors lie, and who owns which parts.
        layout: of the parameters in them.
    """

    def __init__(self, arena: Arena, layout: Layout):
        self.arena, self.layout = arena, layout
        self._memory: list[SharedMemory] = []
        self._tables: list[Array] = []  # two that take turns, so that a fast rank does not write what a slow one reads

    @property
    def owned(self) -> Sequence[slice]:
        """The parts of each vector that this rank updates; others may update the rest."""
        return self.arena.owned

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of the parameters, in the order in which they follow each other in a vector."""
        return self.layout.shapes

    @property
    def changing(self) -> Changes:
        """A context in which vectors are changed."""
        return self.arena.changes

    def fence(self, vector: Array) -> None:
        """After it all ranks see what the owners have written to a vector."""
        self.arena.fence(vector)

    def dot(self, a: Array, b: Array) -> float:
        """The inner product of two vectors."""
        return float(self.dots([a], [b])[0, 0])

    def dots(self, left: Rows, right: Rows) -> Array:
        """The inner products of each of some vectors with each of others, found in one pass over all of them.

        Args:
            left: vectors; where both are rows of an array, blocks are multiplied as matrices, which is faster.
            right: the others.

        Returns:
            float64, shape (left, right).
        """
        table = self._table(len(left) * len(right), self._blocks)
        cube = table.reshape(len(left), len(right), self._blocks)
        for run in self._whole_blocks:
            if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
                products = np.matmul(_in_blocks(left, run), _in_blocks(right, run).transpose(0, 2, 1))
                cube[:, :, run] = products.transpose(1, 2, 0)
            else:
                for piece in pieces(run, AT_A_TIME):
                    _add_products(left, right, piece, cube)
        if self._owns_rest:
            rest = slice(self._whole * GRAIN, None)
            cube[:, :, self._whole] = [[np.dot(a[rest], b[rest]) for b in right] for a in left]
        self._complete(table, self._ranges, lambda: self._everyones_blocks)
        found: Array = np.add.reduce(cube, axis=2)
        return found

    def combine(self, numbers: Array, rows: Array, target: Array) -> None:
        """The sum of the rows of an array times numbers, where it is owned; not collective.

        Args:
            numbers: one for each row.
            rows: vectors.
            target: where the sum goes; it may be one of the rows, if that one's number is 0.
        """
        factors = numbers.astype(rows.dtype)[None]
        for run in self._whole_blocks:
            for piece in pieces(run, AT_A_TIME):  # one product a block, so that no bit depends on who owns which
                place = target[piece.start * GRAIN : piece.stop * GRAIN].reshape(-1, 1, GRAIN)
                place[...] = 0  # as 0 times what was there before might be no number
                place[...] = np.matmul(factors, _in_blocks(rows, piece))
        if self._owns_rest:
            rest = slice(self._whole * GRAIN, None)
            target[rest] = 0
            target[rest] = np.matmul(factors, rows[:, rest])[0]

    def squares(self, vector: Array) -> Array:
        """The sum of squares of each parameter's elements, float64."""
        starts = self._segments
        table = self._table(1, len(starts))[0]
        for first, where, width in self._segment_runs:
            rows = vector[where].reshape(-1, width)
            with np.errstate(over="ignore"):
                sums = np.vecdot(rows, rows).astype(np.float64)
            if not np.isfinite(sums).all():
                large = ~np.isfinite(sums)  # more than float32 holds
                sums[large] = np.square(rows[large], dtype=np.float64).sum(axis=1)
            table[first : first + len(rows)] = sums
        self._complete(table[None], self._segment_ranges, lambda: self._everyones_segments)
        found = np.zeros(len(self._first_segments))
        filled = np.diff([*self._first_segments, len(starts)]) > 0  # reduceat gives an element for an empty run
        found[filled] = np.add.reduceat(table, self._first_segments[filled]) if filled.any() else 0
        return found

    def jobs(self, count: int) -> range:
        """Which of so many pieces of work, whose results go into vectors, this rank does for those that see them."""
        return self.arena.jobs(count)

    def fence_jobs(self, vector: Array, parts: Sequence[slice]) -> None:
        """After it all ranks see these parts of a vector, each written by who had its number among the jobs."""
        self.arena.fence_jobs(vector, parts)

    # --- one rank speaks for all ------------------------------------------------------------------------

    @property
    def first(self) -> bool:
        """Whether this is the rank that speaks for all."""
        return self.arena.comm.rank == 0

    def tell(self, value: Any) -> Any:
        """The first rank's value (any small object), on every rank."""
        return self.arena.comm.broadcast(value)

    def give(self, vector: Array) -> None:
        """What the first rank has written to the whole of a vector, for all."""
        self.arena.give(vector)

    def collected(self, vector: Array) -> Array:
        """The whole of a vector on the first rank; elsewhere what there is of it."""
        return self.arena.collected(vector)

    # --- blocks -----------------------------------------------------------------------------------------

    @property
    def _blocks(self) -> int:
        return -(-self.layout.size // GRAIN)

    @property
    def _whole(self) -> int:
        """Blocks without the last, if that is a short one."""
        return self.layout.size // GRAIN

    @cached_property
    def _whole_blocks(self) -> list[slice]:
        """Those of each part that this rank owns."""
        return [slice(run.start, min(run.stop, self._whole)) for run in self._ranges]

    @property
    def _owns_rest(self) -> bool:
        """Whether this rank owns the last block, and it is a short one."""
        return self._whole < self._blocks and bool(self._ranges) and self._ranges[-1].stop == self._blocks

    @cached_property
    def _ranges(self) -> list[range]:
        """The blocks of each part that this rank owns."""
        return [_blocks_of(part) for part in self.owned]

    @cached_property
    def _segments(self) -> Array:
        """Where blocks and parameters begin: the parts of a sum over one parameter."""
        begins = [0, *self.layout.ends][:-1]
        starts = set(range(0, self.layout.size, GRAIN)) | {start for start in begins if start < self.layout.size}
        return np.array(sorted(starts), np.int64)

    @cached_property
    def _first_segments(self) -> Array:
        """Of each parameter."""
        return np.searchsorted(self._segments, [0, *self.layout.ends][:-1])

    def _segments_of(self, part: slice) -> range:
        first, last = np.searchsorted(self._segments, [part.start, part.stop])
        return range(int(first), int(last))

    @cached_property
    def _segment_ranges(self) -> list[range]:
        return [self._segments_of(part) for part in self.owned]

    @cached_property
    def _segment_runs(self) -> list[tuple[int, slice, int]]:
        """Of what is owned: the first of segments of the same length that follow each other, where they lie, length."""
        runs: list[tuple[int, slice, int]] = []
        ends = [*self._segments[1:].tolist(), self.layout.size]
        for segments in self._segment_ranges:
            for number in segments:
                start, end = int(self._segments[number]), ends[number]
                if runs and runs[-1][1].stop == start and runs[-1][2] == end - start:
                    runs[-1] = (runs[-1][0], slice(runs[-1][1].start, end), end - start)
                else:
                    runs.append((number, slice(start, end), end - start))
        return runs

    def _table(self, rows: int, columns: int) -> Array:
        """Memory for the parts of some products, which the ranks of a node share if each finds some of them."""
        if not self._is_common:
            return np.empty((rows, columns))
        if not self._tables or self._tables[0].size < rows * columns:
            self._grow(8 * rows * columns)
        self._tables.reverse()
        return self._tables[0][: rows * columns].reshape(rows, columns)

    @property
    def _is_common(self) -> bool:
        return self.arena.shared and not self.arena.divided

    def _grow(self, length: int) -> None:
        self.free()
        for _ in range(2):
            memory = self.arena.comm.shared_memory(length)
            if memory is None:
                raise UserError(f"there is no shared memory for inner products, as {self.arena.comm.refused}")
            self._memory.append(memory)
            self._tables.append(memory.bytes.view(np.float64))

    def _complete(self, table: Array, mine: Sequence[range], everyones: Callable[[], list[list[range]]]) -> None:
        """Wait for what the other ranks of the node have found, or get what all ranks have."""
        if self._is_common:
            self.arena.comm.node_barrier()
        elif self.arena.divided:
            self._gather(table, mine, everyones())

    def _gather(self, table: Array, mine: Sequence[range], everyones: list[list[range]]) -> None:
        counts = [8 * len(table) * sum(map(len, ranges)) for ranges in everyones]
        sent = np.concatenate([table[:, :0], *(table[:, run.start : run.stop] for run in mine)], axis=1)
        received = np.empty(sum(counts), np.uint8)
        self.arena.comm.gather_bytes(sent.reshape(-1).view(np.uint8), received, counts)
        ends = np.cumsum(counts)
        for ranges, end, count in zip(everyones, ends, counts, strict=True):
            found, column = received[end - count : end].view(np.float64).reshape(len(table), -1), 0
            for run in ranges:
                table[:, run.start : run.stop] = found[:, column : column + len(run)]
                column += len(run)

    @cached_property
    def _everyones_blocks(self) -> list[list[range]]:
        return [[_blocks_of(part) for part in self.arena.owned_by(rank)] for rank in range(self.arena.comm.size)]

    @cached_property
    def _everyones_segments(self) -> list[list[range]]:
        return [[self._segments_of(part) for part in self.arena.owned_by(rank)] for rank in range(self.arena.comm.size)]

    def free(self) -> None:
        """Give shared memory back."""
        for memory in self._memory:
            memory.free()
        self._memory, self._tables = [], []


def _blocks_of(part: slice) -> range:
    return range(part.start // GRAIN, -(-part.stop // GRAIN))


def _in_blocks(rows: Array, run: slice) -> Array:
    """Some whole blocks of all rows, shape (blocks, rows, elements of a block); a view."""
    return rows[:, run.start * GRAIN : run.stop * GRAIN].reshape(len(rows), -1, GRAIN).transpose(1, 0, 2)


def _add_products(left: Rows, right: Rows, run: slice, cube: Array) -> None:
    """The products of some whole blocks; each vector on the left comes into the cache once for all on the right."""
    where = slice(run.start * GRAIN, run.stop * GRAIN)
    near = [b[where].reshape(-1, GRAIN) for b in right]
    for a, places in zip(left, cube, strict=True):
        row = a[where].reshape(-1, GRAIN)
        for b, place in zip(near, places, strict=True):
            np.vecdot(row, b, out=place[run])
