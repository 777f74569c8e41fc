"""The ranks that MPI started together. The only file that imports mpi4py."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from dbp.errors import NOT_FINISHED
from dbp.parallel.machine.shared_memory import Bytes
from dbp.parallel.ranks.clock import StageClock
from dbp.parallel.ranks.comm import Communicator, NoSurvival, OneProcess
from dbp.parallel.ranks.connections import Connections, is_crowded, node_number
from dbp.parallel.ranks.crashes import ends_by_crash
from dbp.parallel.ranks.deadline import Deadline, LibraryTimer
from dbp.parallel.ranks.memory import use_one_arena
from dbp.parallel.ranks.mpi_calls import MPICalls
from dbp.parallel.ranks.mpi_channel import MPIChannel
from dbp.parallel.ranks.mpi_node import MPINode
from dbp.parallel.ranks.mpi_segments import remove_names
from dbp.parallel.ranks.mpi_settings import set_for_crowded_node, set_for_survival
from dbp.parallel.ranks.mpi_survival import MPISurvival
from dbp.parallel.ranks.node_group import SingleRank
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.ranks.start_watch import watch_start
from dbp.parallel.ranks.watchdog import Watchdog
from dbp.process.launcher import launched_by_open_mpi, launched_here, launched_rank, launched_size
from dbp.process.left_ranks import left_ranks
from dbp.process.rank_note import activities, title
from dbp.process_tree import ends_with_parent
from dbp.terminal import flush_streams
from dbp.types import Array

START_SECONDS = 300.0  # limit for the start of MPI with fault tolerance, or to end it, during which a rank may die
LONG_BYTES = 1 << 16  # of a message that MPI moves faster in a blocking call
BROADCAST_BYTES = 1 << 30  # of one message, as some MPI libraries allow at most 2 GiB


class MPICommunicator(Communicator):
    """The ranks that MPI started together, or those of them that live.

    Args:
        mpi: mpi4py's module.
        connections: MPI's communicators of these ranks.
        number: of this rank's node.
        survives: whether ranks outlive others.
        crowded: whether this rank's node has more ranks than cores.
    """

    def __init__(self, mpi: Any, connections: Connections, number: int, survives: bool, crowded: bool):
        self._mpi, self._comm, self._first = mpi, connections.all, connections.first
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        vendor, version = mpi.get_vendor()
        self.description = f"{vendor} {'.'.join(map(str, version))}"
        levels = {mpi.THREAD_SINGLE: "single", mpi.THREAD_FUNNELED: "funneled", mpi.THREAD_SERIALIZED: "serialized"}
        self.thread_level = levels.get(mpi.Query_thread(), "multiple")
        self.clock = StageClock(crowded)
        self._calls = MPICalls(mpi, connections, self.clock, survives, self.thread_level == "serialized")
        numbers = sorted(connections.node_numbers.tolist())
        self.nodes = Nodes(tuple(numbers.count(n) for n in dict.fromkeys(numbers)), self.rank)
        self.node = SingleRank()
        if self.size > 1:
            unique = connections.random_numbers[connections.node_numbers == number][0]
            self.node = MPINode(self, self._calls, connections, f"dbp-{unique:x}")
        self.channel = channel = MPIChannel(self._calls, connections)
        self._gather_buffers = channel.gather_buffers
        self.survival = NoSurvival(possible=_can_survive(mpi))
        if survives:

            def renew(living: Connections) -> Communicator:
                return MPICommunicator(mpi, living, number, survives=True, crowded=crowded)

            self.survival = MPISurvival(self._calls, connections, number, renew, self.abort)

    def broadcast(self, value: Any) -> Any:
        """Broadcast rank 0's value, pickled: its length, then itself; of one rank the value itself."""
        if self.size == 1:
            return value
        message = self._mpi.pickle.dumps(value) if self.rank == 0 else b""
        length = np.array([len(message)], np.int64)
        self._calls.complete(self._comm.Ibcast, length)
        received = np.frombuffer(message, np.uint8) if self.rank == 0 else np.empty(length[0], np.uint8)
        self._broadcast(self._comm, received)
        return value if self.rank == 0 else self._calls.unpickle(received)

    def gather(self, value: Any) -> list[Any]:
        """Gather everyone's values, pickled: their lengths, then themselves; of one rank the value itself."""
        if self.size == 1:
            return [value]
        mine, lengths = self._mpi.pickle.dumps(value), np.empty(self.size, np.int64)
        self._calls.complete(self._comm.Iallgather, np.array([len(mine)], np.int64), lengths)
        counts = lengths.tolist()
        starts = [0, *accumulate(counts)]
        everyones, byte = np.empty(starts[-1], np.uint8), self._mpi.BYTE
        self._calls.complete(self._comm.Iallgatherv, [mine, byte], [everyones, (counts, starts[:-1]), byte])
        return [self._calls.unpickle(everyones[start:end]) for start, end in pairwise(starts)]

    def broadcast_array(self, array: Array) -> None:
        """Call MPI_Ibcast and wait for it; for long arrays MPI_Bcast."""
        self._broadcast(self._comm, array)

    def broadcast_between_nodes(self, array: Array) -> None:
        """Do the same among the first ranks of the nodes."""
        if self.rank == self.nodes.runs[self.nodes.mine][0]:
            self._broadcast(self._first, array)

    def _broadcast(self, comm: Any, array: Array) -> None:
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, BROADCAST_BYTES):
            piece = flat[start : start + BROADCAST_BYTES]
            if len(piece) < LONG_BYTES:
                self._calls.complete(comm.Ibcast, piece)
            else:
                self._calls.complete_long(comm, comm.Bcast, piece)

    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:
        """Call MPI_Iallgatherv and wait for it; for long messages MPI_Allgatherv."""
        if len(everyones) < LONG_BYTES:
            self._calls.complete(self.channel.gather_bytes, mine, everyones, counts)
        else:
            buffers = self._gather_buffers(mine, everyones, counts)
            self._calls.complete_long(self._comm, self._comm.Allgatherv, *buffers)

    def sum_by_library(self, array: Array) -> None:
        """Call MPI_Allreduce, which spins while it waits."""
        self._calls.call(self._comm.Allreduce, self._mpi.IN_PLACE, array)

    def barrier(self) -> None:
        """Call MPI_Ibarrier and wait for it."""
        self._calls.complete(self._comm.Ibarrier)

    def finalize(self) -> None:
        """Call MPI_Finalize."""
        self._mpi.Finalize()

    def abort(self, code: int) -> None:
        """Call MPI_Abort: the launcher ends all ranks."""
        flush_streams()
        self._mpi.COMM_WORLD.Abort(code)


def mpi_communicator(watchdog: Watchdog, warn_after: float, end_after: float) -> Communicator:
    """Return all ranks that MPI knows of; one process where no MPI library is installed.

    Where ranks outlive others, and one dies before all have come together here, all end with the code NOT_FINISHED.

    Args:
        watchdog: of this rank; started as soon as MPI has.
        warn_after: seconds after which ranks that have not come to the start of MPI are named; 0 for never.
        end_after: seconds after which all end if some have not come; 0 for never.
    """
    set_for_crowded_node()
    use_one_arena()  # before MPI starts threads
    if not set_for_survival():
        return _all_ranks(watchdog, watch_start(warn_after, end_after), fault_tolerant=False)
    # With fault tolerance on, Open MPI does not end a rank when mpirun dies.
    ends_with_parent(signal.SIGKILL, os.getppid())()
    with Deadline(START_SECONDS, NOT_FINISHED):
        return _all_ranks(watchdog, watch_start(warn_after, 0), fault_tolerant=True)


def abort_process(code: int) -> None:
    """End all ranks at once with an exit code, also before MPI has started.

    If others may wait in the start of MPI, this rank starts it too, and then has it end all. If it only exited, MPICH's
    launcher and srun would let them wait, and Open MPI's, which ends them, may hang itself.
    """
    flush_streams()
    if "mpi4py.MPI" not in sys.modules and not _ends_by_exit():
        with LibraryTimer(START_SECONDS, "_exit", code), contextlib.suppress(ImportError, RuntimeError):
            importlib.import_module("mpi4py.MPI")
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.COMM_WORLD.Abort(code)
    os._exit(code)


def _ends_by_exit() -> bool:
    """Return True if all ranks end when this one exits: its launcher sees to it, and none of them is starting MPI."""
    are_all_here = launched_here() == launched_size()
    if set(left_ranks()) - {launched_rank()}:  # MPI cannot start, so this rank cannot use it to end the others
        return True
    return launched_by_open_mpi() and are_all_here and not any(one.waits for one in activities(title()).values())


def _can_survive(mpi: Any) -> bool:
    """Return True if this library was built such that ranks can outlive others."""
    return bool(mpi.ERR_PROC_FAILED != mpi.ERR_REVOKED and mpi.get_vendor()[0] == "Open MPI")


def _all_ranks(watchdog: Watchdog, watched: AbstractContextManager[None], fault_tolerant: bool) -> Communicator:
    try:
        import mpi4py

        if fault_tolerant:  # with several threads in it, Open MPI's TCP deadlocks when a rank has died
            mpi4py.rc.thread_level = "serialized"
        with watched, ends_by_crash():
            from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        return OneProcess("one process, no MPI library found", reason=" ".join(str(error).split()))
    survives = fault_tolerant and _can_survive(MPI)
    world = MPI.COMM_WORLD
    if world.Get_size() > 1:
        watchdog.start()
    try:
        number = node_number(world, MPI.COMM_TYPE_SHARED)
        connections = Connections.of(world, number)
        remove_names(connections.node)
        if survives:
            world.Agree(1)  # fails if not all live
        return MPICommunicator(MPI, connections, number, survives, is_crowded(connections.node))
    except MPI.Exception:
        if survives:
            world.Abort(NOT_FINISHED)
        raise
