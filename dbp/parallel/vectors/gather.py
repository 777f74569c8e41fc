"""Gather and scatter of a vector between rank 0, which has all of it, and the ranks that own its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.messages import GATHERED
from dbp.parallel.shards import pieces
from dbp.parallel.vectors.deal import BUCKET
from dbp.types import Array

Owners = Mapping[int, Sequence[slice]]  # the parts that each rank owns; for rank 0 those that it can read and write


def gather_parts(comm: Communicator, owners: Owners, vector: Array, whole: Array) -> None:
    """Gather the parts of a vector on rank 0; collective among the owners and rank 0.

    Args:
        comm: the ranks.
        owners: who owns which parts.
        vector: with the parts of this rank.
        whole: the target on rank 0; not used elsewhere.
    """
    _move(comm, owners, vector, whole, to_root=True)


def scatter_parts(comm: Communicator, owners: Owners, whole: Array, vector: Array) -> None:
    """Scatter rank 0's vector to the owners of its parts; collective among the owners and rank 0.

    Args:
        comm: the ranks.
        owners: who owns which parts.
        whole: the source on rank 0; not used elsewhere.
        vector: the target for the parts of this rank.
    """
    _move(comm, owners, vector, whole, to_root=False)


def _move(comm: Communicator, owners: Owners, vector: Array, whole: Array, to_root: bool) -> None:
    source, target = (vector, whole) if to_root else (whole, vector)
    at_owner, at_root = comm.channel.outgoing, comm.channel.incoming
    if not to_root:
        at_owner, at_root = at_root, at_owner
    messages = []
    for rank, parts in owners.items():
        for piece in (piece for part in parts for piece in pieces(part, BUCKET)):
            if comm.rank == rank == 0:
                target[piece] = source[piece]
            elif comm.rank == 0:
                messages.append(at_root(whole[piece], rank, GATHERED))
            elif comm.rank == rank:
                messages.append(at_owner(vector[piece], 0, GATHERED))
    comm.channel.start(messages)
    comm.clock.wait_until(lambda: comm.channel.done(messages))
    comm.channel.discard(messages)
