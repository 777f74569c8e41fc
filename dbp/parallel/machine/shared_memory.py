"""Memory that the ranks of a node share: files in memory without names, or whose names are gone when all have them.

No rank depends on another to give it back, so nothing is left behind, and nobody waits, when ranks die. Where the
system permits it lies in huge pages, as else the processor looks up addresses half of the time that it takes to go
through long vectors.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dbp.parallel.shards import parts

Bytes = NDArray[np.uint8]

SHARED_MEMORY = "/dev/shm"  # noqa: S108  where Linux keeps the memory that processes share; its size is limited
LEFT_FREE = 1 << 24  # bytes of it that are left to others, such as the MPI library's own messages
UNNAMED = getattr(os, "O_TMPFILE", 0)  # opens a new file without a name; Linux only
HUGE = 1 << 21  # bytes of a huge page, on most processors
COLLAPSE = 25  # MADV_COLLAPSE of Linux 6.1 and later, which Python has no name for


class SharedMemory:
    """Bytes that all ranks of a node see. They stay as long as an array of any rank refers to them.

    Args:
        memory: the bytes.
        mapped: what they are a part of; None for memory that is not shared.
    """

    def __init__(self, memory: Bytes, mapped: mmap.mmap | None = None):
        self.bytes, self._mapped = memory, mapped

    def use_huge_pages(self, start: int, stop: int, ranks: int, rank: int) -> None:
        """Put what lies between these bytes into huge pages, if the system can, after all of it was written to.

        It stays as it is, and near the processor whose rank wrote it. The ranks of the node each do a part of it.
        """
        if self._mapped is None or self.bytes.ctypes.data % HUGE:
            return
        before = self.bytes.ctypes.data - _address(self._mapped)
        first, last = -(-start // HUGE), stop // HUGE
        mine = parts(last - first, ranks, rank) if first < last else range(0)
        if mine:
            with contextlib.suppress(OSError):  # an older system, or one without so much memory in one piece
                self._mapped.madvise(COLLAPSE, before + (first + mine.start) * HUGE, len(mine) * HUGE)

    def free(self) -> None:
        """This rank refers to them no more; other ranks may."""
        self.bytes, self._mapped = self.bytes[:0].copy(), None


class Where(NamedTuple):
    """By what a rank finds the file that another has created."""

    path: str = ""
    identity: tuple[int, int] = (0, 0)  # device and number: a process of that number may be another one's there
    problem: str = ""  # why there is no file, if there is none


class File:
    """A file in memory by which the ranks of a node come to share bytes: one creates it, all map it.

    Without a name nothing can be left of it, whoever dies when. Then it is found as an open file of the process that
    has created it, which not all ranks may see if they run in containers of their own.

    Args:
        length: in bytes.
        name: the same on all ranks of a node, and nowhere else; nothing for none.
    """

    def __init__(self, length: int, name: str = ""):
        self._path, self._length, self._open = Path(SHARED_MEMORY) / name, length, -1
        self._name = name
        self._before = HUGE if length >= HUGE else 0  # bytes that are never written, so that huge pages may begin
        self.memory: SharedMemory | None = None

    def create(self) -> Where:
        """Make the file; its bytes are zeros."""
        if short := _too_small(self._length):
            return Where(problem=short)
        try:
            how = os.O_CREAT | os.O_EXCL if self._name else UNNAMED
            self._open = os.open(self._path, how | os.O_RDWR | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._open, 2 * self._before + max(self._length, 1))
        except OSError as error:
            return Where(problem=f"{SHARED_MEMORY} of {socket.gethostname()} takes no file ({error.strerror})")
        path = self._path if self._name else f"/proc/{os.getpid()}/fd/{self._open}"
        return Where(str(path), _identity(self._open))

    def map(self, where: Where) -> str:
        """Make its bytes the memory; gives why they cannot be, nothing if they are.

        A huge page of a file can be mapped as such only where it begins at a multiple of its size in memory too. So if
        the system has put the file elsewhere, it is mapped again, mostly to the same place, from so much further on.
        """
        length, skipped = self._before + max(self._length, 1), 0
        try:
            with Path(where.path).open("r+b") as file:
                if _identity(file.fileno()) != where.identity:
                    return f"{where.path} of {socket.gethostname()} is not what another rank has put there"
                mapped = mmap.mmap(file.fileno(), length)
                if self._before and (skipped := _address(mapped) % HUGE):
                    mapped.close()
                    mapped = mmap.mmap(file.fileno(), length, offset=skipped)
        except (OSError, ValueError, OverflowError) as error:
            return f"{SHARED_MEMORY} of {socket.gethostname()} does not show what another rank has put there ({error})"
        self.memory = SharedMemory(np.frombuffer(mapped, np.uint8)[self._before - skipped :][: self._length], mapped)
        return ""

    def forget(self) -> None:
        """It is found no more; the bytes stay with those that have mapped them."""
        if self._open >= 0:
            os.close(self._open)
            self._open = -1
        if self._name:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def own_memory(length: int) -> Bytes:
    """So many bytes of zeros for this rank alone, in huge pages if they fill some and the system can."""
    if length < HUGE:
        return np.zeros(length, np.uint8)
    whole = -(-length // HUGE) * HUGE
    mapped = mmap.mmap(-1, whole + HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = -_address(mapped) % HUGE
    memory = SharedMemory(np.frombuffer(mapped, np.uint8)[start : start + whole], mapped)
    memory.bytes[:: mmap.PAGESIZE] = 0
    memory.use_huge_pages(0, whole, 1, 0)
    return memory.bytes[:length]


def _identity(file: int) -> tuple[int, int]:
    found = os.fstat(file)
    return found.st_dev, found.st_ino


def _address(mapped: mmap.mmap) -> int:
    return int(np.frombuffer(mapped, np.uint8).ctypes.data)


def fence() -> None:
    """What this rank reads and writes before it comes before what it reads and writes after it, on any processor.

    An atomic exchange that releases, and one of the same place that acquires.
    """
    lock = threading.Lock()
    lock.acquire()
    lock.release()
    lock.acquire()


def free_shared_memory() -> int | None:
    """Bytes of it that are free; None on a system that keeps it elsewhere, without a limit that we know of."""
    try:
        free = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return free.f_bavail * free.f_frsize


def _too_small(length: int) -> str:
    """Says so if there is too little shared memory here; a process that wrote to it would be killed."""
    free = free_shared_memory()
    if free is None or length + LEFT_FREE <= free:
        return ""
    place = f"{SHARED_MEMORY} of {socket.gethostname()}"
    return f"{place} has {free / 1e6:,.0f} MB free, but {(length + LEFT_FREE) / 1e6:,.0f} MB are needed"
