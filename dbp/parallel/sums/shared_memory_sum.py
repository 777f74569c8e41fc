"""The sum over all shards of a long vector on one node: each rank adds up its own part of it.

The gradients of all ranks lie in memory that they share, written there by the backward pass. It is fast because each
element is added once, in pieces that stay in the cache, and its bits are those of the plain sum because the tree is
the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbp.parallel.machine.shared_memory import SharedMemory
from dbp.parallel.shards import Shards, pieces
from dbp.parallel.sums.division import Division
from dbp.parallel.sums.plain_sum import BLOCK_ELEMENTS
from dbp.parallel.sums.shared_buffers import SharedBuffers
from dbp.parallel.sums.summation_tree import Adder, Additions, TreeSum, additions
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
        plan, owned = additions(buffers.branches[0]), [p for part in arena.owned for p in pieces(part, BLOCK_ELEMENTS)]
        self._totals = [_OwnedParts(plan, parts, self._vector, owned) for parts in buffers.sets]
        mine = buffers.mine()[0].vector if arena.dealt and buffers.mine() else self._vector
        self._own_total = None if mine is self._vector else _OwnedParts(plan, buffers.sets[0], mine, owned)
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

    def total(self, mine: TreeSum[SumBuffer], divisor: int | None = None, whole: bool = True) -> Total:
        """Return the sum over the shards of all ranks; see VectorSum.total().

        Args:
            mine: the sum over this rank's shards.
            divisor: the index of the scalar by whose sum the vector is divided, unless that sum is zero.
            whole: False if the caller reads only what this rank owns. Then the vector lies in the rank's own buffer:
                else its next backward pass would have to fetch a part of that from the caches of the other ranks.
        """
        assert self._buffers.hold(mine)
        flags = self._flags[1]
        flags[self._buffers.position] = self._comm.asks_to_stop()
        self._comm.node.barrier()
        (self._scalars[:],) = self._scalar_adders[0].add()
        divide, finite = Division.by(self._scalars, divisor, self._vector.dtype), True
        total = self._totals[0] if whole or self._own_total is None else self._own_total
        for adder, piece in total.pieces:
            finite &= divide(adder.add()[0], piece)
        if self._arena.dealt:
            finite = all_finite(self._arena, self._buffers, finite)
        stop_requested = any(flags.tobytes())  # with less overhead than flags.any()
        if not self._arena.dealt:
            self._turn()
        return Total(total.vector, self._scalars, finite, stop_requested)

    def _turn(self) -> None:
        self._buffers.turn()
        self._totals.reverse()
        self._scalar_adders.reverse()
        self._flags.reverse()

    def is_total(self, vector: Array) -> bool:
        """Return True if this is the vector of a total; see VectorSum.is_total()."""
        return vector is self._vector or (self._own_total is not None and vector is self._own_total.vector)

    def free(self) -> None:
        """Give the shared memory back; collective."""
        self._buffers.free()


class _OwnedParts:
    """The parts of a vector that this rank adds up, piece by piece.

    Args:
        plan: the additions.
        parts: what is added.
        vector: for the sum; it may be that of a part.
        owned: the pieces.

    Attributes:
        pieces: what adds up each piece, and the piece of the vector.
    """

    def __init__(self, plan: Additions, parts: Sequence[SumBuffer], vector: Array, owned: Sequence[slice]):
        self.vector, spare = vector, dict[int, Array]()
        # The first sum may be written over the parts that it is of, but not over others.
        over_others = any(part.vector is vector for part in parts[2:])
        memory = np.empty(BLOCK_ELEMENTS, vector.dtype) if over_others else None
        self.pieces: list[tuple[Adder, Array]] = []
        for p in owned:
            piece = vector[p]
            target = piece if memory is None else memory[: len(piece)]
            self.pieces.append((Adder(plan, [part.vector[p] for part in parts], [target], spare), piece))


def all_finite(arena: Arena, buffers: SharedBuffers, finite: bool) -> bool:
    """Return True if all owners have found their parts finite; collective. No rank of this node reads buffers then."""
    buffers.flags[0, buffers.position] = finite
    arena.comm.node.barrier()
    found = 0 not in buffers.flags[0]
    return all(arena.comm.gather(found)) if arena.divided else found
