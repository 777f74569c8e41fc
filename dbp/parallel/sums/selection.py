"""The choice between the sums over shards: the fastest that the ranks' nodes and memory allow."""

from __future__ import annotations

from dbp.parallel.ranks.wire import Wire
from dbp.parallel.shards import Shards
from dbp.parallel.sums.multi_node_sum import MultiNodeSum
from dbp.parallel.sums.plain_sum import PlainSum
from dbp.parallel.sums.shared_buffers import buffer_lengths, sharing_nodes
from dbp.parallel.sums.shared_memory_sum import SharedMemorySum
from dbp.parallel.sums.vector_sum import VectorSum
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.pages import page_bytes


def vector_sum_for(arena: Arena, shards: Shards, scalars: int, wire: Wire | None = None) -> VectorSum:
    """Return a sum of vectors as long as the arena's, by all ranks together if they may and can share it; collective.

    Args:
        arena: who owns which part of the vectors.
        shards: who computes which shard.
        scalars: how many scalars are summed with a vector.
        wire: the form in which numbers travel between nodes; by default as they are.
    """
    if arena.may_share and (arena.dealt or arena.comm.nodes.count == 1):
        memory = arena.memory(sum(map(page_bytes, buffer_lengths(arena, shards, scalars))))
        if memory is not None and sharing_nodes(arena).count > 1:
            return MultiNodeSum(arena, shards, scalars, memory, wire or Wire())
        if memory is not None:
            return SharedMemorySum(arena, shards, scalars, memory)
    return PlainSum(arena.comm, shards, arena.size, arena.dtype, scalars)
