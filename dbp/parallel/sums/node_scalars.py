"""The sum of a few scalars over the shards of several nodes: those of a node's ranks first, in memory that they share.

Only one rank of each node sends messages, so that their number grows with that of the nodes alone. The bits are those
of the plain sum because the tree is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.sums.summation_tree import Adder, Branch, additions, rounds
from dbp.types import Array

WORD = 8  # bytes
STOP, DOUBT = 1, 2  # bits of a rank's notice: it asks all to stop; its vector may not be finite


class NodeScalars:
    """The sum over the shards of all nodes, again and again.

    Args:
        comm: the ranks.
        nodes: those within which ranks share memory.
        branches: for each node, which branches of the tree the parts of its ranks are.
        scalars: their number.
        parts: the scalars of each part of this node, in shared memory.
        notices: a byte for each rank of this node, shared.
        ready: a number for each rank of this node, shared, zero at first.
        memory: shared words, as many as word_count() says, zero at first.
    """

    def __init__(
        self,
        comm: Communicator,
        nodes: Nodes,
        branches: Sequence[Sequence[Branch]],
        scalars: int,
        parts: Sequence[Array],
        notices: Array,
        ready: Array,
        memory: Array,
    ):
        self._comm, self._notices, self._ready = comm, notices, ready
        first = nodes.runs[nodes.mine].start
        self._position, self._is_first, self._round = comm.rank - first, comm.rank == first, 0
        plans = [additions(of_node, to_root=False) for of_node in branches]
        lengths = [_message_words(plan.branches, scalars) for plan in plans]
        self._counts = [WORD * length for length in lengths]
        self._sent = np.zeros(lengths[nodes.mine])
        self._sums = self._sent[1:].reshape(-1, scalars)  # behind the notices
        self._adder = Adder(plans[nodes.mine], parts, [*self._sums], {})
        self._arrived, self._words = memory[:1], memory[1:].view(np.float64)
        self._notice_offsets = np.cumsum([0, *lengths[:-1]])
        of_nodes = zip(self._notice_offsets, plans, strict=True)
        rows = [start + 1 + scalars * np.arange(len(plan.branches)) for start, plan in of_nodes]
        self._offsets = np.concatenate(rows).astype(np.intp)[:, None] + np.arange(scalars)
        self._rounds = rounds([branch for plan in plans for branch in plan.branches])
        each_alone = nodes.count == comm.size
        self._gather = comm.channel.gather_bytes if each_alone else comm.channel.gather_bytes_between_nodes
        self._message: Any = None

    @staticmethod
    def word_count(branches: Sequence[Sequence[Branch]], scalars: int) -> int:
        """Return the words of shared memory that the sum needs."""
        plans = [additions(of_node, to_root=False) for of_node in branches]
        return 1 + sum(_message_words(plan.branches, scalars) for plan in plans)

    def start(self, is_in_doubt: bool = False) -> None:
        """Start the sum of the parts as they are now.

        Args:
            is_in_doubt: True if the total must not count as finite on any rank.
        """
        self._round += 1
        self._message = None
        self._notices[self._position] = STOP * self._comm.asks_to_stop() + DOUBT * is_in_doubt
        self._comm.node.memory_barrier()
        self._ready[self._position] = self._round

    def wait(self) -> None:
        """Wait until the sum has arrived."""
        try:
            self._comm.clock.wait_until(self.has_arrived)
        except BaseException:
            self._comm.channel.keep(self._message, self._sent, self._words)
            raise

    def has_arrived(self) -> bool:
        """Advance, and return True if the sum has arrived; to be called until then."""
        if self._is_first and self._arrived[0] < self._round:
            self._advance()
        return bool(self._arrived[0] >= self._round)

    def _advance(self) -> None:
        """Send the sums of this node when all its ranks are ready, and pass on what has come from all nodes."""
        if self._message is None:
            if self._ready.min() < self._round:
                return
            self._comm.node.memory_barrier()
            for row, found in zip(self._sums, self._adder.add(), strict=True):
                row[:] = found
            self._sent[0] = np.bitwise_or.reduce(self._notices)
            self._message = self._gather(self._sent.view(np.uint8), self._words.view(np.uint8), self._counts)
        if self._comm.channel.done([self._message]):
            self._comm.clock.check()  # where a rank has died, MPI may report success
            self._comm.node.memory_barrier()
            self._arrived[0] = self._round

    def total(self) -> tuple[Array, bool, bool]:
        """Return the sums that have arrived, whether a rank asks to stop, and whether one is in doubt."""
        self._comm.node.memory_barrier()
        scalars = self._words[self._offsets]
        for left, right in self._rounds:
            scalars[left] += scalars[right]
        notices = int(np.bitwise_or.reduce(self._words[self._notice_offsets].astype(np.int64)))
        return scalars[0], bool(notices & STOP), bool(notices & DOUBT)


def _message_words(branches: Sequence[Branch], scalars: int) -> int:
    """Return the words of a node's message: the notices of its ranks, and its sums."""
    return 1 + scalars * len(branches)
