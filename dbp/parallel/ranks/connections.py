"""The MPI communicators of a job, and those of the survivors after ranks have died."""

from __future__ import annotations

import contextlib
import os
import secrets
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dbp.errors import UserError
from dbp.parallel.machine.cores import limit_cores, pinned_cores
from dbp.parallel.machine.limits import processor_limit

NODE_SIZES = (
    "DBP_NODE_SIZES"  # environment variable: ranks of each node, such as 2,1, to try several nodes on one machine
)


class Connections(NamedTuple):
    """MPI's communicators of some ranks, and the numbers of their nodes."""

    ranks: Any  # used only to create the others
    all: Any  # all ranks, node after node
    messages: Any  # the same ranks, for messages between two
    node: Any  # the ranks of this rank's node
    first: Any  # the first ranks of all nodes; on other ranks, those that are not first
    node_numbers: NDArray[np.int64]  # of each of `ranks`, the number of its node
    random_numbers: NDArray[np.int64]  # of each of `ranks`, for names that are unique on a machine

    @classmethod
    def of(cls, ranks: Any, number: int) -> Connections:
        """Create the communicators.

        Collective.

        Args:
            ranks: a communicator.
            number: of this rank's node.
        """
        node = ranks.Split(number)
        first = ranks.Split(min(node.Get_rank(), 1), number)
        numbers = np.empty((ranks.Get_size(), 2), np.int64)
        ranks.Allgather(np.array([number, secrets.randbits(62)]), numbers)
        return cls(ranks, ranks.Split(0, number), ranks.Split(0, number), node, first, numbers[:, 0], numbers[:, 1])


def node_number(world: Any, shared: int) -> int:
    """Return the number of this rank's node: that of its lowest rank, unless NODE_SIZES is set; collective."""
    rank, size = world.Get_rank(), world.Get_size()
    if not (text := os.environ.get(NODE_SIZES)):
        node = world.Split_type(shared)
        number = node.bcast(rank)
        node.Free()
        return int(number)
    sizes = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if min(sizes) < 1 or sum(sizes) != size:
        raise UserError(f"{NODE_SIZES} must be numbers of ranks with the sum {size}, but is {text!r}")
    return next(node for node, end in enumerate(accumulate(sizes)) if rank < end)


def is_crowded(node: Any) -> bool:
    """Return True if a node has more ranks than cores that they may use; collective among them."""
    cores = frozenset[int]().union(*node.allgather(pinned_cores()))
    return bool(node.Get_size() > limit_cores(processor_limit(), len(cores)))


def reconnect(mpi: Any, number: int) -> Connections:
    """Connect the surviving ranks, again if more die meanwhile; collective among them.

    Args:
        mpi: mpi4py's module.
        number: of this rank's node.
    """
    while (connections := _connect(mpi, mpi.COMM_WORLD.Shrink(), number)) is None:
        pass
    return connections


def _connect(mpi: Any, ranks: Any, number: int) -> Connections | None:
    """Connect the ranks of a communicator; return None on all of them if one has died meanwhile."""
    # Open MPI crashes if a communicator is revoked before all ranks have it, so first they agree that they do.
    if not _all_agree(mpi, ranks, True):
        return None
    connections = None
    with contextlib.suppress(mpi.Exception):
        _flush_messages(mpi, ranks)
        connections = Connections.of(ranks, number)
    if connections is None:
        ranks.Revoke()  # releases ranks that still wait in it
    return connections if _all_agree(mpi, ranks, connections is not None and not has_failed(ranks)) else None


def _flush_messages(mpi: Any, ranks: Any) -> None:
    """Send a message from each rank to each other: it arrives after all messages that were still on their way.

    Over TCP, Open MPI writes a message that arrives late to its old buffer, even if its request was given up.
    """
    others = [rank for rank in range(ranks.Get_size()) if rank != ranks.Get_rank()]
    sent, received = np.zeros(1, np.uint8), np.empty((len(others), 1), np.uint8)
    messages = [ranks.Irecv(buffer, rank) for buffer, rank in zip(received, others, strict=True)]
    messages += [ranks.Isend(sent, rank) for rank in others]
    mpi.Request.Waitall(messages)


def _all_agree(mpi: Any, ranks: Any, fine: bool) -> bool:
    """Return True on all ranks if all of them live and passed True; works in revoked communicators too."""
    try:
        return bool(ranks.Agree(int(fine)))
    except mpi.Exception:
        return False


def has_failed(ranks: Any) -> bool:
    """Return True if a rank of a communicator is known to have died, or the communicator is revoked."""
    group = ranks.Get_failed()
    count = group.Get_size()
    group.Free()
    return bool(count > 0 or ranks.Is_revoked())
