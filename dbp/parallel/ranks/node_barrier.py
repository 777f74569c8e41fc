"""A barrier for the ranks of one node: counters in shared memory.

Each rank counts its own arrivals. The first rank waits until all have arrived and then counts a release, for which the
others wait. Unlike in MPI_Barrier, a rank decides between two checks whether to yield its core, and it can sleep until
the rank that it waits for wakes it up. Reading a counter is fast, so the barrier takes no longer than MPI's.
"""

from __future__ import annotations

import numpy as np

from dbp.parallel.machine.shared_memory import SharedMemory, memory_barrier
from dbp.parallel.machine.wake_up import Semaphores

CACHE_LINE_BYTES = 64  # each rank's counters have a line of their own, so that ranks do not slow each other down
NOBODY = 0  # whom a rank waits for in its sleep: nobody, or 1 more than the rank's index


class NodeBarrier:
    """The barrier as one rank sees it. After arrive(), has_passed() must return True before the next arrive().

    Args:
        memory: length(ranks) bytes, zero at first.
        ranks: number of ranks on the node.
        index: of this rank among them.
    """

    def __init__(self, memory: SharedMemory, ranks: int, index: int):
        lines = (1 + ranks) * CACHE_LINE_BYTES
        counters = memory.bytes[:lines].view(np.int64).reshape(1 + ranks, -1)
        self._released, self._arrived = counters[:1, 0].data, counters[1:, 0].data
        self._awaited = counters[1:, 1].data  # by a rank that sleeps
        self._semaphores = Semaphores(memory.bytes[lines:], index)
        self._others = range(1, ranks)  # all but the first rank
        self._index, self._count = index, 0

    @staticmethod
    def length(ranks: int) -> int:
        """Return how many bytes of memory a number of ranks needs."""
        return (1 + ranks) * CACHE_LINE_BYTES + Semaphores.length(ranks)

    @property
    def can_sleep(self) -> bool:
        """Return True if sleep() may be called."""
        return self._semaphores.work

    def arrive(self) -> None:
        """Show the other ranks that this one has arrived."""
        self._count += 1
        self._arrived[self._index] = self._count
        if self._index > 0:
            memory_barrier()
            self._wake(0)

    def has_passed(self) -> bool:
        """Return True if all ranks of the node have arrived."""
        if self._index > 0:
            return self._released[0] >= self._count
        for other in self._others:
            if self._arrived[other] < self._count:
                return False
        memory_barrier()  # what the others wrote before they arrived comes before the release
        self._released[0] = self._count
        memory_barrier()
        for other in self._others:
            self._wake(other)
        return True

    def sleep(self, seconds: float) -> None:
        """Sleep until the rank that this one waits for has come, at most some seconds; return at once if it has.

        Either this rank sees that the other has come, or the other sees that this one sleeps.
        """
        awaited = self._missing()
        self._awaited[self._index] = awaited + 1
        memory_barrier()
        if self._is_missing(awaited):
            self._semaphores.sleep(seconds)
        self._awaited[self._index] = NOBODY

    def _wake(self, other: int) -> None:
        """Wake up a rank that sleeps and waits for this one."""
        if self._awaited[other] == self._index + 1:
            self._semaphores.wake(other)

    def _missing(self) -> int:
        """Return the rank to wait for: the first, or for that one the last that has not arrived."""
        if self._index > 0:
            return 0
        return next((other for other in reversed(self._others) if self._is_missing(other)), 0)

    def _is_missing(self, other: int) -> bool:
        counter = self._released[0] if self._index > 0 else self._arrived[other]
        return bool(counter < self._count)
