"""Sums over shards in the middle of their passes: digests of their bits, and refusals of unlike passes.

Started by tests/parallel/sums/test_shard_allreduce.py.
"""

import hashlib

import numpy as np

from dbp.errors import UserError
from dbp.parallel import ShardAllreduce, Shards, world

comm = world()


def numbers(shard, length):
    """Return numbers of many magnitudes, the sum of which depends on the order."""
    rng = np.random.default_rng([shard, length])
    return rng.standard_normal(length) * 10.0 ** rng.integers(-12, 12, length)


def refused(allreduce, compute):
    """Return how the pass ends on all ranks."""
    try:
        list(allreduce.run(compute))
    except UserError as error:
        return set(comm.gather((error.on_all_ranks, "same layers" in str(error))))
    return "accepted"


for count in (1, 3, 8):
    allreduce = ShardAllreduce(comm, Shards(count, comm.rank, comm.size))

    everyones = set()
    for lengths in ((1, 5, 20_000), (3, 1), (1, 5, 20_000)):  # a pass need not come to the sums of the one before

        def compute(shard, allreduce=allreduce, lengths=lengths):
            return b"".join(allreduce.sum(numbers(shard, n), f"{n}").tobytes() for n in lengths)

        everyones |= {(lengths, found) for of_rank in comm.gather(list(allreduce.run(compute))) for _, found in of_rank}
    unlike = [
        refused(allreduce, lambda shard, a=allreduce: a.sum(np.ones(1 + (shard == 0)), "lengths")),
        refused(allreduce, lambda shard, a=allreduce: a.sum(np.ones(1), "first" if shard == 0 else "other")),
    ]
    if comm.rank == 0:
        assert len(everyones) == 2
        print(count, *(hashlib.sha256(found).hexdigest() for _, found in sorted(everyones)))
        for outcome in unlike:
            print(outcome if count > 1 else "one shard is always like itself")
    allreduce.free()
