"""Memory that the ranks of a node share: files in memory, whose names are gone as soon as every rank has mapped them.

No rank depends on another to give it back, so nothing is left behind, and nobody waits, when ranks die.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

SHARED_MEMORY = "/dev/shm"  # noqa: S108  where Linux keeps the memory that processes share; its size is limited
LEFT_FREE = 1 << 24  # bytes of it that are left to others, such as the MPI library's own messages


class SharedMemory:
    """Bytes that all ranks of a node see. They stay as long as an array of any rank refers to them."""

    def __init__(self, memory: Bytes):
        self.bytes = memory

    def free(self) -> None:
        """This rank refers to them no more; other ranks may."""
        self.bytes = self.bytes[:0].copy()


class File:
    """A file in memory by which the ranks of a node come to share bytes: one creates it, all map it, then it has to go.

    Args:
        name: the same on all ranks of a node, and nowhere else.
        length: in bytes.
    """

    def __init__(self, name: str, length: int):
        self._path, self._length = Path(SHARED_MEMORY) / name, length
        self.memory: Bytes | None = None

    def create(self) -> str:
        """Make the file; gives why it cannot be made, nothing if it was."""
        if short := _too_small(self._length):
            return short
        try:
            with self._path.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.truncate(max(self._length, 1))
        except OSError as error:
            return f"{SHARED_MEMORY} of {socket.gethostname()} takes no file ({error.strerror})"
        return ""

    def map(self) -> str:
        """Make its bytes the memory; gives why they cannot be, nothing if they are."""
        try:
            with self._path.open("r+b") as file:
                pages = mmap.mmap(file.fileno(), max(self._length, 1))
        except (OSError, ValueError, OverflowError) as error:
            return f"{SHARED_MEMORY} of {socket.gethostname()} does not show what another rank has put there ({error})"
        self.memory = np.frombuffer(pages, np.uint8)[: self._length]
        return ""

    def forget(self) -> None:
        """Remove the name; the bytes stay with those that have mapped them."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


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
