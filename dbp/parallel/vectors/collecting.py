"""A vector whose parts different ranks have, and rank 0 with the whole of it: from them to it, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.messages import WHOLE
from dbp.parallel.shards import pieces
from dbp.parallel.vectors.deal import BUCKET
from dbp.types import Array

Owners = Mapping[int, Sequence[slice]]  # the parts that each rank has, and under 0 those that rank 0 can read and write


def collect(comm: Communicator, owners: Owners, vector: Array, whole: Array) -> None:
    """The parts of a vector to rank 0; collective among the owners and rank 0.

    Args:
        comm: the ranks.
        owners: who has what.
        vector: where each rank has its parts.
        whole: where they go on rank 0; of no use elsewhere.
    """
    _move(comm, owners, vector, whole, collecting=True)


def disperse(comm: Communicator, owners: Owners, whole: Array, vector: Array) -> None:
    """The other way round: what rank 0 has of the whole to the owners of the parts."""
    _move(comm, owners, vector, whole, collecting=False)


def _move(comm: Communicator, owners: Owners, vector: Array, whole: Array, collecting: bool) -> None:
    source, target = (vector, whole) if collecting else (whole, vector)
    of_owner, of_rank_0 = comm.outgoing, comm.incoming
    if not collecting:
        of_owner, of_rank_0 = of_rank_0, of_owner
    messages = []
    for rank, parts in owners.items():
        for piece in (piece for part in parts for piece in pieces(part, BUCKET)):
            if comm.rank == rank == 0:
                target[piece] = source[piece]
            elif comm.rank == 0:
                messages.append(of_rank_0(whole[piece], rank, WHOLE))
            elif comm.rank == rank:
                messages.append(of_owner(vector[piece], 0, WHOLE))
    comm.start(messages)
    comm.stages.wait_until(lambda: comm.done(messages))
    comm.discard(messages)
