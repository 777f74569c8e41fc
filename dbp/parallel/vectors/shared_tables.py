"""Tables of partial results, of which each rank computes some columns and all ranks read all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dbp.errors import UserError
from dbp.parallel.machine.shared_memory import SharedMemory
from dbp.parallel.ranks.comm import Communicator
from dbp.types import Array

Columns = Sequence[range]  # the columns that a rank computes


class SharedTables:
    """Float64 tables that ranks fill together, in memory that they share or by messages.

    Args:
        comm: the ranks.
        shared: True if the ranks of a node share tables, and each node computes all columns.
        divided: True if all ranks of all nodes divide the columns among themselves; else, if tables are not shared
            either, each rank computes all columns.
    """

    def __init__(self, comm: Communicator, shared: bool, divided: bool):
        self._comm, self._shared, self._divided = comm, shared and not divided, divided
        self._memory: list[SharedMemory] = []
        self._tables: list[Array] = []  # two take turns, so that a fast rank does not overwrite what a slow one reads

    def table(self, rows: int, columns: int) -> Array:
        """Return a table with arbitrary content; collective."""
        if not self._shared:
            return np.empty((rows, columns))
        if not self._tables or self._tables[0].size < rows * columns:
            self._grow(8 * rows * columns)
        self._tables.reverse()
        return self._tables[0][: rows * columns].reshape(rows, columns)

    def complete(self, table: Array, mine: Columns, of_ranks: Callable[[], Sequence[Columns]]) -> None:
        """Return when the columns of all ranks are in the table; collective.

        Args:
            table: with the columns that this rank has computed.
            mine: which these are.
            of_ranks: returns which columns each rank has computed.
        """
        if self._shared:
            self._comm.node.barrier()
        elif self._divided:
            self._gather(table, mine, of_ranks())

    def _grow(self, length: int) -> None:
        self.free()
        for _ in range(2):
            memory = self._comm.node.allocate(length)
            if memory is None:
                raise UserError(f"there is no shared memory for inner products, as {self._comm.node.refusal}")
            self._memory.append(memory)
            self._tables.append(memory.bytes.view(np.float64))

    def _gather(self, table: Array, mine: Columns, of_ranks: Sequence[Columns]) -> None:
        counts = [8 * len(table) * sum(map(len, ranges)) for ranges in of_ranks]
        sent = np.concatenate([table[:, :0], *(table[:, span.start : span.stop] for span in mine)], axis=1)
        received = np.empty(sum(counts), np.uint8)
        self._comm.gather_bytes(sent.reshape(-1).view(np.uint8), received, counts)
        ends = np.cumsum(counts)
        for ranges, end, count in zip(of_ranks, ends, counts, strict=True):
            found, column = received[end - count : end].view(np.float64).reshape(len(table), -1), 0
            for span in ranges:
                table[:, span.start : span.stop] = found[:, column : column + len(span)]
                column += len(span)

    def free(self) -> None:
        """Give shared memory back; collective."""
        for memory in self._memory:
            memory.free()
        self._memory, self._tables = [], []
