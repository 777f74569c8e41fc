"""Messages between two ranks under MPI: persistent requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from dbp.parallel.machine.shared_memory import Bytes
from dbp.parallel.ranks.channel import Channel
from dbp.parallel.ranks.connections import Connections
from dbp.parallel.ranks.mpi_calls import MPICalls, keep
from dbp.types import Array

GIVE_UP_SECONDS = 1.0  # in which MPI should give up messages that cannot arrive


class MPIChannel(Channel):
    """The messages of this rank.

    Args:
        calls: of this rank to MPI.
        connections: MPI's communicators.
    """

    def __init__(self, calls: MPICalls, connections: Connections):
        self._calls, self._mpi = calls, calls.mpi
        self._messages, self._all, self._first = connections.messages, connections.all, connections.first

    def outgoing(self, array: Array, rank: int, tag: int) -> Any:
        """Call MPI_Send_init."""
        return self._calls.call(self._messages.Send_init, [array.view(np.uint8), self._mpi.BYTE], rank, tag)

    def incoming(self, array: Array, rank: int, tag: int) -> Any:
        """Call MPI_Recv_init."""
        return self._calls.call(self._messages.Recv_init, [array.view(np.uint8), self._mpi.BYTE], rank, tag)

    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> Any:
        """Call MPI_Iallgatherv."""
        return self._calls.call(self._all.Iallgatherv, *self.gather_buffers(mine, everyones, counts))

    def gather_bytes_between_nodes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> Any:
        """Call MPI_Iallgatherv among the first ranks of the nodes."""
        return self._calls.call(self._first.Iallgatherv, *self.gather_buffers(mine, everyones, counts))

    def gather_buffers(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> tuple[Any, Any]:
        """Return the arguments of MPI_Allgatherv, with counts in units of 8 bytes, so that 16 GiB fit."""
        words = [count // 8 for count in counts]
        starts = [0, *accumulate(words)][:-1]
        receive = [everyones.view(np.uint64), (words, starts), self._mpi.UINT64_T]
        return [mine.view(np.uint64), self._mpi.UINT64_T], receive

    def start(self, messages: Sequence[Any]) -> None:
        """Call MPI_Startall."""
        if messages:
            self._calls.call(self._mpi.Prequest.Startall, messages)

    def done(self, messages: Sequence[Any]) -> bool:
        """Call MPI_Testall."""
        return bool(self._calls.call(self._mpi.Request.Testall, messages)) if messages else True

    def keep(self, *needed: Any) -> None:
        """Keep messages and their memory, to which MPI might still write."""
        keep(*needed)

    def discard(self, messages: Sequence[Any]) -> None:
        """Call MPI_Request_free, if need be after MPI has given up what a dead rank does not send or receive.

        Messages that it does not give up are kept, as MPI might still write to them.
        """
        end, waiting = time.perf_counter() + GIVE_UP_SECONDS, list(messages)
        while self._calls.survives and waiting and time.perf_counter() < end:
            waiting = [message for message in waiting if not self._is_over(message)]
        keep(*waiting)
        for message in messages:
            if message not in waiting:
                message.Free()

    def _is_over(self, message: Any) -> bool:
        """Return True if a message is sent or received, or never will be."""
        try:
            with self._calls.lock:
                return bool(message.Test())
        except self._mpi.Exception:
            return True
