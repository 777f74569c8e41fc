"""The sum over all shards: gradient, loss sum, weight sum and metrics in one buffer, one message.

This is the plain form, which is fast for few numbers: every rank gets all partial sums and finishes the tree
itself. For long vectors the ranks divide the work, see reduce_shared.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np

from dbp.parallel.machine.shared_memory import own_memory
from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.shards import Shards, pieces
from dbp.parallel.sums.tree import TreeSum, subtrees
from dbp.types import Array

TOLD = 8  # bytes that follow a rank's sums: whether it asks for something, and whether it doubts the sums
SMALL = 1e-9  # by which 1e9 numbers, each below the root of the largest float32, can be divided when added up
BLOCK = 65536  # elements that are worked on at a time, so that what was added is still in the cache


class Arriving(Protocol):
    """A sum that is known to be of numbers before all of it is there; it comes from its end to its beginning."""

    def wait_for(self, part: slice) -> None:
        """Return when it is there in this part of the vector."""
        ...

    def complete(self) -> None:
        """Wait for all of it, if that is not done; collective, and before anything else that is."""
        ...


class Total(NamedTuple):
    """The sum over all shards; its vector may be a mean."""

    vector: Array
    scalars: Array
    finite: bool  # whether every element of the vector is a number
    asked: bool = False  # whether a rank has asked for something, see Communicator.asks
    arriving: Arriving | None = None  # what to wait for before the vector is read, unless it is all there


class Sums:
    """What is summed over shards: a vector in the run's precision, and a few numbers in float64.

    Both lie in one run of bytes, so that one message carries them.
    """

    def __init__(self, size: int, dtype: Any, scalars: int, memory: np.ndarray[Any, Any] | None = None):
        self.bytes = own_memory(self.length(size, dtype, scalars)) if memory is None else memory
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


class Division:
    """What is done to the sum of the vectors: it is divided by a scalar, and looked through for what is no number.

    Args:
        scalars: the sums of the numbers.
        number: which of them to divide by; None, and a sum of zero, divide by 1, which changes no bit.
        dtype: of the vectors.

    Attributes:
        keeps_small: whether numbers that float32 can hold the squares of, and sums of many of them, remain finite.
    """

    def __init__(self, scalars: Array, number: int | None, dtype: np.dtype[Any]):
        value = 1.0 if number is None else float(scalars[number]) or 1.0
        power_of_two = 1 <= value < 2**60 and math.frexp(value)[0] == 0.5  # its inverse is exact, and faster
        self._do = np.multiply if power_of_two else np.divide
        self._by = dtype.type(1 / value if power_of_two else value)
        self.keeps_small = abs(value) > SMALL

    def divide(self, source: Array, target: Array) -> None:
        """Target = source divided."""
        if source is not target or self._by != 1:
            self._do(source, self._by, target)

    def __call__(self, source: Array, target: Array) -> bool:
        """The same; whether all of it are numbers."""
        self.divide(source, target)
        # A sum of squares is finite only if all are; the other way round large numbers may fail.
        return math.isfinite(np.dot(target, target)) or bool(np.isfinite(target).all())


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
        length = Sums.length(*self._shape)
        self._counts = [length * len(nodes) + TOLD for nodes in self._nodes]
        self._mine = np.zeros(self._counts[shards.rank], np.uint8)
        self._received = np.zeros(sum(self._counts), np.uint8)
        self._places = self._views(self._mine, len(self._nodes[shards.rank]))
        self._all_nodes = [node for of_rank in self._nodes for node in of_rank]
        everyones = np.split(self._received, np.cumsum(self._counts)[:-1])
        views = [self._views(own, len(nodes)) for own, nodes in zip(everyones, self._nodes, strict=True)]
        self._parts = [part for of_rank in views for part in of_rank]
        self._told = [own[-TOLD:] for own in everyones]
        vector = self._parts[0].vector  # where the tree's sum ends up
        self._pieces = [vector[piece] for piece in pieces(slice(0, size), BLOCK)]
        self._free: list[Sums] = []

    early = False  # whether sums begin before all shards are there

    def buffer(self) -> Sums:
        """A buffer for one shard's sums, with whatever was in it before."""
        return self._free.pop() if self._free else Sums(*self._shape)

    def holds(self, vector: Array) -> bool:  # noqa: ARG002
        """Whether a vector is a sum that the next one is written over from its beginning on: only at its end here."""
        return False

    def start(self) -> TreeSum[Sums]:
        """The sum over this rank's shards, to which each adds a buffer."""
        return TreeSum(spent=self._free.append)

    def written(self, start: int) -> None:
        """The last shard's vector is complete from this element on; of no use here."""

    def _views(self, memory: np.ndarray[Any, Any], count: int) -> list[Sums]:
        return [Sums(*self._shape, memory=piece) for piece in np.split(memory[:-TOLD], count)] if count else []

    def total(self, mine: TreeSum[Sums], divisor: int | None = None, early: bool = False) -> Total:  # noqa: ARG002
        """The sum over the shards of all ranks, the same bits on every rank; valid until the next call.

        Args:
            mine: the sum over this rank's shards.
            divisor: the number of the scalar by whose sum the vector is divided, if that is not zero.
            early: whether it may be given before all of it is there: never here.
        """
        self._fill(mine)
        self.comm.gather_bytes(self._mine, self._received, self._counts)
        return self.end_total(divisor)

    def begin_total(self, mine: TreeSum[Sums], doubt: bool) -> Any:
        """Begin with total(); gives a message, and when that is done end_total() gives the total.

        Args:
            mine: the sum over this rank's shards.
            doubt: whether the total is not to count as finite on any rank.
        """
        self._fill(mine, doubt)
        return self.comm.gathering(self._mine, self._received, self._counts)

    def _fill(self, mine: TreeSum[Sums], doubt: bool = False) -> None:
        """Write what this rank tells to the others."""
        assert [node[:2] for node in mine.nodes] == self._nodes[self.shards.rank]
        for (_, _, part), place in zip(mine.nodes, self._places, strict=True):
            place.bytes[:] = part.bytes
            self._free.append(part)
        self._mine[-TOLD:] = 0
        self._mine[-TOLD : 2 - TOLD] = self.comm.asks(), doubt

    def end_total(self, divisor: int | None = None) -> Total:
        """The total of what all ranks have told."""
        tree: TreeSum[Sums] = TreeSum()
        for node, part in zip(self._all_nodes, self._parts, strict=True):
            tree.push(*node, part)
        total = tree.total()
        divide = Division(total.scalars, divisor, total.vector.dtype)
        finite = [divide(piece, piece) for piece in self._pieces]
        asked, doubted = (any(own[place] for own in self._told) for place in range(2))
        return Total(total.vector, total.scalars, all(finite) and not doubted, asked)

    def free(self) -> None:
        """Nothing to do: all memory is this rank's own."""
