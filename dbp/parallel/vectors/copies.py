"""Copies of an arena's vectors, taken between two steps, so that they can be saved while training continues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.parallel.machine.shared_memory import SharedMemory
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.pages import page_bytes
from dbp.types import Array


class Copies:
    """Memory for copies of some vectors on rank 0's node, whose ranks copy the parts that they own.

    Args:
        arena: of the vectors.
        count: number of vectors.
    """

    def __init__(self, arena: Arena, count: int):
        self._arena, comm = arena, arena.comm
        self._here = comm.nodes.mine == 0 if arena.shared else comm.rank == 0
        row = page_bytes(arena.size * arena.dtype.itemsize)
        self._memory: SharedMemory | None = None
        if arena.shared:
            self._memory = comm.node.allocate(count * row if self._here else page_bytes(1))
        if not self._here:
            self.rows: Array = np.zeros((count, 0), arena.dtype)
            return
        if self._memory is None:  # private memory of rank 0
            self._here = comm.rank == 0
            memory = np.zeros(count * row if self._here else 0, np.uint8)
        else:
            memory = self._memory.bytes
        self.rows = memory.view(arena.dtype).reshape(count, -1)[:, : arena.size]
        if self._here:
            for part in self._parts:
                self.rows[:, part] = 0  # now, as the first write to a page takes long

    @property
    def _parts(self) -> Sequence[slice]:
        """Return the parts that this rank copies."""
        return [slice(0, self._arena.size)] if self._memory is None else self._arena.owned

    def take(self, vectors: Sequence[Array]) -> None:
        """Copy the vectors; collective. Rank 0 may read the rows until they are taken again."""
        arena = self._arena
        for row, vector in zip(self.rows, vectors, strict=True):
            if arena.divided:
                arena.gather_vector(vector, row)
            elif self._here:
                for part in self._parts:
                    row[part] = vector[part]
        if arena.shared:
            arena.comm.node.barrier()

    def free(self) -> None:
        """Give shared memory back."""
        if self._memory is not None:
            self._memory.free()
