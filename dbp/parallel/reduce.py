"""The sum over all shards: gradient, loss sum, weight sum and metrics in one buffer, one message.

This is the plain form: every rank gets all partial sums and finishes the tree itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np

from dbp.parallel.comm import Communicator
from dbp.parallel.shards import Shards


class Sums:
    """What is summed over shards: a vector in the run's precision, and a few numbers in float64.

    Both lie in one run of bytes, so that one message carries them.
    """

    def __init__(self, size: int, dtype: Any, scalars: int, memory: np.ndarray[Any, Any] | None = None):
        vector_bytes = -(-size * np.dtype(dtype).itemsize // 8) * 8
        self.bytes = np.zeros(vector_bytes + 8 * scalars, np.uint8) if memory is None else memory
        self.vector = self.bytes[: size * np.dtype(dtype).itemsize].view(dtype)
        self.scalars = self.bytes[vector_bytes:].view(np.float64)

    def __iadd__(self, other: Sums) -> Sums:
        self.vector += other.vector
        self.scalars += other.scalars
        return self


Part = TypeVar("Part", Sums, int)  # what is added up in place


class TreeSum(Generic[Part]):
    """The sum along the binary tree over the numbers 0 .. S-1, of parts that arrive from left to right.

    A node (level, index) is the sum of the numbers from index 2^level to (index + 1) 2^level. Two parts
    are added as soon as both children of a node are there, so no more than one part a level is held.

    Args:
        spent: is given each part whose sum has gone into another, for use again.
    """

    def __init__(self, spent: Callable[[Part], None] | None = None):
        self.nodes: list[tuple[int, int, Part]] = []
        self._spent: Callable[[Part], None] = spent or (lambda part: None)

    def push(self, level: int, index: int, part: Part) -> None:
        """Take in the next part to the right."""
        while self.nodes and index % 2 == 1 and self.nodes[-1][:2] == (level, index - 1):
            left = self.nodes.pop()[2]
            left += part
            self._spent(part)
            level, index, part = level + 1, index // 2, left
        self.nodes.append((level, index, part))

    def total(self) -> Part:
        """The sum of all, when the last part is in: nodes without a right sibling move up unchanged."""
        while len(self.nodes) > 1:
            right = self.nodes.pop()[2]
            level, index, left = self.nodes.pop()
            left += right
            self.nodes.append((level, index, left))
        return self.nodes[0][2]


def subtrees(run: range) -> list[tuple[int, int]]:
    """The nodes (level, index) that remain when the shards of a run are summed as far as the tree allows."""
    tree: TreeSum[int] = TreeSum()  # of numbers that do not matter, for its nodes
    for number in run:
        tree.push(0, number, 0)
    return [(level, index) for level, index, _ in tree.nodes]


class Reduction:
    """The sums of a run: buffers for this rank's shards, and the total over all ranks.

    Args:
        comm: the ranks.
        shards: who computes which shard.
        size: length of the vector.
        dtype: type of the vector.
        scalars: how many numbers are summed besides.
    """

    def __init__(self, comm: Communicator, shards: Shards, size: int, dtype: Any, scalars: int):
        self.comm, self.shards, self._shape = comm, shards, (size, dtype, scalars)
        self._nodes = [subtrees(shards.of_rank(rank)) for rank in range(shards.ranks)]
        length = Sums(*self._shape).bytes.size
        self._counts = [length * len(nodes) for nodes in self._nodes]
        self._mine = np.zeros(self._counts[shards.rank], np.uint8)
        self._received = np.zeros(sum(self._counts), np.uint8)
        self._places = self._views(self._mine, len(self._nodes[shards.rank]))
        self._all_nodes = [node for of_rank in self._nodes for node in of_rank]
        self._parts = self._views(self._received, len(self._all_nodes))
        self._free: list[Sums] = []

    def buffer(self) -> Sums:
        """A buffer for one shard's sums, with whatever was in it before."""
        return self._free.pop() if self._free else Sums(*self._shape)

    def start(self) -> TreeSum[Sums]:
        """The sum over this rank's shards, to which each adds a buffer."""
        return TreeSum(spent=self._free.append)

    def _views(self, memory: np.ndarray[Any, Any], count: int) -> list[Sums]:
        return [Sums(*self._shape, memory=piece) for piece in np.split(memory, count)] if count else []

    def total(self, mine: TreeSum[Sums]) -> Sums:
        """The sum over the shards of all ranks, the same bits on every rank; valid until the next call."""
        assert [node[:2] for node in mine.nodes] == self._nodes[self.shards.rank]
        for (_, _, part), place in zip(mine.nodes, self._places, strict=True):
            place.bytes[:] = part.bytes
            self._free.append(part)
        self.comm.gather_bytes(self._mine, self._received, self._counts)
        tree: TreeSum[Sums] = TreeSum()
        for node, part in zip(self._all_nodes, self._parts, strict=True):
            tree.push(*node, part)
        return tree.total()
