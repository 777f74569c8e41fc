"""Vectors as long as all parameters: one copy for all ranks of a node where they can share memory.

Each rank then updates its own part of them, between two fences; else every rank has and updates a copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbp.parallel.comm import Bytes, Communicator
from dbp.parallel.shards import parts

Array = NDArray[Any]

PAGE = 4096  # bytes; what different ranks write lies in different pages, so that each page is near its writer
GRAIN = 1024  # elements; owners' parts begin at multiples of it
DIVIDED_FROM = 8192  # elements; a shorter vector is updated by every rank in less time than two barriers take


def pages(length: int) -> int:
    """The length in bytes of the whole pages that hold so many bytes."""
    return -(-length // PAGE) * PAGE


def cut(memory: Bytes, lengths: list[int]) -> list[Bytes]:
    """Pieces of these lengths, one after the other, each beginning with a page."""
    starts = np.cumsum([0, *map(pages, lengths)])
    return [memory[start : start + length] for start, length in zip(starts, lengths, strict=False)]


class Arena:
    """Hands out vectors of zeros for the weights and the state of an optimizer.

    Args:
        comm: the ranks.
        size: length of a vector.
        dtype: type of a vector.
        vectors: how many will be asked for; all of them are shared, or none.
        share: whether ranks of one node may share memory; the same bits come out of both ways.
    """

    def __init__(self, comm: Communicator, size: int, dtype: Any, vectors: int = 1, share: bool = True):
        self.comm, self.size, self.dtype = comm, size, np.dtype(dtype)
        self.may_share = share and comm.one_node
        lengths = [size * self.dtype.itemsize] * vectors
        self._memory = None
        if self.may_share and comm.size > 1 and size >= DIVIDED_FROM:
            self._memory = comm.shared_memory(sum(map(pages, lengths)))
        self._pieces = cut(self._memory.bytes, lengths) if self._memory else []
        self.owned = self._part(comm.rank) if self.shared else slice(0, size)

    @property
    def shared(self) -> bool:
        """Whether there is one copy for all ranks, of which each updates the part that it owns."""
        return self._memory is not None

    @property
    def description(self) -> str:
        """How many copies there are, and why."""
        if self.comm.size == 1:
            return "one copy"
        if self.shared:
            return f"one copy for {self.comm.size} ranks"
        if not self.comm.one_node:
            return "a copy a rank, as there are several nodes"
        reason = "it is small" if self.size < DIVIDED_FROM else "there is too little shared memory"
        return f"a copy a rank, as {reason if self.may_share else 'asked for'}"

    def _part(self, rank: int) -> slice:
        grains = parts(-(-self.size // GRAIN), self.comm.size, rank)
        return slice(min(grains.start * GRAIN, self.size), min(grains.stop * GRAIN, self.size))

    def vector(self) -> Array:
        """A new vector of zeros; collective."""
        if not self.shared:
            return np.zeros(self.size, self.dtype)
        vector: Array = self._pieces.pop(0).view(self.dtype)
        vector[self.owned] = 0  # the first to write to a page has it in the memory of its own socket
        self.fence()
        return vector

    def put(self, vector: Array, values: Array) -> None:
        """Write values that every rank knows into a vector; settle() or fence() must follow."""
        if not self.shared or self.comm.rank == 0:
            vector[:] = values

    def settle(self, vector: Array) -> None:
        """Give what rank 0 has put into a vector to all; collective."""
        if self.shared:
            self.fence()
        else:
            self.comm.broadcast_array(vector)

    def fence(self) -> None:
        """After it all ranks see what the owners have written; collective."""
        if self.shared:
            self.comm.barrier()

    def free(self) -> None:
        """Give shared memory back; collective. Its vectors must not be used any more."""
        if self._memory is not None:
            self._memory.free()
