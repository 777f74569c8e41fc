"""The plain sum over all shards: every rank receives all partial sums and finishes the tree itself.

It is fast for few numbers. For long vectors the ranks of a node divide the work, see reduce_shared; and so do nodes,
see reduce_nodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.shards import Shards, pieces
from dbp.parallel.sums.division import Division
from dbp.parallel.sums.summation_tree import TreeSum, subtrees
from dbp.parallel.sums.vector_sum import Sums, Total
from dbp.types import Array

FLAG_BYTES = 8  # after a rank's sums: one flag that asks all ranks to stop, and one that doubts that sums are finite
BLOCK = 65536  # elements that are worked on at a time, so that a sum is still in the cache when it is divided


class Reduction:
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
        self._nodes = [subtrees(shards.of_rank(rank)) for rank in range(shards.ranks)]
        length = Sums.length(*self._shape)
        self._counts = [length * len(nodes) + FLAG_BYTES for nodes in self._nodes]
        self._sent = np.zeros(self._counts[shards.rank], np.uint8)
        self._received = np.zeros(sum(self._counts), np.uint8)
        self._sent_parts = self._views(self._sent, len(self._nodes[shards.rank]))
        self._all_nodes = [node for of_rank in self._nodes for node in of_rank]
        by_rank = np.split(self._received, np.cumsum(self._counts)[:-1])
        views = [self._views(own, len(nodes)) for own, nodes in zip(by_rank, self._nodes, strict=True)]
        self._parts = [part for of_rank in views for part in of_rank]
        self._flags = [own[-FLAG_BYTES:] for own in by_rank]
        self._vector = self._parts[0].vector  # where the tree's sum ends up
        self._pieces = [self._vector[piece] for piece in pieces(slice(0, size), BLOCK)]
        self._free: list[Sums] = []

    def start(self) -> TreeSum[Sums]:
        """Start a new sum; see VectorSum.start()."""
        return TreeSum(recycle=self._free.append)

    def buffer(self) -> Sums:
        """Return a buffer for one shard's sums; its content is arbitrary."""
        return self._free.pop() if self._free else Sums(*self._shape)

    def total(self, mine: TreeSum[Sums], divisor: int | None = None) -> Total:
        """Return the sum over the shards of all ranks; see VectorSum.total()."""
        self._pack(mine)
        self.comm.gather_bytes(self._sent, self._received, self._counts)
        return self.finish_total(divisor)

    def start_total(self, mine: TreeSum[Sums], doubt: bool) -> Any:
        """Start total() without waiting; return a message. When it has arrived, finish_total() returns the total.

        Args:
            mine: the sum over this rank's shards.
            doubt: True if the total must not count as finite on any rank.
        """
        self._pack(mine, doubt)
        return self.comm.channel.gather_bytes(self._sent, self._received, self._counts)

    def finish_total(self, divisor: int | None = None) -> Total:
        """Return the total of what all ranks have sent."""
        tree: TreeSum[Sums] = TreeSum()
        for node, part in zip(self._all_nodes, self._parts, strict=True):
            tree.push(*node, part)
        total = tree.total()
        divide = Division(total.scalars, divisor, total.vector.dtype)
        finite = [divide(piece, piece) for piece in self._pieces]
        stop_requested, doubted = (any(own[place] for own in self._flags) for place in range(2))
        return Total(total.vector, total.scalars, all(finite) and not doubted, stop_requested)

    def is_total(self, vector: Array) -> bool:
        """Return True if this is the vector of a total; see VectorSum.is_total()."""
        return vector is self._vector

    def free(self) -> None:
        """Do nothing: all memory is this rank's own."""

    def _views(self, memory: np.ndarray[Any, Any], count: int) -> list[Sums]:
        if not count:
            return []
        return [Sums(*self._shape, memory=piece) for piece in np.split(memory[:-FLAG_BYTES], count)]

    def _pack(self, mine: TreeSum[Sums], doubt: bool = False) -> None:
        """Write what this rank sends to the others."""
        assert [node[:2] for node in mine.nodes] == self._nodes[self.shards.rank]
        for (_, _, part), place in zip(mine.nodes, self._sent_parts, strict=True):
            place.bytes[:] = part.bytes
            self._free.append(part)
        self._sent[-FLAG_BYTES:] = 0
        self._sent[-FLAG_BYTES : 2 - FLAG_BYTES] = self.comm.asks_to_stop(), doubt
