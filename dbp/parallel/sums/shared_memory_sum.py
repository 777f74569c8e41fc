"""The sum over all shards of a long vector on one node: each rank adds up its own part of it.

The gradients of all ranks lie in memory that they share, written there by the backward pass. It is fast because each
element is added once, in pieces that stay in the cache, and its bits are those of the plain sum because the tree is
the same.
"""

from __future__ import annotations

import numpy as np

from dbp.parallel.machine.shared_memory import SharedMemory
from dbp.parallel.shards import Shards, pieces
from dbp.parallel.sums.division import Division
from dbp.parallel.sums.plain_sum import BLOCK_ELEMENTS
from dbp.parallel.sums.shared_buffers import SharedBuffers
from dbp.parallel.sums.summation_tree import Adder, TreeSum, additions
from dbp.parallel.sums.vector_sum import SumBuffer, Total
from dbp.parallel.vectors.arena import Arena
from dbp.types import Array


class SharedMemorySum:
    """The sum over the shards of ranks that share memory; see VectorSum.

    A vector that the arena deals to the ranks is added up by its owners, between two barriers. A short one is added
    up by every rank for itself after one barrier; then several ranks have two sets of buffers that take turns, so
    that a fast rank does not overwrite what a slow one still reads.

    Args:
        arena: who owns which part of the vector.
        shards: who computes which shard.
        scalars: how many scalars are summed with it.
        memory: of the lengths that buffer_lengths() returns.
    """

    def __init__(self, arena: Arena, shards: Shards, scalars: int, memory: SharedMemory):
        self._arena, self._comm = arena, arena.comm
        self._buffers = buffers = SharedBuffers(arena, shards, scalars, memory)
        self._scalars = np.zeros(scalars)
        # Over the first buffer, which is not copied then; but other ranks may still need that one.
        in_place = arena.dealt or arena.comm.size == 1
        self._vector = buffers.sets[0][0].vector if in_place else np.zeros(arena.size, arena.dtype)
        owned = [piece for part in arena.owned for piece in pieces(part, BLOCK_ELEMENTS)]
        self._pieces = [self._vector[piece] for piece in owned]
        plan, spare = additions(buffers.branches[0]), dict[int, Array]()
        self._adders = [
            [Adder(plan, [s.vector[p] for s in parts], [self._vector[p]], spare) for p in owned]
            for parts in buffers.sets
        ]
        self._scalar_adders = [
            Adder(plan, [part.scalars for part in parts], [self._scalars], {}) for parts in buffers.sets
        ]
        self._flags = list(buffers.flags)  # if dealt, of what is finite and of who asks to stop; else one a set
        buffers.publish()

    def start(self) -> TreeSum[SumBuffer]:
        """Start a new sum; see VectorSum.start()."""
        if self._arena.dealt:
            self._comm.node.barrier()  # others may still read the last total, which lies in the first buffer
        return self._buffers.start()

    def buffer(self) -> SumBuffer:
        """Return a buffer for the next shard's sums; see VectorSum.buffer()."""
        return self._buffers.buffer()

    def total(self, mine: TreeSum[SumBuffer], divisor: int | None = None) -> Total:
        """Return the sum over the shards of all ranks; see VectorSum.total()."""
        assert self._buffers.hold(mine)
        flags = self._flags[1]
        flags[self._buffers.position] = self._comm.asks_to_stop()
        self._comm.node.barrier()
        (self._scalars[:],) = self._scalar_adders[0].add()
        divide, finite = Division.by(self._scalars, divisor, self._vector.dtype), True
        for adder, piece in zip(self._adders[0], self._pieces, strict=True):
            finite &= divide(adder.add()[0], piece)
        if self._arena.dealt:
            finite = all_finite(self._arena, self._buffers, finite)
        stop_requested = any(flags.tobytes())  # with less overhead than flags.any()
        if not self._arena.dealt:
            self._turn()
        return Total(self._vector, self._scalars, finite, stop_requested)

    def _turn(self) -> None:
        self._buffers.turn()
        self._adders.reverse()
        self._scalar_adders.reverse()
        self._flags.reverse()

    def is_total(self, vector: Array) -> bool:
        """Return True if this is the vector of a total; see VectorSum.is_total()."""
        return vector is self._vector

    def free(self) -> None:
        """Give the shared memory back; collective."""
        self._buffers.free()


def all_finite(arena: Arena, buffers: SharedBuffers, finite: bool) -> bool:
    """Return True if all owners have found their parts finite; collective. No rank of this node reads buffers then."""
    buffers.flags[0, buffers.position] = finite
    arena.comm.node.barrier()
    found = 0 not in buffers.flags[0]
    return all(arena.comm.gather(found)) if arena.divided else found
