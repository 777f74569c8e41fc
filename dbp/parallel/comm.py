"""The ranks of a run: MPI's, or one process where there is no MPI. The only file that knows mpi4py."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

SHARED_MEMORY = "/dev/shm"  # noqa: S108  where Linux keeps the memory that processes share; its size is limited
LEFT_FREE = 1 << 24  # bytes of it that are left to others, such as the MPI library's own messages


class SharedMemory:
    """Bytes that all ranks of a node see, until they free them together."""

    def __init__(self, memory: Bytes, free: Callable[[], None] = lambda: None):
        self.bytes, self.free = memory, free


class Communicator(ABC):
    """What the ranks say to each other. All methods but abort are collective: every rank calls them."""

    rank: int
    size: int
    one_node: bool  # whether all ranks run on one node
    description: str
    thread_level: str = ""  # how far several threads of a rank may use MPI
    reason: str = ""  # why there is no MPI, if there is none

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Rank 0's value (any object), on every rank."""

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Every rank's value (any object), in the order of ranks, on every rank."""

    @abstractmethod
    def broadcast_array(self, array: NDArray[Any]) -> None:
        """Rank 0's array, written into that of every rank (same shape and type everywhere)."""

    @abstractmethod
    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:
        """Every rank's bytes one after the other; counts[r] of them from rank r."""

    @abstractmethod
    def barrier(self) -> None:
        """After it every rank sees what any rank wrote to shared memory before it."""

    @abstractmethod
    def shared_memory(self, length: int) -> SharedMemory | None:
        """So many bytes for all ranks together, not yet written; None, on all ranks, if they cannot be had."""

    @abstractmethod
    def finalize(self) -> None:
        """Nothing more will be said; every rank calls this last."""

    @abstractmethod
    def abort(self, code: int) -> None:
        """End all ranks at once."""


class OneProcess(Communicator):
    """One rank, without MPI."""

    size, one_node = 1, True

    def __init__(self, description: str = "one process", rank: int = 0, reason: str = ""):
        self.description, self.rank, self.reason = description, rank, reason

    def broadcast(self, value: Any) -> Any:
        """The value."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """The value alone."""
        return [value]

    def broadcast_array(self, array: NDArray[Any]) -> None:
        """Nothing to do."""

    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:  # noqa: ARG002
        """A copy."""
        everyones[:] = mine

    def barrier(self) -> None:
        """Nothing to do."""

    def shared_memory(self, length: int) -> SharedMemory | None:
        """Memory of this process."""
        return SharedMemory(np.zeros(length, np.uint8))

    def finalize(self) -> None:
        """Nothing to do."""

    def abort(self, code: int) -> None:
        """Leave at once."""
        os._exit(code)


class MPICommunicator(Communicator):
    """The ranks that MPI started together."""

    def __init__(self, mpi: Any):
        self._mpi, self._comm = mpi, mpi.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        node = self._comm.Split_type(mpi.COMM_TYPE_SHARED)
        self.one_node = node.Get_size() == self.size
        node.Free()
        self._windows: list[Any] = []
        vendor, version = mpi.get_vendor()
        self.description = f"{vendor} {'.'.join(map(str, version))}"
        levels = {mpi.THREAD_SINGLE: "single", mpi.THREAD_FUNNELED: "funneled", mpi.THREAD_SERIALIZED: "serialized"}
        self.thread_level = levels.get(mpi.Query_thread(), "multiple")

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, pickled."""
        return self._comm.bcast(value)

    def gather(self, value: Any) -> list[Any]:
        """Everyone's values, pickled."""
        return list(self._comm.allgather(value))

    def broadcast_array(self, array: NDArray[Any]) -> None:
        """In pieces, as a message holds at most 2 GiB in some MPI libraries."""
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, 1 << 30):
            self._comm.Bcast(flat[start : start + (1 << 30)])

    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:
        """One Allgatherv; counts are in units of 8 bytes there, so that 16 GiB fit."""
        words = [count // 8 for count in counts]
        starts = [sum(words[:r]) for r in range(self.size)]
        receive = [everyones.view(np.uint64), (words, starts), self._mpi.UINT64_T]
        self._comm.Allgatherv([mine.view(np.uint64), self._mpi.UINT64_T], receive)

    def barrier(self) -> None:
        """MPI_Barrier between two MPI_Win_sync, as the standard wants it for shared windows."""
        for window in self._windows:
            window.Sync()
        self._comm.Barrier()
        for window in self._windows:
            window.Sync()

    def shared_memory(self, length: int) -> SharedMemory | None:
        """A shared window, allocated by rank 0; the pages belong to who writes to them first."""
        if self.size == 1:
            return SharedMemory(np.zeros(length, np.uint8))
        if not self.one_node or not all(self.gather(_has_room(length))):
            return None
        try:
            window = self._mpi.Win.Allocate_shared(length if self.rank == 0 else 0, 1, comm=self._comm)
        except self._mpi.Exception:
            window = None
        if not all(self.gather(window is not None)):
            return None
        window.Lock_all(self._mpi.MODE_NOCHECK)
        self._windows.append(window)
        memory, _ = window.Shared_query(0)
        return SharedMemory(np.frombuffer(memory, np.uint8), lambda: self._free(window))

    def _free(self, window: Any) -> None:
        if window in self._windows:
            self._windows.remove(window)
            window.Unlock_all()
            window.Free()

    def finalize(self) -> None:
        """MPI_Finalize."""
        self._mpi.Finalize()

    def abort(self, code: int) -> None:
        """MPI_Abort: the launcher ends all ranks."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._mpi.COMM_WORLD.Abort(code)


def free_shared_memory() -> int | None:
    """Bytes of it that are free; None on a system that keeps it elsewhere, without a limit that we know of."""
    try:
        free = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return free.f_bavail * free.f_frsize


def _has_room(length: int) -> bool:
    """Whether shared memory is large enough; if not, a process would be killed as it writes to it."""
    free = free_shared_memory()
    return free is None or length + LEFT_FREE <= free


def mpi_communicator() -> Communicator:
    """All ranks that MPI knows of; one process where no MPI library is installed."""
    # Open MPI's UCX component for windows complains where UCX is of no use, and cannot share memory.
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        return OneProcess("one process, no MPI library found", reason=" ".join(str(error).split()))
    return MPICommunicator(MPI)
