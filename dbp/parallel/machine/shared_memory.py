"""Memory that the ranks of a node share: files in memory that have no name, or lose it once all ranks have mapped them.

The system frees the memory when the last rank ends, so nothing is left behind when ranks die. Where the system permits,
the memory lies in huge pages: with small pages, address translation takes half of the time to read a long vector.
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
SEGMENT_FOLDER = "dbp-segments-"  # with this begins the folder there that dbp run makes for MPI's files
RESERVED_BYTES = 1 << 24  # of shared memory that stay free for others, such as the MPI library's own messages
UNNAMED_FILE = getattr(os, "O_TMPFILE", 0)  # flag that opens a new file without a name; Linux only
HUGE_PAGE_BYTES = 1 << 21  # on most processors
MADV_COLLAPSE = 25  # of Linux 6.1 and later, which Python has no name for


class SharedMemory:
    """Bytes that all ranks of a node see. They exist as long as an array of any rank refers to them.

    Args:
        memory: the bytes.
        mapped: the mapping that contains them; None for memory that is not shared.
    """

    def __init__(self, memory: Bytes, mapped: mmap.mmap | None = None):
        self.bytes, self._mapped = memory, mapped

    def use_huge_pages(self, start: int, stop: int, ranks: int, rank: int) -> None:
        """Move the bytes from start to stop into huge pages, if the system can; call after all of them were written.

        The content is kept, and stays near the processor that wrote it. Each rank of the node moves one part.
        """
        if self._mapped is None or self.bytes.ctypes.data % HUGE_PAGE_BYTES:
            return
        before = self.bytes.ctypes.data - _address(self._mapped)
        first, last = -(-start // HUGE_PAGE_BYTES), stop // HUGE_PAGE_BYTES
        mine = parts(last - first, ranks, rank) if first < last else range(0)
        if mine:
            with contextlib.suppress(OSError):  # an older system, or one without so much memory in one piece
                self._mapped.madvise(
                    MADV_COLLAPSE, before + (first + mine.start) * HUGE_PAGE_BYTES, len(mine) * HUGE_PAGE_BYTES
                )

    def free(self) -> None:
        """Drop this rank's reference to the bytes; other ranks may keep theirs."""
        self.bytes, self._mapped = self.bytes[:0].copy(), None


class FileLocation(NamedTuple):
    """The location of a file that another rank has created."""

    path: str = ""
    identity: tuple[int, int] = (0, 0)  # device and inode; in another container the same path may name another file
    problem: str = ""  # why no file was created; empty if one was


class SharedFile:
    """A file in memory through which the ranks of a node share bytes: one rank creates it, all map it.

    A file without a name never outlives its processes. Other ranks open it through /proc as an open file of its
    creator, which fails if ranks run in separate containers.

    Args:
        length: in bytes.
        name: the same on all ranks of a node, and unique on the machine; empty for a file without a name.
    """

    def __init__(self, length: int, name: str = ""):
        self._path, self._length, self._open = Path(SHARED_MEMORY) / name, length, -1
        self._name = name
        self._padding = HUGE_PAGE_BYTES if length >= HUGE_PAGE_BYTES else 0  # unused bytes, to align huge pages
        self.memory: SharedMemory | None = None

    def create(self) -> FileLocation:
        """Create the file, filled with zeros, and return its location."""
        if short := _too_small(self._length):
            return FileLocation(problem=short)
        try:
            flags = os.O_CREAT | os.O_EXCL if self._name else UNNAMED_FILE
            self._open = os.open(self._path, flags | os.O_RDWR | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._open, 2 * self._padding + max(self._length, 1))
        except OSError as error:
            return FileLocation(problem=f"{SHARED_MEMORY} of {socket.gethostname()} takes no file ({error.strerror})")
        path = self._path if self._name else f"/proc/{os.getpid()}/fd/{self._open}"
        return FileLocation(str(path), _identity(self._open))

    def map(self, location: FileLocation) -> str:
        """Map the file at a location as the memory; return what went wrong, or "".

        A huge page must begin at a multiple of its size both in the file and in memory. So if the system maps the file
        to another address, it is mapped again from an offset that aligns both; as a rule to the same address.
        """
        length, skipped = self._padding + max(self._length, 1), 0
        try:
            with Path(location.path).open("r+b") as file:
                if _identity(file.fileno()) != location.identity:
                    return f"{location.path} of {socket.gethostname()} is not what another rank has put there"
                mapped = mmap.mmap(file.fileno(), length)
                if self._padding and (skipped := _address(mapped) % HUGE_PAGE_BYTES):
                    mapped.close()
                    mapped = mmap.mmap(file.fileno(), length, offset=skipped)
        except (OSError, ValueError, OverflowError) as error:
            return f"{SHARED_MEMORY} of {socket.gethostname()} does not show what another rank has put there ({error})"
        self.memory = SharedMemory(np.frombuffer(mapped, np.uint8)[self._padding - skipped :][: self._length], mapped)
        return ""

    def close(self) -> None:
        """Close the file and remove its name; ranks that have mapped it keep the bytes."""
        if self._open >= 0:
            os.close(self._open)
            self._open = -1
        if self._name:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def private_memory(length: int) -> Bytes:
    """Return zeroed bytes for this rank alone, in huge pages if they fill at least one and the system can."""
    if length < HUGE_PAGE_BYTES:
        return np.zeros(length, np.uint8)
    rounded = -(-length // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    mapped = mmap.mmap(-1, rounded + HUGE_PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = -_address(mapped) % HUGE_PAGE_BYTES
    memory = SharedMemory(np.frombuffer(mapped, np.uint8)[start : start + rounded], mapped)
    memory.bytes[:: mmap.PAGESIZE] = 0
    memory.use_huge_pages(0, rounded, 1, 0)
    return memory.bytes[:length]


def _identity(file: int) -> tuple[int, int]:
    found = os.fstat(file)
    return found.st_dev, found.st_ino


def _address(mapped: mmap.mmap) -> int:
    return int(np.frombuffer(mapped, np.uint8).ctypes.data)


def memory_barrier() -> None:
    """Order memory accesses: those before the call happen before those after it, on any processor.

    Releasing a lock orders the accesses before it, and acquiring the same lock again those after it.
    """
    lock = threading.Lock()
    lock.acquire()
    lock.release()
    lock.acquire()


def free_shared_memory() -> int | None:
    """Return the free bytes of shared memory; None on a system without a known limit."""
    try:
        free = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return free.f_bavail * free.f_frsize


def _too_small(length: int) -> str:
    """Return a message if too little shared memory is free, else ""; writing past the limit would kill the process."""
    free = free_shared_memory()
    if free is None or length + RESERVED_BYTES <= free:
        return ""
    memory = f"{SHARED_MEMORY} of {socket.gethostname()}"
    return f"{memory} has {free / 1e6:,.0f} MB free, but {(length + RESERVED_BYTES) / 1e6:,.0f} MB are needed"
