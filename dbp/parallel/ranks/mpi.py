"""The ranks that MPI started together. The only file that knows mpi4py."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dbp.errors import NOT_FINISHED, UserError
from dbp.parallel.machine.cores import usable_cores
from dbp.parallel.machine.shared_memory import Bytes, File, SharedMemory
from dbp.parallel.ranks.clock import WAITING, Stages
from dbp.parallel.ranks.comm import Communicator, OneProcess, RankLostError
from dbp.parallel.ranks.connections import Connections, has_failed, reconnected
from dbp.parallel.ranks.deadline import Deadline
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.ranks.orphan import end_with_launcher

YIELD = "OMPI_MCA_mpi_yield_when_idle"  # by which a user, or dbp run, tells Open MPI that ranks share cores
NODE_SIZES = "DBP_NODE_SIZES"  # ranks of each node, such as 2,1: to try out on one machine what several do
FAULT_TOLERANT = "OMPI_MCA_mpi_ft_enable"  # by which mpirun --with-ft ulfm tells its ranks
COLLECTIVES = "OMPI_MCA_coll"  # the modules that Open MPI takes them from, or, after ^, those that it does not
TO_START = 300.0  # seconds that MPI may take to start where ranks outlive others, and one may have died meanwhile
TO_GIVE_UP = 1.0  # seconds in which MPI should give up messages that cannot arrive
TOLD = 0.5  # seconds in which a rank is told that another has died
GRACE = 5.0  # seconds after which a rank ends by itself if it cannot end all

Result = TypeVar("Result")
_kept: list[Any] = []  # messages that MPI did not give up


class MPICommunicator(Communicator):
    """The ranks that MPI started together, or those of them that live.

    Args:
        mpi: mpi4py's module.
        connections: of these ranks.
        number: of this rank's node.
        survives: whether ranks outlive others.
    """

    def __init__(self, mpi: Any, connections: Connections, number: int, survives: bool):
        self._mpi, self._number, self.survives = mpi, number, survives
        self._ranks, self._comm, self._messages, self._node, self._first, told = connections
        numbers = sorted(told[:, 0].tolist())
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.nodes = Nodes(tuple(numbers.count(n) for n in dict.fromkeys(numbers)), self.rank)
        self._name, self._names = f"dbp-{told[told[:, 0] == number][0, 1]:x}", 0  # of files in memory; how many so far
        self.stages = Stages(crowded=os.environ.get(YIELD) == "1" or self._node.Get_size() > usable_cores())
        if survives:
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

    def _waiting(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call what may wait for other ranks.

        Where one has died, Open MPI may say that all went well, and give what nobody has sent; what it knows of the
        dead tells. A rank to which such values were passed on learns of it from confirm().
        """
        before = self.stages.enter(WAITING)
        try:
            result = self._try(function, *arguments)
        except (MemoryError, RankLostError, self._mpi.Exception):
            raise
        except Exception as error:  # values that cannot be unpickled
            if self.survives and self._soon_broken():
                self._give_up(error)
            raise
        finally:
            self.stages.enter(before)
        if self.survives and self._broken():
            self._give_up()
        return result

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
        """One Allgatherv."""
        self._waiting(self._comm.Allgatherv, *self._gathered(mine, everyones, counts))

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
        """MPI_Allreduce."""
        self._waiting(self._comm.Allreduce, self._mpi.IN_PLACE, array)

    def barrier(self) -> None:
        """MPI_Barrier."""
        self._waiting(self._comm.Barrier)

    def node_barrier(self) -> None:
        """MPI_Barrier, between two fences, as MPI promises nothing for memory that it did not allocate."""
        self.sync()
        self._waiting(self._node.Barrier)
        self.sync()

    def shared_memory(self, length: int) -> SharedMemory | None:
        """A file that a node's first rank creates; the pages belong to who writes to them first."""
        if self.size == 1:
            return SharedMemory(np.zeros(length, np.uint8))
        self._names += 1
        self.barrier()  # others have freed what they were to free, so that what is free now can be told
        return self._shared(File(length)) or self._shared(File(length, f"{self._name}-{self._names}"))

    def _shared(self, file: File) -> SharedMemory | None:
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
            self._waiting(_broadcast, self._first, array)

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
        if self._broken():
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
        with self._in_time(seconds), self._turn:
            self._part()
            connections = reconnected(self._mpi, self._number)
        found = MPICommunicator(self._mpi, connections, self._number, survives=True)
        found.lost = self._without(found)
        return found

    def _without(self, other: MPICommunicator) -> tuple[int, ...]:
        """The ranks that another communicator has not."""
        mine, others = self._comm.Get_group(), other._comm.Get_group()
        places = mine.Translate_ranks(list(range(self.size)), others)
        mine.Free()
        others.Free()
        return tuple(rank for rank, place in enumerate(places) if place == self._mpi.UNDEFINED)

    @contextlib.contextmanager
    def _in_time(self, seconds: float) -> Iterator[None]:
        """All ranks end if this takes longer; at the latest a moment later this one does, if MPI cannot end them."""

        def end() -> None:
            sys.stderr.write(
                f"dbp: error: ranks that live have not come together within {seconds:g} s; all ranks end\n"
            )
            self.abort(NOT_FINISHED)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            with Deadline(seconds + GRACE, NOT_FINISHED):
                yield
        finally:
            timer.cancel()


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


# --- the start --------------------------------------------------------------------------------------


def _without_han(modules: str) -> str:
    """A choice of collective modules, without han, whose sums are wrong after a rank of another node has died."""
    names = [name for name in modules.removeprefix("^").split(",") if name and name != "han"]
    return "^" + ",".join([*names, "han"]) if modules.startswith("^") or not names else ",".join(names)


def _settings_to_survive() -> bool:
    """Whether Open MPI was started such that ranks outlive others; makes the settings without which they hang."""
    if os.environ.get(FAULT_TOLERANT, "0").lower() not in ("1", "t", "true", "y", "yes", "enabled"):
        return False
    os.environ[COLLECTIVES] = _without_han(os.environ.get(COLLECTIVES, ""))
    os.environ.setdefault("OMPI_MCA_mpi_add_procs_cutoff", "100000")  # ranks that know each other from the start
    os.environ.setdefault("OMPI_MCA_async_mpi_finalize", "1")  # does not wait for the dead
    return True


def mpi_communicator() -> Communicator:
    """All ranks that MPI knows of; one process where no MPI library is installed.

    Where ranks outlive others, and one dies before all have come together here, all end with code NOT_FINISHED.
    """
    if not _settings_to_survive():
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
        number = _number_of_node(world, MPI.COMM_TYPE_SHARED)
        connections = Connections.of(world, number)
        if survives:
            world.Agree(1)  # an error if not all live
        return MPICommunicator(MPI, connections, number, survives)
    except MPI.Exception:
        if survives:
            world.Abort(NOT_FINISHED)
        raise
