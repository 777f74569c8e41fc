"""Buffers for gradients in memory that the ranks of a node share, so that nothing is copied or sent within a node."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dbp.parallel.machine.shared_memory import SharedMemory
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.shards import Shards
from dbp.parallel.sums.node_scalars import WORD, NodeScalars
from dbp.parallel.sums.summation_tree import Branch, TreeSum, branches_of
from dbp.parallel.sums.vector_sum import SumBuffer
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.pages import cut
from dbp.types import Array


class SharedBuffers:
    """The buffers of a node's ranks: one for each sum that a rank's shards leave in the tree.

    Args:
        arena: how long the vectors are, and which ranks share memory.
        shards: who computes which shard.
        scalars: how many scalars are summed with a vector.
        memory: of the lengths that buffer_lengths() returns.

    Attributes:
        nodes: the nodes within which ranks share memory.
        position: of this rank within its node.
        branches: for each node, which branches of the tree its ranks' buffers hold.
        sets: sets of buffers of all ranks of this node.
        flags: two rows, of one byte a rank.
        progress: one number per rank.
        ready: another.
        scalar_words: memory for the scalars of all nodes, if there are several.
        received: memory for the sum over nodes, if there are several.
    """

    def __init__(self, arena: Arena, shards: Shards, scalars: int, memory: SharedMemory):
        self._memory, self._comm, self._shape = memory, arena.comm, (arena.size, arena.dtype, scalars)
        self.nodes = sharing_nodes(arena)
        self.branches = _branches_of_nodes(self.nodes, shards)
        here = [_remaining(shards.of_rank(rank), self.nodes.count) for rank in self.nodes.runs[self.nodes.mine]]
        self.position = shards.rank - self.nodes.runs[self.nodes.mine].start
        flags, counters, words, *parts = cut(memory.bytes, buffer_lengths(arena, shards, scalars))
        self.flags, self.scalar_words = flags.reshape(2, -1), words.view(np.int64)
        self.progress, self.ready = counters.view(np.int64).reshape(2, -1)
        for of_ranks in (self.flags[0], self.flags[1], self.progress, self.ready):
            of_ranks[self.position] = 0
        self.scalar_words[:1] = 0
        self.received: Array | None = parts.pop().view(arena.dtype) if self.nodes.count > 1 else None
        sums, count = [SumBuffer(*self._shape, memory=part) for part in parts], sum(map(len, here))
        self.sets = [sums[i : i + count] for i in range(0, max(len(sums), 1), max(count, 1))]
        self._branches, self._first = here[self.position], sum(map(len, here[: self.position]))
        for number in range(len(self.sets)):
            for part in self.mine(number):
                part.bytes[:] = 0  # the first to write to a page has it in the memory of its own socket
        self._in_order = [self._shared(number, shards.mine) for number in range(len(self.sets))]
        self._last = shards.mine[-1] if shards.mine else None
        self._free: list[SumBuffer] = []
        self._next: Iterator[SumBuffer | None] = iter(())

    def _shared(self, number: int, shards: range) -> list[SumBuffer | None]:
        """Return for each of this rank's shards the shared buffer that its sum begins with, if it is the first."""
        first = {index << level: part for (level, index), part in zip(self._branches, self.mine(number), strict=True)}
        return [first.get(shard) for shard in shards]

    def mine(self, number: int = 0) -> list[SumBuffer]:
        """Return this rank's buffers in a set."""
        return self.sets[number][self._first : self._first + len(self._branches)]

    def publish(self) -> None:
        """Wait for all ranks of this node to have written their part of the memory, and use huge pages; collective."""
        self._comm.node.barrier()
        ranks = len(self.nodes.runs[self.nodes.mine])
        self._memory.use_huge_pages(0, len(self._memory.bytes), ranks, self.position)

    def start(self, keep_last_separate: bool = False) -> TreeSum[SumBuffer]:
        """Start a new sum over this rank's shards, in the first set.

        Args:
            keep_last_separate: True if the last shard is not added to the others.
        """
        self._next = iter(self._in_order[0])
        return TreeSum(recycle=self._free.append, separate=self._last if keep_last_separate else None)

    def buffer(self) -> SumBuffer:
        """Return the next shard's buffer: a shared one if it is the first of those whose sum ends up there."""
        shared = next(self._next)
        if shared is not None:
            return shared
        return self._free.pop() if self._free else SumBuffer(*self._shape)

    def hold(self, mine: TreeSum[SumBuffer]) -> bool:
        """Return True if the sums of this rank's shards are in its shared buffers of the first set."""
        return [part for *_, part in mine.branches] == self.mine()  # as buffers are equal only to themselves

    def turn(self) -> None:
        """Use the other set next."""
        self.sets.reverse()
        self._in_order.reverse()

    def free(self) -> None:
        """Give the shared memory back; collective."""
        self._memory.free()


def _remaining(span: range, nodes: int) -> list[Branch]:
    """Return the branches of the tree that the shards of a rank leave.

    On several nodes the last shard is not added to the others, so that their sum can be used while it is computed.
    """
    return branches_of(span, keep_last_separate=nodes > 1)


def sharing_nodes(arena: Arena) -> Nodes:
    """Return the nodes within which ranks share memory."""
    return arena.nodes if arena.dealt else arena.comm.nodes


def _branches_of_nodes(nodes: Nodes, shards: Shards) -> list[list[Branch]]:
    """Return for each node which branches of the tree the buffers of its ranks hold."""
    return [
        [branch for rank in ranks for branch in _remaining(shards.of_rank(rank), nodes.count)] for ranks in nodes.runs
    ]


def buffer_lengths(arena: Arena, shards: Shards, scalars: int) -> list[int]:
    """Return the bytes of what a node's ranks share.

    These are two flags and two numbers for each rank, and, of several nodes, the scalars; then each buffer; and the sum
    over nodes.
    """
    part, nodes = SumBuffer.length(arena.size, arena.dtype, scalars), sharing_nodes(arena)
    ranks = nodes.runs[nodes.mine]
    count = sum(len(_remaining(shards.of_rank(rank), nodes.count)) for rank in ranks)
    sets = 1 if arena.dealt or arena.comm.size == 1 else 2
    total = [arena.size * arena.dtype.itemsize] if nodes.count > 1 else []
    words = NodeScalars.word_count(_branches_of_nodes(nodes, shards), scalars) if nodes.count > 1 else 0
    return [2 * len(ranks), 16 * len(ranks), WORD * words, *[part] * count * sets, *total]
