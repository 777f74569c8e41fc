"""A barrier of the ranks of one node, by counters in memory that they share.

Each rank counts its own arrivals. The first rank waits until all have arrived and then counts a release, for which the
others wait. Unlike in MPI_Barrier a rank decides between two looks whether to yield its core; and a look at a counter
is fast, so the barrier takes no longer than MPI's.
"""

from __future__ import annotations

import numpy as np

from dbp.parallel.machine.shared_memory import SharedMemory, fence

LINE = 64  # bytes of a cache line: ranks that count do not disturb each other


class NodeBarrier:
    """The barrier as one rank sees it. After arrive(), has_passed() must return True before the next arrive().

    Args:
        memory: length(ranks) bytes, zero at first.
        ranks: of the node.
        place: of this rank among them.
    """

    def __init__(self, memory: SharedMemory, ranks: int, place: int):
        counters = memory.bytes.view(np.int64).reshape(1 + ranks, -1)[:, 0]
        self._released, self._arrived = counters[:1].data, counters[1:].data
        self._others = range(1, ranks)  # than the first rank
        self._place, self._count = place, 0

    @staticmethod
    def length(ranks: int) -> int:
        """Return the bytes of memory that so many ranks need."""
        return (1 + ranks) * LINE

    def arrive(self) -> None:
        """Tell the other ranks that this one has arrived."""
        self._count += 1
        self._arrived[self._place] = self._count

    def has_passed(self) -> bool:
        """Return True if all ranks of the node have arrived."""
        if self._place > 0:
            return self._released[0] >= self._count
        for other in self._others:
            if self._arrived[other] < self._count:
                return False
        fence()  # what the others wrote before they arrived comes before the release
        self._released[0] = self._count
        return True
