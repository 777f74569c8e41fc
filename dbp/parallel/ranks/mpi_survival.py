"""The survival of ranks under MPI: user-level failure mitigation (ULFM), as Open MPI 5 has it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from dbp.parallel.ranks.clock import no_check
from dbp.parallel.ranks.comm import Communicator, RankLostError, Survival
from dbp.parallel.ranks.connections import Connections, reconnect
from dbp.parallel.ranks.deadline import abort_after
from dbp.parallel.ranks.mpi_calls import MPICalls

Renew = Callable[[Connections], Communicator]


class MPISurvival(Survival):
    """The survival of a communicator's ranks when others die.

    Args:
        calls: of this rank to MPI.
        connections: MPI's communicators.
        number: of this rank's node.
        renew: makes a communicator of the survivors' connections.
        abort: ends all ranks with an exit code.
    """

    enabled = possible = True

    def __init__(
        self, calls: MPICalls, connections: Connections, number: int, renew: Renew, abort: Callable[[int], None]
    ):
        self._calls, self._comm, self._number = calls, connections.all, number
        self._renew, self._abort = renew, abort
        self._has_left = False

    def confirm(self) -> None:
        """Call MPI_Comm_iagree, which has the same result on all ranks that live.

        A revocation does not end it: so a rank that has given up takes part once more, see _leave().
        """
        alive = False
        try:
            alive = self._agree(not self._calls.is_broken())
        finally:
            self._has_left = not alive
        if not alive:
            self._calls.give_up()

    def _agree(self, mine: bool) -> bool:
        """Return True on all ranks that live if all of them pass True; a rank that waits yields its core."""
        flag = np.array([mine], np.intc)
        request = self._calls.call(self._comm.Iagree, flag)
        self._calls.clock.wait_until(lambda: bool(self._calls.call(request.Test)), check=no_check)
        return bool(flag[0])

    def _leave(self) -> None:
        """Release the ranks that wait in confirm() for this one, which will not come."""
        if not self._has_left:
            self._has_left = True
            with contextlib.suppress(self._calls.mpi.Exception, RankLostError):
                self._agree(False)

    def revoke(self) -> None:
        """Call MPI_Comm_revoke."""
        self._calls.revoke()

    def survivors(self, seconds: float) -> Communicator:
        """Shrink MPI's world, come together, and agree that all have; again if more die meanwhile."""
        self.revoke()
        text = f"ranks that live have not come together within {seconds:g} s; all ranks end"
        with abort_after(seconds, text, self._abort), self._calls.lock:
            self._leave()
            connections = reconnect(self._calls.mpi, self._number)
        found = self._renew(connections)
        found.survival.lost = self._missing_in(connections)
        return found

    def _missing_in(self, connections: Connections) -> tuple[int, ...]:
        """Return the ranks of this communicator that other connections lack."""
        mine, others = self._comm.Get_group(), connections.all.Get_group()
        ranks: list[Any] = mine.Translate_ranks(list(range(self._comm.Get_size())), others)
        mine.Free()
        others.Free()
        return tuple(rank for rank, there in enumerate(ranks) if there == self._calls.mpi.UNDEFINED)
