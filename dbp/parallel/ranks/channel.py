"""Messages between two ranks, prepared once and then sent again and again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from dbp.parallel.machine.shared_memory import Bytes
from dbp.types import Array


class Channel(ABC):
    """The messages of one rank. Methods are not collective, unless they say so."""

    @abstractmethod
    def outgoing(self, array: Array, rank: int, tag: int) -> Any:
        """Prepare a message of at most 2 GiB that can be sent to a rank again and again."""

    @abstractmethod
    def incoming(self, array: Array, rank: int, tag: int) -> Any:
        """Prepare to receive such a message from a rank into an array."""

    @abstractmethod
    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> Any:
        """Start Communicator.gather_bytes() and return it as a message, which done() tests; collective."""

    @abstractmethod
    def gather_bytes_between_nodes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> Any:
        """Do the same among the first ranks of the nodes; collective among these."""

    @abstractmethod
    def start(self, messages: Sequence[Any]) -> None:
        """Begin to send or receive prepared messages."""

    @abstractmethod
    def done(self, messages: Sequence[Any]) -> bool:
        """Return True if all messages are sent or received; give MPI a chance to send and receive."""

    @abstractmethod
    def keep(self, *needed: Any) -> None:
        """Keep messages and their memory until the process ends, as they might still arrive, after ranks have died."""

    @abstractmethod
    def discard(self, messages: Sequence[Any]) -> None:
        """Free messages that will not be sent or received again."""


class NoChannel(Channel):
    """The channel of a single process, which has no one to send to."""

    def outgoing(self, array: Array, rank: int, tag: int) -> Any:
        """Refuse: a single process has no one to send to."""
        raise AssertionError(f"a single process must not send {array.nbytes} bytes to rank {rank} (tag {tag})")

    incoming = outgoing

    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> Any:
        """Copy the bytes; return a message that has arrived."""
        assert list(counts) == [len(mine)]
        everyones[:] = mine

    gather_bytes_between_nodes = gather_bytes

    def start(self, messages: Sequence[Any]) -> None:
        """Return: there are no messages."""

    discard = start

    def keep(self, *needed: Any) -> None:
        """Return: nothing is on its way."""

    def done(self, messages: Sequence[Any]) -> bool:  # noqa: ARG002
        """Return True."""
        return True
