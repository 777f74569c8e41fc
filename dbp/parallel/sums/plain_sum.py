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
from dbp.parallel.sums.summation_tree import TreeSum, branches_of, rounds
from dbp.parallel.sums.vector_sum import SumBuffer, Total
from dbp.types import Array

FLAG_BYTES = 8  # after a rank's sums; the first asks all ranks to stop
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
        all_branches = [branch for of_rank in self._branches for branch in of_rank]
        ends = np.cumsum(self._counts)
        self._vectors = self._received_vectors(ends) if size else []
        self._rounds = rounds(all_branches)  # many ranks' scalars are added in one operation a round
        self._words = self._received.view(np.float64)
        self._offsets = self._scalar_offsets(ends, length, scalars)
        self._flags = ends - FLAG_BYTES
        self._vector = self._vectors[0] if size else np.empty(0, dtype)  # where the tree's sum ends up
        self._pieces = [self._vector[piece] for piece in pieces(slice(0, size), BLOCK_ELEMENTS)]
        self._free: list[SumBuffer] = []

    def _received_vectors(self, ends: Array) -> list[Array]:
        """Return the vector of each part that is received."""
        of_ranks = zip(np.split(self._received, ends[:-1]), self._branches, strict=True)
        return [part.vector for own, branches in of_ranks for part in self._views(own, len(branches))]

    def _scalar_offsets(self, ends: Array, length: int, scalars: int) -> Array:
        """Return where the scalars of each part lie among the words that are received, (parts, scalars)."""
        of_ranks = zip(ends - FLAG_BYTES, self._branches, strict=True)
        stops = np.concatenate([end - length * np.arange(len(branches))[::-1] for end, branches in of_ranks])
        return stops.astype(np.intp)[:, None] // 8 - scalars + np.arange(scalars)

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
        scalars = self._words[self._offsets]
        for left, right in self._rounds:
            scalars[left] += scalars[right]
            for one, other in zip(left, right, strict=True) if self._vectors else ():
                self._vectors[one] += self._vectors[other]
        divide = Division.by(scalars[0], divisor, self._vector.dtype)
        finite = [divide(piece, piece) for piece in self._pieces]
        return Total(self._vector, scalars[0], all(finite), bool(self._received[self._flags].any()))

    def is_total(self, vector: Array) -> bool:
        """Return True if this is the vector of a total; see VectorSum.is_total()."""
        return vector is self._vector

    def free(self) -> None:
        """Do nothing: all memory is this rank's own."""

    def _views(self, memory: np.ndarray[Any, Any], count: int) -> list[SumBuffer]:
        if not count:
            return []
        return [SumBuffer(*self._shape, memory=piece) for piece in np.split(memory[:-FLAG_BYTES], count)]

    def _pack(self, mine: TreeSum[SumBuffer]) -> None:
        """Write what this rank sends to the others."""
        assert [branch[:2] for branch in mine.branches] == self._branches[self.shards.rank]
        for (_, _, part), target in zip(mine.branches, self._sent_parts, strict=True):
            target.bytes[:] = part.bytes
            self._free.append(part)
        self._sent[-FLAG_BYTES] = self.comm.asks_to_stop()
