"""The ranks of a run: MPI's, or one process where there is no MPI. The only file that knows mpi4py."""

from __future__ import annotations

import os
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbp.errors import UserError
from dbp.parallel.cores import usable_cores
from dbp.parallel.deal import Nodes
from dbp.parallel.stages import WAITING, Stages

Bytes = NDArray[np.uint8]

SHARED_MEMORY = "/dev/shm"  # noqa: S108  where Linux keeps the memory that processes share; its size is limited
LEFT_FREE = 1 << 24  # bytes of it that are left to others, such as the MPI library's own messages
YIELD = "OMPI_MCA_mpi_yield_when_idle"  # by which a user, or dbp run, tells Open MPI that ranks share cores
NODE_SIZES = "DBP_NODE_SIZES"  # ranks of each node, such as 2,1: to try out on one machine what several do


class SharedMemory:
    """Bytes that all ranks of a node see, until they free them together."""

    def __init__(self, memory: Bytes, free: Callable[[], None] = lambda: None):
        self.bytes, self.free = memory, free


def nothing() -> bool:
    """Nothing is asked for."""
    return False


class Communicator(ABC):
    """What the ranks say to each other. All methods but abort are collective: every rank calls them."""

    rank: int
    size: int
    nodes: Nodes  # ranks of one node have numbers that follow each other
    description: str
    stages: Stages  # the clock of this rank, which knows when it waits
    refused: str = ""  # why shared memory could not be had, the last time that it was asked for
    thread_level: str = ""  # how far several threads of a rank may use MPI
    reason: str = ""  # why there is no MPI, if there is none
    asks: Callable[[], bool] = staticmethod(nothing)  # whether this rank asks all for something, with every sum

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
        """Waits for all ranks."""

    @abstractmethod
    def node_barrier(self) -> None:
        """After it every rank of a node sees what any of them wrote to shared memory before it."""

    @abstractmethod
    def sync(self) -> None:
        """Orders what this rank reads from and writes to shared memory before and after it; not collective."""

    @abstractmethod
    def shared_memory(self, length: int) -> SharedMemory | None:
        """So many bytes for the ranks of each node, not yet written; None, on all ranks, if one node has too little.

        What a node's length is may differ from that of other nodes.
        """

    @abstractmethod
    def between_nodes(self, array: NDArray[Any]) -> None:
        """The array of the first rank of the first node, written into that of each other node's first rank."""

    @abstractmethod
    def outgoing(self, array: NDArray[Any], rank: int, tag: int) -> Any:
        """A message of at most 2 GiB that can be sent to a rank again and again; not collective."""

    @abstractmethod
    def incoming(self, array: NDArray[Any], rank: int, tag: int) -> Any:
        """The place of such a message from a rank; not collective."""

    @abstractmethod
    def start(self, messages: Sequence[Any]) -> None:
        """Begin to send or receive them."""

    @abstractmethod
    def done(self, messages: Sequence[Any]) -> bool:
        """Whether all of them are sent or received; makes them go on."""

    @abstractmethod
    def discard(self, messages: Sequence[Any]) -> None:
        """They will not be sent or received again."""

    @abstractmethod
    def finalize(self) -> None:
        """Nothing more will be said; every rank calls this last."""

    @abstractmethod
    def abort(self, code: int) -> None:
        """End all ranks at once."""


class OneProcess(Communicator):
    """One rank, without MPI."""

    size, nodes = 1, Nodes((1,))

    def __init__(self, description: str = "one process", rank: int = 0, reason: str = ""):
        self.description, self.rank, self.reason, self.stages = description, rank, reason, Stages()

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

    node_barrier = sync = finalize = barrier

    def shared_memory(self, length: int) -> SharedMemory | None:
        """Memory of this process."""
        return SharedMemory(np.zeros(length, np.uint8))

    between_nodes = broadcast_array

    def outgoing(self, array: NDArray[Any], rank: int, tag: int) -> Any:
        """There is nobody else."""
        raise NotImplementedError

    incoming = outgoing

    def start(self, messages: Sequence[Any]) -> None:
        """Nothing to do."""

    discard = start

    def done(self, messages: Sequence[Any]) -> bool:
        """There are none."""
        return not messages

    def abort(self, code: int) -> None:
        """Leave at once."""
        os._exit(code)


class MPICommunicator(Communicator):
    """The ranks that MPI started together."""

    def __init__(self, mpi: Any):
        self._mpi = mpi
        number = _number_of_node(mpi.COMM_WORLD, mpi.COMM_TYPE_SHARED)
        self._comm = mpi.COMM_WORLD.Split(0, number)  # ranks of one node in turn, in the order that they had
        self._messages = self._comm.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self._node = self._comm.Split(number)
        self._first = self._comm.Split(min(self._node.Get_rank(), 1))  # of each node; the others have one of their own
        numbers = self._comm.allgather(number)
        self.nodes = Nodes(tuple(numbers.count(n) for n in dict.fromkeys(numbers)), self.rank)
        self.stages = Stages(crowded=os.environ.get(YIELD) == "1" or self._node.Get_size() > usable_cores())
        self._windows: list[Any] = []
        vendor, version = mpi.get_vendor()
        self.description = f"{vendor} {'.'.join(map(str, version))}"
        levels = {mpi.THREAD_SINGLE: "single", mpi.THREAD_FUNNELED: "funneled", mpi.THREAD_SERIALIZED: "serialized"}
        self.thread_level = levels.get(mpi.Query_thread(), "multiple")

    def _waiting(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what may wait for other ranks."""
        before = self.stages.enter(WAITING)
        try:
            return function(*arguments)
        finally:
            self.stages.enter(before)

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, pickled."""
        return self._waiting(self._comm.bcast, value)

    def gather(self, value: Any) -> list[Any]:
        """Everyone's values, pickled."""
        return list(self._waiting(self._comm.allgather, value))

    def broadcast_array(self, array: NDArray[Any]) -> None:
        """MPI_Bcast."""
        self._waiting(_broadcast, self._comm, array)

    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:
        """One Allgatherv; counts are in units of 8 bytes there, so that 16 GiB fit."""
        words = [count // 8 for count in counts]
        starts = [sum(words[:r]) for r in range(self.size)]
        send = [mine.view(np.uint64), self._mpi.UINT64_T]
        receive = [everyones.view(np.uint64), (words, starts), self._mpi.UINT64_T]
        self._waiting(self._comm.Allgatherv, send, receive)

    def barrier(self) -> None:
        """MPI_Barrier."""
        self._waiting(self._comm.Barrier)

    def node_barrier(self) -> None:
        """MPI_Barrier between two MPI_Win_sync, as the standard wants it for shared windows."""
        self.sync()
        self._waiting(self._node.Barrier)
        self.sync()

    def sync(self) -> None:
        """MPI_Win_sync."""
        for window in self._windows:
            window.Sync()

    def shared_memory(self, length: int) -> SharedMemory | None:
        """A shared window, allocated by a node's first rank; the pages belong to who writes to them first."""
        if self.size == 1:
            return SharedMemory(np.zeros(length, np.uint8))
        if short := [text for text in self.gather(_too_small(length)) if text]:
            self.refused = short[0]
            return None
        try:
            first = self._node.Get_rank() == 0
            window = self._mpi.Win.Allocate_shared(length if first else 0, 1, comm=self._node)
        except self._mpi.Exception:
            window = None
        if not all(self.gather(window is not None)):
            self.refused = f"{self.description} gives none"
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

    def between_nodes(self, array: NDArray[Any]) -> None:
        """MPI_Bcast among the first ranks of the nodes."""
        if self._node.Get_rank() == 0:
            self._waiting(_broadcast, self._first, array)

    def outgoing(self, array: NDArray[Any], rank: int, tag: int) -> Any:
        """MPI_Send_init."""
        return self._messages.Send_init([array.view(np.uint8), self._mpi.BYTE], rank, tag)

    def incoming(self, array: NDArray[Any], rank: int, tag: int) -> Any:
        """MPI_Recv_init."""
        return self._messages.Recv_init([array.view(np.uint8), self._mpi.BYTE], rank, tag)

    def start(self, messages: Sequence[Any]) -> None:
        """MPI_Startall."""
        if messages:
            self._mpi.Prequest.Startall(messages)

    def done(self, messages: Sequence[Any]) -> bool:
        """MPI_Testall."""
        return bool(self._mpi.Request.Testall(messages)) if messages else True

    def discard(self, messages: Sequence[Any]) -> None:
        """MPI_Request_free."""
        for message in messages:
            message.Free()

    def finalize(self) -> None:
        """MPI_Finalize."""
        self._mpi.Finalize()

    def abort(self, code: int) -> None:
        """MPI_Abort: the launcher ends all ranks."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._mpi.COMM_WORLD.Abort(code)


def _broadcast(comm: Any, array: NDArray[Any]) -> None:
    """In pieces, as a message holds at most 2 GiB in some MPI libraries."""
    flat = array.reshape(-1).view(np.uint8)
    for start in range(0, flat.size, 1 << 30):
        comm.Bcast(flat[start : start + (1 << 30)])


def _number_of_node(world: Any, shared: int) -> int:
    """The number of this rank's node, which is that of its lowest rank unless NODE_SIZES tells another."""
    rank, size = world.Get_rank(), world.Get_size()
    if not (told := os.environ.get(NODE_SIZES)):
        node = world.Split_type(shared)
        number = node.bcast(rank)
        node.Free()
        return int(number)
    sizes = [int(part) if part.strip().isdecimal() else 0 for part in told.split(",")]
    if min(sizes) < 1 or sum(sizes) != size:
        raise UserError(f"{NODE_SIZES} must be numbers of ranks that make {size}, but is {told!r}")
    return next(node for node, end in enumerate(accumulate(sizes)) if rank < end)


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


def mpi_communicator() -> Communicator:
    """All ranks that MPI knows of; one process where no MPI library is installed."""
    # Open MPI's UCX component for windows complains where UCX is of no use, and cannot share memory.
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        return OneProcess("one process, no MPI library found", reason=" ".join(str(error).split()))
    return MPICommunicator(MPI)
