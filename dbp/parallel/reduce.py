"""The sum over all shards: gradient, loss sum, weight sum and metrics in one buffer, one message.

This is the plain form, for any number of nodes: every rank gets all partial sums and finishes the tree
itself. The ranks of one node do it together, see reduce_shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from dbp.parallel.arena import Array
from dbp.parallel.comm import Communicator
from dbp.parallel.shards import Shards

BLOCK = 32768  # elements that are worked on at a time, so that they stay in the cache


class Total(NamedTuple):
    """The sum over all shards; its vector may be a mean."""

    vector: Array
    scalars: Array
    finite: bool  # whether every element of the vector is a number


class Sums:
    """What is summed over shards: a vector in the run's precision, and a few numbers in float64.

    Both lie in one run of bytes, so that one message carries them.
    """

    def __init__(self, size: int, dtype: Any, scalars: int, memory: np.ndarray[Any, Any] | None = None):
        self.bytes = np.zeros(self.length(size, dtype, scalars), np.uint8) if memory is None else memory
        self.vector = self.bytes[: size * np.dtype(dtype).itemsize].view(dtype)
        self.scalars = self.bytes[len(self.bytes) - 8 * scalars :].view(np.float64)

    @staticmethod
    def length(size: int, dtype: Any, scalars: int) -> int:
        """In bytes, of which the numbers' begin at a multiple of 8."""
        return -(-size * int(np.dtype(dtype).itemsize) // 8) * 8 + 8 * scalars

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


def blocks(run: slice) -> list[slice]:
    """A run of elements in pieces that fit the cache."""
    return [slice(start, min(start + BLOCK, run.stop)) for start in range(run.start, run.stop, BLOCK)]


class Division:
    """What is done to the sum of the vectors: it is divided by a scalar, and looked through for what is no number.

    Args:
        scalars: the sums of the numbers.
        number: which of them to divide by; None, and a sum of zero, divide by 1, which changes no bit.
        dtype: of the vectors.
    """

    def __init__(self, scalars: Array, number: int | None, dtype: np.dtype[Any]):
        value = 1.0 if number is None else float(scalars[number]) or 1.0
        power_of_two = 1 <= value < 2**60 and math.frexp(value)[0] == 0.5  # its inverse is exact, and faster
        self._do = np.multiply if power_of_two else np.divide
        self._by = dtype.type(1 / value if power_of_two else value)

    def __call__(self, source: Array, target: Array, zeros: Array) -> bool:
        """Target = source divided; whether all of it are numbers."""
        self._do(source, self._by, target)
        return bool(np.vdot(target, zeros) == 0)  # exact, as infinity times zero is not a number; vdot never warns


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
        vector = self._parts[0].vector  # where the tree's sum ends up
        zeros = np.zeros(min(size, BLOCK), dtype)
        self._pieces = [(vector[b], zeros[: b.stop - b.start]) for b in blocks(slice(0, size))]
        self._free: list[Sums] = []

    def buffer(self) -> Sums:
        """A buffer for one shard's sums, with whatever was in it before."""
        return self._free.pop() if self._free else Sums(*self._shape)

    def start(self) -> TreeSum[Sums]:
        """The sum over this rank's shards, to which each adds a buffer."""
        return TreeSum(spent=self._free.append)

    def _views(self, memory: np.ndarray[Any, Any], count: int) -> list[Sums]:
        return [Sums(*self._shape, memory=piece) for piece in np.split(memory, count)] if count else []

    def total(self, mine: TreeSum[Sums], divisor: int | None = None) -> Total:
        """The sum over the shards of all ranks, the same bits on every rank; valid until the next call.

        Args:
            mine: the sum over this rank's shards.
            divisor: the number of the scalar by whose sum the vector is divided, if that is not zero.
        """
        assert [node[:2] for node in mine.nodes] == self._nodes[self.shards.rank]
        for (_, _, part), place in zip(mine.nodes, self._places, strict=True):
            place.bytes[:] = part.bytes
            self._free.append(part)
        self.comm.gather_bytes(self._mine, self._received, self._counts)
        tree: TreeSum[Sums] = TreeSum()
        for node, part in zip(self._all_nodes, self._parts, strict=True):
            tree.push(*node, part)
        total = tree.total()
        divide = Division(total.scalars, divisor, total.vector.dtype)
        finite = [divide(piece, piece, zeros) for piece, zeros in self._pieces]
        return Total(total.vector, total.scalars, all(finite))

    def free(self) -> None:
        """Nothing to do: all memory is this rank's own."""
