"""Sleep until another process wakes this one up: POSIX semaphores in memory that the ranks of a node share."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from dbp.parallel.machine.shared_memory import Bytes

SEMAPHORE_BYTES = 64  # at least sizeof(sem_t), and a cache line
SHARED = 1  # the argument of sem_init for processes, rather than for threads of one


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Semaphores:
    """A semaphore for each rank of a node, as one rank sees them.

    Args:
        memory: length(ranks) bytes, zero at first; the caller keeps them.
        index: of this rank, which initializes its own semaphore.

    Attributes:
        work: True if the system has such semaphores; else nothing else may be called.
    """

    def __init__(self, memory: Bytes, index: int):
        library: Any = ctypes.CDLL(None)
        self._address, self._mine = memory.ctypes.data, memory.ctypes.data + index * SEMAPHORE_BYTES
        self.work = False
        self._clock: Callable[[], float]
        self._wait_until: Callable[[_TimeSpec], object]
        with contextlib.suppress(AttributeError):
            self._post, timed_wait = library.sem_post, library.sem_timedwait
            self._post.argtypes = (ctypes.c_void_p,)
            timed_wait.argtypes = (ctypes.c_void_p, ctypes.POINTER(_TimeSpec))
            self._wait_until, self._clock = partial(timed_wait, self._mine), time.time
            self.work = bool(library.sem_init(ctypes.c_void_p(self._mine), SHARED, 0) == 0)
        with contextlib.suppress(AttributeError):  # glibc 2.30: a clock that nobody sets back while a rank sleeps
            clock_wait = library.sem_clockwait
            clock_wait.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_TimeSpec))
            self._wait_until, self._clock = partial(clock_wait, self._mine, time.CLOCK_MONOTONIC), time.monotonic

    @staticmethod
    def length(ranks: int) -> int:
        """Return how many bytes of memory a number of ranks needs."""
        return ranks * SEMAPHORE_BYTES

    def sleep(self, seconds: float) -> None:
        """Sleep until this rank is woken up, at most some seconds; return at once if it was woken up before."""
        end = self._clock() + seconds
        self._wait_until(_TimeSpec(int(end), int(end % 1 * 1e9)))

    def wake(self, index: int) -> None:
        """Wake a rank up."""
        self._post(self._address + index * SEMAPHORE_BYTES)
