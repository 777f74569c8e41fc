"""Calls of one rank to MPI: they let others have the core while they wait, and notice that ranks have died.

mpi4py's module comes as an argument, since only mpi.py imports it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dbp.parallel.ranks.clock import StageClock
from dbp.parallel.ranks.comm import RankLostError
from dbp.parallel.ranks.connections import Connections, has_failed

NOTICE_SECONDS = 0.5  # in which a rank learns that another has died

Result = TypeVar("Result")
_kept: list[Any] = []  # buffers and messages that MPI might still use


def keep(*needed: Any) -> None:
    """Keep objects until the process ends, because MPI might still read from or write to them."""
    _kept.extend(needed)


class MPICalls:
    """Calls to MPI on the communicators of some ranks.

    Args:
        mpi: mpi4py's module.
        connections: MPI's communicators.
        clock: of this rank.
        survives: whether ranks outlive others.
        one_at_a_time: whether only one thread at a time may call MPI.
    """

    def __init__(self, mpi: Any, connections: Connections, clock: StageClock, survives: bool, one_at_a_time: bool):
        self.mpi, self.clock, self.survives = mpi, clock, survives
        self.lock = threading.RLock() if one_at_a_time else contextlib.nullcontext()
        self._ranks, self._comm = connections.ranks, connections.all
        self._communicators = connections.all, connections.messages, connections.node, connections.first
        clock.check = self._check

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function of MPI; raise RankLostError if it fails because ranks have died."""
        with self.lock:
            try:
                return function(*arguments)
            except self.mpi.Exception as error:
                if self.survives and self.is_broken(error):
                    self.give_up(error)
                raise

    def complete(self, begin: Callable[..., Any], *arguments: Any) -> None:
        """Begin a nonblocking collective and wait for its end; it yields the core, unlike a blocking one.

        Where a rank has died, Open MPI may report success and return values that nobody has sent. So after
        the wait, check for dead ranks. A rank that others have sent such values learns of it from confirm().
        """
        request = self.call(begin, *arguments)
        self.wait_until(lambda: bool(self.call(request.Test)), request)

    def wait_until(self, done: Callable[[], bool], *needed: Any, sleep: Callable[[float], None] | None = None) -> None:
        """Wait until done() returns True. If ranks die meanwhile, keep what is needed, as MPI might still use it.

        Args:
            done: called again and again.
            needed: what MPI might use.
            sleep: sleeps until this rank is woken up, at most some seconds; None if nobody would.
        """
        try:
            self.clock.wait_until(done, sleep=sleep)
        except BaseException:
            keep(*needed)
            raise
        self._give_up_if_broken()

    def complete_long(self, comm: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a blocking collective of a communicator when all its ranks have arrived.

        Blocking ones move long messages faster. They spin, but then none of them waits for a rank that computes.
        """
        self.complete(comm.Ibarrier)
        self.call(function, *arguments)
        self._give_up_if_broken()

    def unpickle(self, message: NDArray[np.uint8]) -> Any:
        """Return the object in a message; raise RankLostError if a dead rank has sent only a part of it."""
        try:
            return self.mpi.pickle.loads(message)
        except Exception as error:
            if self.survives and self._is_soon_broken():
                self.give_up(error)
            raise

    def is_broken(self, error: Any = None) -> bool:
        """Return True if ranks have died, others have found so, or this error says so."""
        mpi = self.mpi
        classes = (mpi.ERR_PROC_FAILED, mpi.ERR_PROC_FAILED_PENDING, mpi.ERR_REVOKED)
        if error is not None and error.Get_error_class() in classes:
            return True
        with self.lock:
            return has_failed(self._ranks) or any(comm.Is_revoked() for comm in self._communicators)

    def _is_soon_broken(self) -> bool:
        """Return True if ranks have died, as far as this rank learns within NOTICE_SECONDS."""
        end = time.perf_counter() + NOTICE_SECONDS
        while not (broken := self.is_broken()) and time.perf_counter() < end:
            time.sleep(NOTICE_SECONDS / 100)
            with contextlib.suppress(self.mpi.Exception), self.lock:
                self._comm.Iprobe()  # in which MPI notices dead ranks
        return broken

    def probe(self) -> None:
        """Let MPI send and receive, and notice dead ranks."""
        self.call(self._comm.Iprobe)

    def _check(self) -> None:
        """Raise RankLostError if a rank has died, also in a rank that waits for shared memory and not for messages."""
        self.probe()
        self._give_up_if_broken()

    def _give_up_if_broken(self) -> None:
        if self.survives and self.is_broken():
            self.give_up()

    def revoke(self) -> None:
        """Call MPI_Comm_revoke on all communicators in which ranks wait."""
        if self.survives:
            with self.lock:
                for comm in self._communicators:
                    comm.Revoke()

    def give_up(self, error: Exception | None = None) -> None:
        """Revoke all communicators and raise RankLostError."""
        self.revoke()
        raise RankLostError("another rank has died") from error
