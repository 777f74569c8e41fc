"""The sum over all shards of a long vector on several nodes, which can return before all of it has arrived.

Within a node ranks share their gradients' memory; between nodes parts are sent while backward still computes the rest,
see node_allreduce. Its bits are those of the plain sum because the tree is the same.
"""

from __future__ import annotations

import numpy as np

from dbp.parallel.machine.shared_memory import SharedMemory
from dbp.parallel.ranks.wire import Wire
from dbp.parallel.shards import Shards, pieces
from dbp.parallel.sums.division import Division
from dbp.parallel.sums.node_allreduce import NodeAllreduce
from dbp.parallel.sums.node_exchange import NodeExchange
from dbp.parallel.sums.node_scalars import NodeScalars
from dbp.parallel.sums.plain_sum import BLOCK_ELEMENTS
from dbp.parallel.sums.shared_buffers import SharedBuffers
from dbp.parallel.sums.shared_memory_sum import all_finite
from dbp.parallel.sums.staged_exchange import StagedExchange
from dbp.parallel.sums.summation_tree import TreeSum
from dbp.parallel.sums.vector_sum import SumBuffer, Total
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.node_groups import groups_of
from dbp.types import Array


class MultiNodeSum:
    """The sum over the shards of all nodes; see VectorSum. Besides, early_total() returns before all has arrived.

    Args:
        arena: who owns which part of the vector.
        shards: who computes which shard.
        scalars: how many scalars are summed with it.
        memory: of the lengths that buffer_lengths() returns.
        wire: the form in which numbers travel between nodes.
    """

    def __init__(self, arena: Arena, shards: Shards, scalars: int, memory: SharedMemory, wire: Wire):
        self._arena, self._comm = arena, arena.comm
        self._buffers = buffers = SharedBuffers(arena, shards, scalars, memory)
        assert buffers.received is not None
        self._vector, self._sums = buffers.received, np.zeros(scalars)
        for part in arena.owned:
            self._vector[part] = 0  # the first to write to a page has it in the memory of its own socket
        self._pieces = [self._vector[piece] for part in arena.owned for piece in pieces(part, BLOCK_ELEMENTS)]
        vectors = [part.vector for part in buffers.sets[0]]
        given = arena.comm, arena.deal, vectors, buffers.branches, self._vector, not arena.divided, wire
        groups = groups_of(buffers.nodes.count, arena.deal.pieces) if wire.is_exact else None
        exchange = NodeExchange(*given) if groups is None else StagedExchange(*given, groups)
        self._allreduce = NodeAllreduce(arena.comm, arena.deal, exchange, buffers.progress, wire)
        parts = [part.scalars for part in buffers.sets[0]]
        shared = buffers.flags[1], buffers.ready, buffers.scalar_words
        self._scalars = NodeScalars(arena.comm, buffers.nodes, buffers.branches, scalars, parts, *shared)
        buffers.publish()

    def start(self) -> TreeSum[SumBuffer]:
        """Start a new sum; see VectorSum.start()."""
        self._allreduce.start()
        return self._buffers.start(keep_last_separate=True)

    def buffer(self) -> SumBuffer:
        """Return a buffer for the next shard's sums; see VectorSum.buffer()."""
        return self._buffers.buffer()

    def on_written(self, start: int) -> None:
        """Send what can be sent, as the last shard's vector is complete from this element on."""
        self._allreduce.on_written(start)

    def total(self, mine: TreeSum[SumBuffer], divisor: int | None = None) -> Total:
        """Return the sum over the shards of all ranks; see VectorSum.total()."""
        assert self._buffers.hold(mine)
        self._scalars.start()
        self._allreduce.finish()
        self._scalars.wait()
        return self._complete(divisor)

    def early_total(self, mine: TreeSum[SumBuffer], divisor: int | None = None) -> Total:
        """Return total(), as soon as it is known to be finite; the vector may still be arriving.

        Args:
            mine: the sum over this rank's shards.
            divisor: the index of the scalar by whose sum the vector is divided, unless that sum is zero.
        """
        assert self._buffers.hold(mine)
        self._scalars.start(is_in_doubt=not self._allreduce.wait_until_added())
        self._allreduce.wait_for(0, self._scalars.has_arrived)
        sums, stop_requested, is_in_doubt = self._scalars.total()
        division = Division.by(sums, divisor, self._vector.dtype)
        if is_in_doubt or not division.cannot_overflow:
            self._allreduce.finish()
            return self._complete(divisor)
        self._sums[:] = sums
        arriving = ArrivingTotal(self._allreduce, self._arena, self._vector, division)
        return Total(self._vector, self._sums, True, stop_requested, arriving)

    def _complete(self, divisor: int | None) -> Total:
        """Divide the vector, all of which has arrived."""
        self._sums[:], stop_requested, _ = self._scalars.total()
        divide, finite = Division.by(self._sums, divisor, self._vector.dtype), True
        for piece in self._pieces:
            finite &= divide(piece, piece)
        finite = all_finite(self._arena, self._buffers, finite)
        return Total(self._vector, self._sums, finite, stop_requested)

    def is_total(self, vector: Array) -> bool:
        """Return True if this is the vector of a total; see VectorSum.is_total()."""
        return vector is self._vector

    def free(self) -> None:
        """Give the shared memory back; collective."""
        self._allreduce.free()
        self._buffers.free()


class ArrivingTotal:
    """A total that arrives from other nodes, bucket by bucket.

    Args:
        allreduce: that it comes from.
        arena: who owns which part of it.
        vector: where it arrives.
        division: applied to what has arrived.
    """

    def __init__(self, allreduce: NodeAllreduce, arena: Arena, vector: Array, division: Division):
        self._allreduce, self._arena, self._vector, self._division = allreduce, arena, vector, division
        self._arrived, self._start = 0, arena.size  # buckets that have arrived, and where the last of them begins
        self._is_complete = False

    def wait_for(self, part: slice) -> None:
        """Return when this part of the vector has arrived; send what can be sent in any case."""
        if self._is_complete:
            return
        self._allreduce.wait_for(self._arrived)
        while self._start > part.start:
            bucket = self._arena.deal.buckets[self._arrived]
            self._arrived, self._start = self._arrived + 1, bucket.start
            self._allreduce.wait_for(self._arrived)
            for owned in self._arena.owned_in(bucket):
                self._division.divide(self._vector[owned], self._vector[owned])

    def complete(self) -> None:
        """Wait for all of it, and for the ranks of this node, which may still send what this one has written."""
        if self._is_complete:
            return
        self.wait_for(slice(0, 0))
        self._allreduce.finish()
        self._arena.comm.node.barrier()
        self._is_complete = True
