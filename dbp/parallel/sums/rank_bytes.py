"""Bytes that each rank writes and all ranks read, as many as it has: one copy per node where its ranks share memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from dbp.parallel.machine.shared_memory import Bytes, SharedMemory
from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.messages import GATHERED, MESSAGE_BYTES
from dbp.parallel.shards import pieces
from dbp.parallel.vectors.pages import page_bytes

ROOM = 1.5  # times the length that is needed, so that memory seldom has to grow


class RankBytes:
    """Memory for the bytes of all ranks, one rank after the other: begin(), write your own part, complete().

    Before the next begin() the ranks of a node must have come together after their last look at the bytes.

    Args:
        comm: the ranks.
        shared: True if the ranks of a node are to share memory.
    """

    def __init__(self, comm: Communicator, shared: bool):
        self._comm, self._shared = comm, shared
        self._memory: SharedMemory | None = None
        self._bytes: Bytes = np.zeros(0, np.uint8)
        self._counts: Sequence[int] = ()

    def begin(self, counts: Sequence[int]) -> Bytes:
        """Return the memory for this rank's bytes; collective.

        Args:
            counts: of the bytes of each rank, multiples of 8, the same on every rank.
        """
        self._counts, length = counts, sum(counts)
        if self._shared and (self._memory is None or len(self._memory.bytes) < length):
            self.free()
            self._memory = self._comm.node.allocate(page_bytes(int(ROOM * length) + 1))
            self._shared = self._memory is not None  # on all ranks of all nodes, or on none
        self._bytes = np.empty(length, np.uint8) if self._memory is None else self._memory.bytes[:length]
        return self._part(self._comm.rank)

    def complete(self) -> Bytes:
        """Return the bytes of all ranks; collective."""
        if not self._shared:
            self._comm.gather_bytes(self._part(self._comm.rank).copy(), self._bytes, self._counts)
            return self._bytes
        if self._comm.nodes.count > 1:
            self._exchange()
        self._comm.node.barrier()
        return self._bytes

    def _part(self, rank: int) -> Bytes:
        ends = [0, *accumulate(self._counts)]
        return self._bytes[ends[rank] : ends[rank + 1]]

    def _exchange(self) -> None:
        """Send this rank's bytes to one rank of each other node, and receive there those of some other ranks."""
        channel, nodes, messages = self._comm.channel, self._comm.nodes, list[Any]()
        here = nodes.runs[nodes.mine]
        for ranks in (ranks for ranks in nodes.runs if ranks is not here and ranks != here):
            reader = ranks[(self._comm.rank - here.start) % len(ranks)]
            messages += self._messages(channel.outgoing, self._comm.rank, reader)
            for rank in ranks:
                if here[(rank - ranks.start) % len(here)] == self._comm.rank:
                    messages += self._messages(channel.incoming, rank, rank)
        channel.start(messages)
        self._comm.clock.wait_until(lambda: channel.done(messages))
        channel.discard(messages)

    def _messages(self, prepare: Any, part: int, rank: int) -> list[Any]:
        """Return messages to or from a rank with the bytes of one rank."""
        memory = self._part(part)
        return [prepare(memory[piece], rank, GATHERED) for piece in pieces(slice(0, len(memory)), MESSAGE_BYTES)]

    def free(self) -> None:
        """Give the memory back."""
        if self._memory is not None:
            self._memory.free()
            self._memory = None
