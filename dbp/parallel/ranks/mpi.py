"""The ranks that MPI started together. The only file that knows mpi4py."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dbp.errors import NOT_FINISHED
from dbp.parallel.machine.shared_memory import Bytes, File, SharedMemory
from dbp.parallel.ranks.clock import WAITING, Stages
from dbp.parallel.ranks.comm import Communicator, OneProcess, RankLostError
from dbp.parallel.ranks.connections import Connections, has_failed, is_crowded, number_of_node, reconnected
from dbp.parallel.ranks.deadline import Deadline, abort_after
from dbp.parallel.ranks.mpi_settings import set_for_crowded_node, set_for_survival
from dbp.parallel.ranks.node_barrier import NodeBarrier
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.ranks.orphan import end_with_launcher

TO_START = 300.0  # seconds that MPI may take to start where ranks outlive others, and one may have died meanwhile
TO_GIVE_UP = 1.0  # seconds in which MPI should give up messages that cannot arrive
TOLD = 0.5  # seconds in which a rank is told that another has died

Result = TypeVar("Result")
_kept: list[Any] = []  # messages that MPI did not give up


class MPICommunicator(Communicator):
    """The ranks that MPI started together, or those of them that live.

    Args:
        mpi: mpi4py's module.
        connections: of these ranks.
        number: of this rank's node.
        survives: whether ranks outlive others.
        crowded: whether this rank's node has more ranks than cores.
    """

    def __init__(self, mpi: Any, connections: Connections, number: int, survives: bool, crowded: bool):
        self._mpi, self._number, self.survives, self._crowded = mpi, number, survives, crowded
        self._ranks, self._comm, self._messages, self._node, self._first, told = connections
        numbers = sorted(told[:, 0].tolist())
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.nodes = Nodes(tuple(numbers.count(n) for n in dict.fromkeys(numbers)), self.rank)
        self._name, self._names = f"dbp-{told[told[:, 0] == number][0, 1]:x}", 0  # of files in memory; how many so far
        self._node_barrier: NodeBarrier | None = None  # as soon as the ranks of a node share memory
        self.stages = Stages(crowded)
        self.stages.check = self._check
        vendor, version = mpi.get_vendor()
        self.description = f"{vendor} {'.'.join(map(str, version))}"
        self.may_survive = _lets_ranks_survive(mpi)
        levels = {mpi.THREAD_SINGLE: "single", mpi.THREAD_FUNNELED: "funneled", mpi.THREAD_SERIALIZED: "serialized"}
        self.thread_level = levels.get(mpi.Query_thread(), "multiple")
        one = self.thread_level == "serialized"
        self._parted = False
        self._turn = threading.RLock() if one else contextlib.nullcontext()  # of the thread that may use MPI

    # --- what is said -------------------------------------------------------------------------------

    def _try(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function of MPI that may fail because ranks have died."""
        with self._turn:
            try:
                return function(*arguments)
            except self._mpi.Exception as error:
                if self.survives and self._broken(error):
                    self._give_up(error)
                raise

    def _complete(self, begin: Callable[..., Any], *arguments: Any) -> None:
        """Begin a nonblocking collective and wait for its end; unlike a blocking one it lets others have the core.

        Where a rank has died, Open MPI may say that all went well, and give what nobody has sent; what it knows of the
        dead tells. A rank to which such values were passed on learns of it from confirm().
        """
        request = self._try(begin, *arguments)
        self._wait_until(lambda: bool(self._try(request.Test)), request)

    def _wait_until(self, done: Callable[[], bool], *needed: Any) -> None:
        """Wait until done() returns True. If ranks die meanwhile, keep what is needed, as MPI might still use it."""
        try:
            self.stages.wait_until(done)
        except BaseException:
            _kept.extend(needed)
            raise
        if self.survives and self._broken():
            self._give_up()

    def _unpickled(self, message: NDArray[np.uint8]) -> Any:
        try:
            return self._mpi.pickle.loads(message)
        except Exception as error:
            if self.survives and self._soon_broken():
                self._give_up(error)
            raise

    def broadcast(self, value: Any) -> Any:
        """Broadcast rank 0's value, pickled: its length, then itself."""
        message = np.frombuffer(self._mpi.pickle.dumps(value) if self.rank == 0 else b"", np.uint8)
        length = np.array([len(message)], np.int64)
        self._complete(self._comm.Ibcast, length)
        if self.rank > 0:
            message = np.empty(length[0], np.uint8)
        self._broadcast(self._comm, message)
        return value if self.rank == 0 else self._unpickled(message)

    def gather(self, value: Any) -> list[Any]:
        """Gather everyone's values, pickled: their lengths, then themselves."""
        mine = np.frombuffer(self._mpi.pickle.dumps(value), np.uint8)
        lengths = np.empty(self.size, np.int64)
        self._complete(self._comm.Iallgather, np.array([len(mine)], np.int64), lengths)
        ends = np.cumsum(lengths)
        everyones = np.empty(ends[-1], np.uint8)
        counts, starts = lengths.tolist(), (ends - lengths).tolist()
        self._complete(self._comm.Iallgatherv, mine, [everyones, (counts, starts), self._mpi.BYTE])
        return [self._unpickled(message) for message in np.split(everyones, ends[:-1])]

    def broadcast_array(self, array: NDArray[Any]) -> None:
        """MPI_Ibcast."""
        self._broadcast(self._comm, array)

    def _broadcast(self, comm: Any, array: NDArray[Any]) -> None:
        """Broadcast in pieces, as a message holds at most 2 GiB in some MPI libraries."""
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, 1 << 30):
            self._complete(comm.Ibcast, flat[start : start + (1 << 30)])

    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:
        """One Iallgatherv."""
        self._complete(self._comm.Iallgatherv, *self._gathered(mine, everyones, counts))

    def gathering(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> Any:
        """One Iallgatherv."""
        return self._try(self._comm.Iallgatherv, *self._gathered(mine, everyones, counts))

    def _gathered(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> tuple[Any, Any]:
        """Buffers, with counts in units of 8 bytes, so that 16 GiB fit."""
        words = [count // 8 for count in counts]
        starts = [0, *accumulate(words)][:-1]
        receive = [everyones.view(np.uint64), (words, starts), self._mpi.UINT64_T]
        return [mine.view(np.uint64), self._mpi.UINT64_T], receive

    def sum_by_library(self, array: NDArray[Any]) -> None:
        """MPI_Allreduce, which spins: the library's own way is what it is compared in."""
        self._try(self._comm.Allreduce, self._mpi.IN_PLACE, array)

    def barrier(self) -> None:
        """MPI_Ibarrier."""
        self._complete(self._comm.Ibarrier)

    def node_barrier(self) -> None:
        """Wait at the counters, between two fences; MPI_Ibarrier where no memory is shared."""
        self.sync()
        if self._node_barrier is None:
            self._complete(self._node.Ibarrier)
        else:
            self._node_barrier.arrive()
            self._wait_until(self._all_of_node_arrived)
        self.sync()

    def _all_of_node_arrived(self) -> bool:
        """Look at the counters; let MPI go on with messages to other nodes meanwhile."""
        assert self._node_barrier is not None
        if self._node_barrier.has_passed():
            return True
        if self.nodes.count > 1:
            self._try(self._comm.Iprobe)
        return False

    def shared_memory(self, length: int) -> SharedMemory | None:
        """A file that a node's first rank creates; the pages belong to who writes to them first."""
        if self.size == 1:
            return SharedMemory(np.zeros(length, np.uint8))
        self.barrier()  # others have freed what they were to free, so that what is free now can be told
        memory = self._shared(length)
        if memory is not None and self._node_barrier is None:
            ranks = self._node.Get_size()
            if counters := self._shared(NodeBarrier.length(ranks)):
                self._node_barrier = NodeBarrier(counters, ranks, self._node.Get_rank())
        return memory

    def _shared(self, length: int) -> SharedMemory | None:
        """What a file holds, without a name if that can be found."""
        self._names += 1
        return self._mapped(File(length)) or self._mapped(File(length, f"{self._name}-{self._names}"))

    def _mapped(self, file: File) -> SharedMemory | None:
        """What a file holds, if all ranks of all nodes have theirs."""
        try:
            told = self.gather(file.create() if self._node.Get_rank() == 0 else None)
            problems = [where.problem for where in told if where is not None]
            if not any(problems):
                problems = self.gather(file.map(told[self.nodes.runs[self.nodes.mine][0]]))
        finally:
            file.forget()
        if short := [text for text in problems if text]:
            self.refused = short[0]
            return None
        return file.memory

    def between_nodes(self, array: NDArray[Any]) -> None:
        """MPI_Bcast among the first ranks of the nodes."""
        if self._node.Get_rank() == 0:
            self._broadcast(self._first, array)

    def outgoing(self, array: NDArray[Any], rank: int, tag: int) -> Any:
        """MPI_Send_init."""
        return self._try(self._messages.Send_init, [array.view(np.uint8), self._mpi.BYTE], rank, tag)

    def incoming(self, array: NDArray[Any], rank: int, tag: int) -> Any:
        """MPI_Recv_init."""
        return self._try(self._messages.Recv_init, [array.view(np.uint8), self._mpi.BYTE], rank, tag)

    def start(self, messages: Sequence[Any]) -> None:
        """MPI_Startall."""
        if messages:
            self._try(self._mpi.Prequest.Startall, messages)

    def done(self, messages: Sequence[Any]) -> bool:
        """MPI_Testall."""
        return bool(self._try(self._mpi.Request.Testall, messages)) if messages else True

    def discard(self, messages: Sequence[Any]) -> None:
        """MPI_Request_free, if need be when MPI has given up what a dead rank does not send or receive.

        What it does not give up is kept, as MPI might still write to it.
        """
        end, waiting = time.perf_counter() + TO_GIVE_UP, list(messages)
        while self.survives and waiting and time.perf_counter() < end:
            waiting = [message for message in waiting if not self._over(message)]
        _kept.extend(waiting)
        for message in messages:
            if message not in waiting:
                message.Free()

    def _over(self, message: Any) -> bool:
        """Whether a message is sent or received, or never will be."""
        try:
            with self._turn:
                return bool(message.Test())
        except self._mpi.Exception:
            return True

    def finalize(self) -> None:
        """MPI_Finalize."""
        self._mpi.Finalize()

    def abort(self, code: int) -> None:
        """MPI_Abort: the launcher ends all ranks."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._mpi.COMM_WORLD.Abort(code)

    # --- when ranks die -----------------------------------------------------------------------------

    def _broken(self, error: Any = None) -> bool:
        """Whether ranks have died, or others have found so; or this error says it."""
        mpi = self._mpi
        classes = (mpi.ERR_PROC_FAILED, mpi.ERR_PROC_FAILED_PENDING, mpi.ERR_REVOKED)
        if error is not None and error.Get_error_class() in classes:
            return True
        with self._turn:
            return has_failed(self._ranks) or any(comm.Is_revoked() for comm in self._all)

    def _soon_broken(self) -> bool:
        """Whether ranks have died, as far as it is told within a moment."""
        end = time.perf_counter() + TOLD
        while not (broken := self._broken()) and time.perf_counter() < end:
            time.sleep(TOLD / 100)
            with contextlib.suppress(self._mpi.Exception), self._turn:
                self._comm.Iprobe()  # in which MPI takes notice
        return broken

    @property
    def _all(self) -> tuple[Any, ...]:
        return self._comm, self._messages, self._node, self._first

    def _give_up(self, error: Exception | None = None) -> None:
        self.revoke()
        raise RankLostError("another rank has died") from error

    def _check(self) -> None:
        """Raise RankLostError if a rank has died, which no message need tell to one that waits for shared memory."""
        self._try(self._comm.Iprobe)  # in which MPI takes notice
        if self.survives and self._broken():
            self._give_up()

    def confirm(self) -> None:
        """MPI_Comm_agree, which comes to the same end on all ranks that live.

        It is not ended by a revocation: so a rank that has given up takes part once more, see _part().
        """
        if self.survives:
            before = self.stages.enter(WAITING)
            alive = 0
            try:
                alive = self._try(self._comm.Agree, int(not self._broken()))
            finally:
                self._parted = not alive
                self.stages.enter(before)
            if not alive:
                self._give_up()

    def _part(self) -> None:
        """Let go the ranks that wait in confirm() for this one, which will not come."""
        if not self._parted:
            self._parted = True
            with contextlib.suppress(self._mpi.Exception), self._turn:
                self._comm.Agree(0)

    def revoke(self) -> None:
        """MPI_Comm_revoke of all that ranks wait in."""
        if self.survives:
            with self._turn:
                for comm in self._all:
                    comm.Revoke()

    def survivors(self, seconds: float) -> Communicator:
        """Shrink what MPI started, come together, and agree that all have; anew if more die meanwhile."""
        assert self.survives
        self.revoke()
        text = f"ranks that live have not come together within {seconds:g} s; all ranks end"
        with abort_after(seconds, text, self.abort), self._turn:
            self._part()
            connections = reconnected(self._mpi, self._number)
        found = MPICommunicator(self._mpi, connections, self._number, survives=True, crowded=self._crowded)
        found.lost = self._without(found)
        return found

    def _without(self, other: MPICommunicator) -> tuple[int, ...]:
        """The ranks that another communicator has not."""
        mine, others = self._comm.Get_group(), other._comm.Get_group()
        places = mine.Translate_ranks(list(range(self.size)), others)
        mine.Free()
        others.Free()
        return tuple(rank for rank, place in enumerate(places) if place == self._mpi.UNDEFINED)


# --- the start --------------------------------------------------------------------------------------


def mpi_communicator() -> Communicator:
    """All ranks that MPI knows of; one process where no MPI library is installed.

    Where ranks outlive others, and one dies before all have come together here, all end with code NOT_FINISHED.
    """
    set_for_crowded_node()
    if not set_for_survival():
        return _all_ranks(fault_tolerant=False)
    end_with_launcher(NOT_FINISHED)
    with Deadline(TO_START, NOT_FINISHED):
        return _all_ranks(fault_tolerant=True)


def _lets_ranks_survive(mpi: Any) -> bool:
    """Whether this library was built such that ranks can outlive others."""
    return bool(mpi.ERR_PROC_FAILED != mpi.ERR_REVOKED and mpi.get_vendor()[0] == "Open MPI")


def _all_ranks(fault_tolerant: bool) -> Communicator:
    try:
        import mpi4py

        if fault_tolerant:  # where several threads may use it, Open MPI's TCP waits for itself when a rank has died
            mpi4py.rc.thread_level = "serialized"
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        return OneProcess("one process, no MPI library found", reason=" ".join(str(error).split()))
    survives = fault_tolerant and _lets_ranks_survive(MPI)
    world = MPI.COMM_WORLD
    try:
        number = number_of_node(world, MPI.COMM_TYPE_SHARED)
        connections = Connections.of(world, number)
        if survives:
            world.Agree(1)  # an error if not all live
        return MPICommunicator(MPI, connections, number, survives, is_crowded(connections.node))
    except MPI.Exception:
        if survives:
            world.Abort(NOT_FINISHED)
        raise
