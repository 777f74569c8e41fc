"""A barrier for the ranks of one node: counters in shared memory.

Each rank counts its own arrivals. The first rank waits until all have arrived and then counts a release, for which the
others wait. Unlike in MPI_Barrier, a rank decides between two checks whether to yield its core. Reading a counter is
fast, so the barrier takes no longer than MPI's.
"""

from __future__ import annotations

import numpy as np

from dbp.parallel.machine.shared_memory import SharedMemory, memory_barrier

CACHE_LINE_BYTES = 64  # each counter has a line of its own, so that ranks do not slow each other down


class NodeBarrier:
    """The barrier as one rank sees it. After arrive(), has_passed() must return True before the next arrive().

    Args:
        memory: length(ranks) bytes, zero at first.
        ranks: number of ranks on the node.
        index: of this rank among them.
    """

    def __init__(self, memory: SharedMemory, ranks: int, index: int):
        counters = memory.bytes.view(np.int64).reshape(1 + ranks, -1)[:, 0]
        self._released, self._arrived = counters[:1].data, counters[1:].data
        self._others = range(1, ranks)  # all but the first rank
        self._index, self._count = index, 0

    @staticmethod
    def length(ranks: int) -> int:
        """Return how many bytes of memory a number of ranks needs."""
        return (1 + ranks) * CACHE_LINE_BYTES

    def arrive(self) -> None:
        """Show the other ranks that this one has arrived."""
        self._count += 1
        self._arrived[self._index] = self._count

    def has_passed(self) -> bool:
        """Return True if all ranks of the node have arrived."""
        if self._index > 0:
            return self._released[0] >= self._count
        for other in self._others:
            if self._arrived[other] < self._count:
                return False
        memory_barrier()  # what the others wrote before they arrived comes before the release
        self._released[0] = self._count
        return True
