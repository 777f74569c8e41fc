"""Messages between ranks: parts of vectors, each in the form in which it travels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.wire import Action, Wire
from dbp.types import Array


@dataclass(frozen=True)
class Message:
    """A part of a vector that goes from one rank to another."""

    rank: int
    part: slice


# Tags: messages between two ranks arrive in the order of sending, for each of them apart.
PARTS, SUMS, VECTORS, WHOLE = range(4)


Form = Callable[[slice], tuple[Array, Action]]  # what is sent or received for a part, and what is done before or after


class Messages:
    """Messages to other ranks, or from them, with what must be done to their numbers before, or after.

    Args:
        comm: the ranks.
        tag: of all of them.
    """

    def __init__(self, comm: Communicator, tag: int):
        self._comm, self._tag = comm, tag
        self.all: list[Any] = []
        self._actions: list[Action] = []

    def send(self, messages: Iterable[Message], form: Form) -> None:
        """These are to be sent, each in the form that its part has; ready() before that."""
        for message in messages:
            array, action = form(message.part)
            self._add(self._comm.channel.outgoing(array, message.rank, self._tag), action)

    def receive(self, messages: Iterable[Message], form: Form) -> None:
        """These are to be received; ready() after that."""
        for message in messages:
            array, action = form(message.part)
            self._add(self._comm.channel.incoming(array, message.rank, self._tag), action)

    def _add(self, message: Any, action: Action) -> None:
        self.all.append(message)
        self._actions.append(action)

    def ready(self) -> None:
        """Bring what is sent, or what was received, up to date."""
        for action in self._actions:
            action()


class Spread:
    """Gives to all nodes what ranks of others have of a vector; collective.

    Args:
        comm: the ranks.
        vector: of which the ranks of a node have one copy.
        sent: parts that this rank sends.
        received: parts that it gets.
    """

    def __init__(self, comm: Communicator, vector: Array, sent: Iterable[Message], received: Iterable[Message]):
        self._comm, self._vector = comm, vector  # held, so that no other vector comes to have its id
        out, into, wire = Messages(comm, VECTORS), Messages(comm, VECTORS), Wire()
        out.send(sent, partial(wire.outgoing, vector))
        into.receive(received, partial(wire.incoming, vector))
        self._messages = [*into.all, *out.all]

    def __call__(self) -> None:
        """Do it; the ranks of a node must wait for each other after it."""
        self._comm.channel.start(self._messages)
        self._comm.clock.wait_until(lambda: self._comm.channel.done(self._messages))

    def free(self) -> None:
        """It will not be used again."""
        self._comm.channel.discard(self._messages)
