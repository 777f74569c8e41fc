"""The ranks of a run and what they say to each other, and the one rank of a run without MPI."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbp.parallel.machine.shared_memory import Bytes, SharedMemory, fence
from dbp.parallel.ranks.clock import Stages
from dbp.parallel.ranks.nodes import Nodes


class RankLostError(Exception):
    """Other ranks have died, or have found that some have: the communicator is of no more use, see survivors()."""

    on_all_ranks = True

    def __init__(self, *words: object):
        super().__init__(*words)
        self.left: list[Callable[[], None]] = []  # what is to be freed when the survivors have met


def nothing() -> bool:
    """Nothing is asked for."""
    return False


class Communicator(ABC):
    """What the ranks say to each other. Methods are collective, every rank calls them, unless they say otherwise.

    Where ranks can outlive others (survives), all of them raise RankLostError as soon as one has died; what else would
    wait for the dead does so too. Nothing more can be said then but survivors(), for which the living must meet.
    """

    rank: int
    size: int
    nodes: Nodes  # ranks of one node have numbers that follow each other
    description: str
    stages: Stages  # the clock of this rank, which knows when it waits
    refused: str = ""  # why shared memory could not be had, the last time that it was asked for
    thread_level: str = ""  # how far several threads of a rank may use MPI
    reason: str = ""  # why there is no MPI, if there is none
    asks: Callable[[], bool] = staticmethod(nothing)  # whether this rank asks all for something, with every sum
    survives: bool = False  # whether ranks outlive others; else the launcher, as a rule, ends all when one dies
    may_survive: bool = False  # whether they would, had the launcher been asked for it
    lost: tuple[int, ...] = ()  # the ranks that the communicator before this one had, and this one has not

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Rank 0's value (any object), on every rank."""

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Every rank's value (any object), in the order of ranks, on every rank."""

    @abstractmethod
    def broadcast_array(self, array: NDArray[Any]) -> None:
        """Rank 0's array, written into that of every rank (same shape and type everywhere)."""

    @abstractmethod
    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:
        """Every rank's bytes one after the other; counts[r] of them from rank r."""

    @abstractmethod
    def gathering(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> Any:
        """gather_bytes() in a message that has begun, and is over when done([it])."""

    @abstractmethod
    def sum_by_library(self, array: NDArray[Any]) -> None:
        """The MPI library's own sum over ranks, in place; training does not use it, its speed is compared."""

    @abstractmethod
    def barrier(self) -> None:
        """Waits for all ranks."""

    @abstractmethod
    def node_barrier(self) -> None:
        """After it every rank of a node sees what any of them wrote to shared memory before it."""

    def sync(self) -> None:
        """Orders what this rank reads from and writes to shared memory before and after it; not collective."""
        fence()

    @abstractmethod
    def shared_memory(self, length: int) -> SharedMemory | None:
        """So many bytes for the ranks of each node, not yet written; None, on all ranks, if one node has too little.

        What a node's length is may differ from that of other nodes.
        """

    @abstractmethod
    def between_nodes(self, array: NDArray[Any]) -> None:
        """The array of the first rank of the first node, written into that of each other node's first rank."""

    @abstractmethod
    def outgoing(self, array: NDArray[Any], rank: int, tag: int) -> Any:
        """A message of at most 2 GiB that can be sent to a rank again and again; not collective."""

    @abstractmethod
    def incoming(self, array: NDArray[Any], rank: int, tag: int) -> Any:
        """The place of such a message from a rank; not collective."""

    @abstractmethod
    def start(self, messages: Sequence[Any]) -> None:
        """Begin to send or receive them."""

    @abstractmethod
    def done(self, messages: Sequence[Any]) -> bool:
        """Whether all of them are sent or received; makes them go on."""

    @abstractmethod
    def discard(self, messages: Sequence[Any]) -> None:
        """They will not be sent or received again."""

    @abstractmethod
    def finalize(self) -> None:
        """Nothing more will be said; every rank calls this last."""

    @abstractmethod
    def abort(self, code: int) -> None:
        """End all ranks at once; not collective."""

    @abstractmethod
    def confirm(self) -> None:
        """Returns on all ranks, or raises RankLostError on all: what they did before it was done with all alive.

        Only where ranks outlive others; elsewhere it does nothing.
        """

    @abstractmethod
    def revoke(self) -> None:
        """Whatever the ranks wait for, or begin, ends with RankLostError on all of them; not collective."""

    @abstractmethod
    def survivors(self, seconds: float) -> Communicator:
        """A communicator of the ranks that live, in the order that they had; collective among them.

        This one is revoked. What was made with it is to be freed after it, and before the like is made with the new
        one: until then messages of ranks that go on may still be written to it.

        Args:
            seconds: after which all ranks end with the exit code NOT_FINISHED.
        """


class OneProcess(Communicator):
    """One rank, without MPI."""

    size, nodes = 1, Nodes((1,))

    def __init__(self, description: str = "one process", rank: int = 0, reason: str = ""):
        self.description, self.rank, self.reason, self.stages = description, rank, reason, Stages()

    def broadcast(self, value: Any) -> Any:
        """The value."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """The value alone."""
        return [value]

    def broadcast_array(self, array: NDArray[Any]) -> None:
        """Nothing to do."""

    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:  # noqa: ARG002
        """A copy."""
        everyones[:] = mine

    def gathering(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> Any:
        """There is nobody else."""
        raise NotImplementedError

    def barrier(self) -> None:
        """Nothing to do."""

    node_barrier = sync = finalize = confirm = revoke = barrier

    def shared_memory(self, length: int) -> SharedMemory | None:
        """Memory of this process."""
        return SharedMemory(np.zeros(length, np.uint8))

    between_nodes = sum_by_library = broadcast_array

    def outgoing(self, array: NDArray[Any], rank: int, tag: int) -> Any:
        """There is nobody else."""
        raise NotImplementedError

    incoming = outgoing

    def start(self, messages: Sequence[Any]) -> None:
        """Nothing to do."""

    discard = start

    def done(self, messages: Sequence[Any]) -> bool:
        """There are none."""
        return not messages

    def abort(self, code: int) -> None:
        """Leave at once."""
        os._exit(code)

    def survivors(self, seconds: float) -> Communicator:  # noqa: ARG002
        """This one."""
        return self
