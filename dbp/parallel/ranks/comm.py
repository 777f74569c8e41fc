"""The communicator: the ranks of a job, their collectives, and what they do when some die; the one rank without MPI."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from dbp.parallel.machine.shared_memory import Bytes
from dbp.parallel.ranks.channel import Channel, NoChannel
from dbp.parallel.ranks.clock import StageClock
from dbp.parallel.ranks.node_group import NodeGroup, SingleRank
from dbp.parallel.ranks.nodes import Nodes
from dbp.types import Array


class RankLostError(Exception):
    """Other ranks have died: the communicator can no longer be used, see Survival.survivors()."""

    on_all_ranks = True

    def __init__(self, *words: object):
        super().__init__(*words)
        self.left: list[Callable[[], None]] = []  # what to free when the survivors have come together


def no_request() -> bool:
    """Return False: nobody asks the ranks to stop."""
    return False


class Communicator(ABC):
    """The ranks of a job and their collectives: every rank calls each method, unless it says otherwise."""

    rank: int
    size: int
    nodes: Nodes  # ranks of one node have consecutive numbers
    node: NodeGroup  # what the ranks of this rank's node share
    channel: Channel  # messages to single ranks
    survival: Survival  # what happens when ranks die
    clock: StageClock  # of this rank
    description: str
    thread_level: str = ""  # how far several threads of a rank may use MPI
    reason: str = ""  # why there is no MPI, if there is none
    asks_to_stop: Callable[[], bool] = staticmethod(no_request)  # whether this rank asks; every sum takes it to all

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value (any object that can be pickled)."""

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value (any object that can be pickled), in the order of ranks, on every rank."""

    @abstractmethod
    def broadcast_array(self, array: Array) -> None:
        """Write rank 0's array into that of every rank (same shape and type everywhere)."""

    @abstractmethod
    def broadcast_between_nodes(self, array: Array) -> None:
        """Write the array of the first node's first rank into that of each other node's first rank."""

    @abstractmethod
    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:
        """Write every rank's bytes one after the other; counts[r] of them, a multiple of 8, from rank r."""

    @abstractmethod
    def sum_by_library(self, array: Array) -> None:
        """Sum arrays over ranks in place by the MPI library itself. Training does not use it: its speed is compared."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait for all ranks."""

    @abstractmethod
    def finalize(self) -> None:
        """End communication; every rank calls this last."""

    @abstractmethod
    def abort(self, code: int) -> None:
        """End all ranks at once with an exit code; not collective."""


class Survival(ABC):
    """The survival of a communicator's ranks when others die.

    Where they can (enabled), all of them raise RankLostError as soon as one has died, also from whatever would wait for
    the dead. After that only survivors() can be called, in which the living come together.
    """

    enabled: bool = False  # else the launcher, as a rule, ends all ranks when one dies
    possible: bool = False  # whether it would be enabled, had the launcher been asked for it
    lost: tuple[int, ...] = ()  # ranks of the communicator before this one that have died since

    @abstractmethod
    def confirm(self) -> None:
        """Return on all ranks, or raise RankLostError on all: until now all were alive; collective."""

    @abstractmethod
    def revoke(self) -> None:
        """End with RankLostError, on all ranks, whatever they wait for or begin; not collective."""

    @abstractmethod
    def survivors(self, seconds: float) -> Communicator:
        """Return a communicator of the ranks that live, in their order; collective among them.

        The communicator before it is revoked. Free what was made with that one after this call, and before the like is
        made with the new one: until then messages of ranks that continue may still be written to it.

        Args:
            seconds: after which all ranks end with the exit code NOT_FINISHED.
        """


class NoSurvival(Survival):
    """The survival of ranks that do not outlive each other.

    Args:
        possible: whether they could, had the launcher been asked for it.
    """

    def __init__(self, possible: bool = False):
        self.possible = possible

    def confirm(self) -> None:
        """Return: if a rank were dead, this one would be too."""

    revoke = confirm

    def survivors(self, seconds: float) -> Communicator:  # noqa: ARG002
        """Raise RankLostError: no rank outlives another."""
        raise RankLostError("another rank has died, and ranks do not outlive each other here")


class OneProcess(Communicator):
    """One rank, without MPI.

    Args:
        description: what the user sees of it.
        rank: its number, if it was meant to be one of several.
        reason: why there is no MPI, if there is none.
    """

    size, nodes = 1, Nodes((1,))

    def __init__(self, description: str = "one process", rank: int = 0, reason: str = ""):
        self.description, self.rank, self.reason = description, rank, reason
        self.node, self.channel, self.survival, self.clock = SingleRank(), NoChannel(), NoSurvival(), StageClock()

    def broadcast(self, value: Any) -> Any:
        """Return the value."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """Return the value alone."""
        return [value]

    def gather_bytes(self, mine: Bytes, everyones: Bytes, counts: Sequence[int]) -> None:
        """Copy the bytes."""
        self.channel.gather_bytes(mine, everyones, counts)

    def broadcast_array(self, array: Array) -> None:
        """Leave the array as it is."""

    broadcast_between_nodes = sum_by_library = broadcast_array

    def barrier(self) -> None:
        """Return at once."""

    finalize = barrier

    def abort(self, code: int) -> None:
        """End this process at once."""
        os._exit(code)
