"""The plain sum over all shards: every rank receives all partial sums and finishes the tree itself.

It is fast for few numbers. For long vectors the ranks of a node divide the work, see shared_memory_sum; and so do
nodes, see multi_node_sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.shards import Shards, pieces
from dbp.parallel.sums.division import Division
from dbp.parallel.sums.summation_tree import TreeSum, branches_of
from dbp.parallel.sums.vector_sum import SumBuffer, Total
from dbp.types import Array

FLAG_BYTES = 8  # after a rank's sums: flag 0 asks all ranks to stop, flag 1 says that its vector may not be finite
BLOCK_ELEMENTS = 65536  # that are worked on at a time, so that a sum is still in the cache when it is divided


class PlainSum:
    """The plain sum over all shards; see VectorSum.

    Args:
        comm: the ranks.
        shards: who computes which shard.
        size: length of the vector.
        dtype: type of the vector.
        scalars: how many scalars are summed with it.
    """

    def __init__(self, comm: Communicator, shards: Shards, size: int, dtype: Any, scalars: int):
        self.comm, self.shards, self._shape = comm, shards, (size, dtype, scalars)
        self._branches = [branches_of(shards.of_rank(rank)) for rank in range(shards.ranks)]
        length = SumBuffer.length(*self._shape)
        self._counts = [length * len(branches) + FLAG_BYTES for branches in self._branches]
        self._sent = np.zeros(self._counts[shards.rank], np.uint8)
        self._received = np.zeros(sum(self._counts), np.uint8)
        self._sent_parts = self._views(self._sent, len(self._branches[shards.rank]))
        self._all_branches = [branch for of_rank in self._branches for branch in of_rank]
        by_rank = np.split(self._received, np.cumsum(self._counts)[:-1])
        views = [self._views(own, len(branches)) for own, branches in zip(by_rank, self._branches, strict=True)]
        self._parts = [part for of_rank in views for part in of_rank]
        self._flags = [own[-FLAG_BYTES:] for own in by_rank]
        self._vector = self._parts[0].vector  # where the tree's sum ends up
        self._pieces = [self._vector[piece] for piece in pieces(slice(0, size), BLOCK_ELEMENTS)]
        self._free: list[SumBuffer] = []

    def start(self) -> TreeSum[SumBuffer]:
        """Start a new sum; see VectorSum.start()."""
        return TreeSum(recycle=self._free.append)

    def buffer(self) -> SumBuffer:
        """Return a buffer for one shard's sums; its content is arbitrary."""
        return self._free.pop() if self._free else SumBuffer(*self._shape)

    def total(self, mine: TreeSum[SumBuffer], divisor: int | None = None) -> Total:
        """Return the sum over the shards of all ranks; see VectorSum.total()."""
        self._pack(mine)
        self.comm.gather_bytes(self._sent, self._received, self._counts)
        return self.finish_total(divisor)

    def start_total(self, mine: TreeSum[SumBuffer], is_in_doubt: bool) -> Any:
        """Start total() without waiting; return a message. When it has arrived, finish_total() returns the total.

        Args:
            mine: the sum over this rank's shards.
            is_in_doubt: True if the total must not count as finite on any rank.
        """
        self._pack(mine, is_in_doubt)
        return self.comm.channel.gather_bytes(self._sent, self._received, self._counts)

    def finish_total(self, divisor: int | None = None) -> Total:
        """Return the total of what all ranks have sent."""
        tree: TreeSum[SumBuffer] = TreeSum()
        for branch, part in zip(self._all_branches, self._parts, strict=True):
            tree.push(*branch, part)
        total = tree.total()
        divide = Division.by(total.scalars, divisor, total.vector.dtype)
        finite = [divide(piece, piece) for piece in self._pieces]
        stop_requested, doubted = (any(own[number] for own in self._flags) for number in range(2))
        return Total(total.vector, total.scalars, all(finite) and not doubted, stop_requested)

    def is_total(self, vector: Array) -> bool:
        """Return True if this is the vector of a total; see VectorSum.is_total()."""
        return vector is self._vector

    def free(self) -> None:
        """Do nothing: all memory is this rank's own."""

    def _views(self, memory: np.ndarray[Any, Any], count: int) -> list[SumBuffer]:
        if not count:
            return []
        return [SumBuffer(*self._shape, memory=piece) for piece in np.split(memory[:-FLAG_BYTES], count)]

    def _pack(self, mine: TreeSum[SumBuffer], is_in_doubt: bool = False) -> None:
        """Write what this rank sends to the others."""
        assert [branch[:2] for branch in mine.branches] == self._branches[self.shards.rank]
        for (_, _, part), place in zip(mine.branches, self._sent_parts, strict=True):
            place.bytes[:] = part.bytes
            self._free.append(part)
        self._sent[-FLAG_BYTES:] = 0
        self._sent[-FLAG_BYTES : 2 - FLAG_BYTES] = self.comm.asks_to_stop(), is_in_doubt
