"""Sums over shards for several shard counts: right by closed form, and digests of their bits.

Started by tests/parallel/sums/test_plain_sum.py.
"""

import hashlib

import numpy as np

from dbp.parallel import PlainSum, Shards, world
from dbp.random import generator

comm = world()
for count in (1, 2, 3, 4, 7, 12):
    shards = Shards(count, comm.rank, comm.size)
    vector_sum = PlainSum(comm, shards, 1001, np.float32, 2)
    for _ in range(2):
        tree = vector_sum.start()
        for number in shards.mine:
            sums = vector_sum.buffer()
            sums.vector[:] = generator(1, "test", number).standard_normal(1001) + number
            sums.scalars[:] = number, 1
            tree.push(0, number, sums)
        total = vector_sum.total(tree)
        assert total.scalars.tolist() == [count * (count - 1) / 2, count]
        assert abs(total.vector.mean() - count * (count - 1) / 2) < 0.5
    digests = comm.gather(hashlib.sha256(total.vector.tobytes() + total.scalars.tobytes()).hexdigest())
    assert len(set(digests)) == 1
    if comm.rank == 0:
        print(count, digests[0])
