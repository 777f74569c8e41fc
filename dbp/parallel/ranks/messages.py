"""Messages between ranks that hold parts of vectors, packed before sending and unpacked after receiving."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.wire import Action, Wire
from dbp.types import Array


@dataclass(frozen=True)
class Message:
    """A part of a vector, and the rank that it is sent to or received from."""

    rank: int
    part: slice


# Tags: MPI keeps the order of messages between two ranks for each tag separately.
PARTS, COLLECTED, FINISHED, SUMS, VECTORS, GATHERED, TIMES = range(7)
MESSAGE_BYTES = 1 << 24  # of a piece of an array that is gathered

Form = Callable[[slice], tuple[Array, Action]]  # the message for a part, and the action that packs or unpacks it


class Messages:
    """Messages to other ranks, or from them, with the actions that pack or unpack them.

    Args:
        comm: the ranks.
        tag: of all these messages.
    """

    def __init__(self, comm: Communicator, tag: int):
        self._comm, self._tag = comm, tag
        self.all: list[Any] = []
        self.peers: list[tuple[int, int]] = []  # of each of them, the other rank and the bytes
        self._actions: list[Action] = []

    def send(self, messages: Iterable[Message], form: Form) -> None:
        """Prepare messages to send, each in the form of its part; call run_actions() before sending them."""
        for message in messages:
            array, action = form(message.part)
            self._add(self._comm.channel.outgoing(array, message.rank, self._tag), action, message.rank, array.nbytes)

    def receive(self, messages: Iterable[Message], form: Form) -> None:
        """Prepare messages to receive, each in the form of its part; call run_actions() after receiving them."""
        for message in messages:
            array, action = form(message.part)
            self._add(self._comm.channel.incoming(array, message.rank, self._tag), action, message.rank, array.nbytes)

    def _add(self, message: Any, action: Action, rank: int, size: int) -> None:
        self.all.append(message)
        self.peers.append((rank, size))
        self._actions.append(action)

    def run_actions(self) -> None:
        """Pack what is sent, or unpack what was received."""
        for action in self._actions:
            action()


class PartBroadcast:
    """A broadcast of the parts of a vector, each from the rank that has it to one rank of every other node.

    Args:
        comm: the ranks.
        vector: one copy per node.
        sent: parts that this rank sends.
        received: parts that this rank receives.
    """

    def __init__(self, comm: Communicator, vector: Array, sent: Iterable[Message], received: Iterable[Message]):
        self._comm, self._vector = comm, vector  # keeps the vector alive, so that no other gets its id
        out, into, wire = Messages(comm, VECTORS), Messages(comm, VECTORS), Wire()
        out.send(sent, partial(wire.outgoing, vector))
        into.receive(received, partial(wire.incoming, vector))
        self._messages = [*into.all, *out.all]

    def __call__(self) -> None:
        """Broadcast the parts; collective. Afterwards the ranks of a node must wait for each other."""
        self._comm.channel.start(self._messages)
        self._comm.clock.wait_until(lambda: self._comm.channel.done(self._messages))

    def free(self) -> None:
        """Free the messages; this object cannot be used again."""
        self._comm.channel.discard(self._messages)


def gather_on_rank_0(comm: Communicator, mine: Array) -> list[Array]:
    """Return the arrays of all ranks, of any lengths, in the order of ranks, on rank 0 alone; collective.

    Args:
        comm: the ranks.
        mine: this rank's array, of one axis.
    """
    described = comm.gather((mine.dtype.str, len(mine)))
    if comm.rank != 0:
        _exchange(comm, [comm.channel.outgoing(piece, 0, GATHERED) for piece in _pieces(mine)])
        return []
    found = [mine, *(np.empty(length, dtype) for dtype, length in described[1:])]
    for rank, array in enumerate(found[1:], start=1):  # one after the other, so that few messages wait
        _exchange(comm, [comm.channel.incoming(piece, rank, GATHERED) for piece in _pieces(array)])
    return found


def _pieces(array: Array) -> list[Array]:
    """Return an array in pieces of at most MESSAGE_BYTES."""
    step = MESSAGE_BYTES // array.itemsize
    return [array[start : start + step] for start in range(0, len(array), step)]


def _exchange(comm: Communicator, messages: list[Any]) -> None:
    """Send or receive messages, and wait for that."""
    comm.channel.start(messages)
    comm.clock.wait_until(lambda: comm.channel.done(messages))
    comm.channel.discard(messages)
