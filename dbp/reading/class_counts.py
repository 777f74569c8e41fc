"""How often each class occurs in the training data, by one pass of all ranks: the same bits on any number of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dbp.errors import PassStoppedError
from dbp.parallel import Communicator, Shards, agree
from dbp.reading.loader import Loader
from dbp.reading.shard import Shard
from dbp.types import Array


def class_totals(
    comm: Communicator,
    loader: Loader,
    shards: Shards,
    count: Callable[[Shard], Array],
    stops: Callable[[], bool],
) -> Array:
    """Return the sums of example weights by class over a data set; collective.

    Each shard is summed by one rank, and shards are added in their order.

    Args:
        comm: the ranks.
        loader: of the data set.
        shards: who reads which part.
        count: returns the sums over some examples.
        stops: returns True if this rank is asked to stop.

    Raises:
        PassStoppedError: a rank has been asked to stop.
    """

    def mine() -> list[Array] | None:
        found = []
        for number in shards.mine:
            total: Array | float = 0.0
            for chunk in loader.chunks(number):
                if stops():
                    return None
                total = total + count(chunk)
            found.append(np.asarray(total))
        return found

    of_ranks = comm.gather(agree(comm, mine))
    if any(found is None for found in of_ranks):
        raise PassStoppedError
    return np.asarray(sum(total for found in of_ranks for total in found))
