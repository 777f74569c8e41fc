"""How MPI connects the ranks of a job, and connects those that live anew when some have died."""

from __future__ import annotations

import contextlib
import os
import secrets
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dbp.errors import UserError
from dbp.parallel.machine.cores import pinned_cores, within
from dbp.parallel.machine.limits import processor_limit

NODE_SIZES = "DBP_NODE_SIZES"  # ranks of each node, such as 2,1: to try out on one machine what several do


class Connections(NamedTuple):
    """MPI's communicators of some ranks, and what these have told each other."""

    ranks: Any  # in which all that it takes to come together is done; it is not used later
    all: Any  # the ranks of one node in turn, in the order that they had
    messages: Any  # the same, for messages between two
    node: Any
    first: Any  # rank of each node; the others have one of their own
    told: NDArray[np.int64]  # of each rank, in the order of ranks, its node's number and a number of its own

    @classmethod
    def of(cls, ranks: Any, number: int) -> Connections:
        """Those of the ranks of a communicator, if the nodes have these numbers; collective."""
        node = ranks.Split(number)
        first = ranks.Split(min(node.Get_rank(), 1), number)
        told = np.empty((ranks.Get_size(), 2), np.int64)
        ranks.Allgather(np.array([number, secrets.randbits(62)]), told)
        return cls(ranks, ranks.Split(0, number), ranks.Split(0, number), node, first, told)


def number_of_node(world: Any, shared: int) -> int:
    """Return the number of this rank's node: that of its lowest rank, unless NODE_SIZES tells another; collective."""
    rank, size = world.Get_rank(), world.Get_size()
    if not (told := os.environ.get(NODE_SIZES)):
        node = world.Split_type(shared)
        number = node.bcast(rank)
        node.Free()
        return int(number)
    sizes = [int(part) if part.strip().isdecimal() else 0 for part in told.split(",")]
    if min(sizes) < 1 or sum(sizes) != size:
        raise UserError(f"{NODE_SIZES} must be numbers of ranks that make {size}, but is {told!r}")
    return next(node for node, end in enumerate(accumulate(sizes)) if rank < end)


def is_crowded(node: Any) -> bool:
    """Return True if a node has more ranks than its ranks may use cores; collective among them."""
    cores = frozenset[int]().union(*node.allgather(pinned_cores()))
    return bool(node.Get_size() > within(processor_limit(), len(cores)))


def reconnected(mpi: Any, number: int) -> Connections:
    """Those of the ranks that live, if the nodes have these numbers; anew if more die meanwhile; collective."""
    while (found := _connected(mpi, mpi.COMM_WORLD.Shrink(), number)) is None:
        pass
    return found


def _connected(mpi: Any, ranks: Any, number: int) -> Connections | None:
    """Those of a communicator's ranks; None on all of them if one has died meanwhile."""
    # Open MPI crashes when a communicator is revoked that not all have yet: so all must have it before.
    if not _agreed(mpi, ranks, well=True):
        return None
    found = None
    with contextlib.suppress(mpi.Exception):
        _meet(mpi, ranks)
        found = Connections.of(ranks, number)
    if found is None:
        ranks.Revoke()  # lets go those that still wait in it
    return found if _agreed(mpi, ranks, well=found is not None and not has_failed(ranks)) else None


def _meet(mpi: Any, ranks: Any) -> None:
    """A message from each to each: what was still on its way from any of them has arrived before it.

    Over TCP, Open MPI writes what arrives to where it was meant to go, even if nobody waits for it any more.
    """
    others = [rank for rank in range(ranks.Get_size()) if rank != ranks.Get_rank()]
    sent, received = np.zeros(1, np.uint8), np.empty((len(others), 1), np.uint8)
    messages = [ranks.Irecv(place, rank) for place, rank in zip(received, others, strict=True)]
    messages += [ranks.Isend(sent, rank) for rank in others]
    mpi.Request.Waitall(messages)


def _agreed(mpi: Any, ranks: Any, well: bool) -> bool:
    """Whether all of these ranks live and are well, the same on all; in revoked communicators too."""
    try:
        return bool(ranks.Agree(int(well)))
    except mpi.Exception:
        return False


def has_failed(ranks: Any) -> bool:
    """Whether one of a communicator's ranks is known to have died, or it is revoked."""
    group = ranks.Get_failed()
    count = group.Get_size()
    group.Free()
    return bool(count > 0 or ranks.Is_revoked())
