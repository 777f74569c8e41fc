"""Sums over nodes of which the largest numbers alone are sent: what was sent and what is left is all there was.

All numbers are whole, and small enough for float32, so that no sum is rounded.

Started by tests/parallel/sums/test_error_feedback.py.
"""

import functools
import sys

import numpy as np

from dbp.parallel import Arena, ErrorFeedback, Layout, Shards, vector_sum_for, wire_for, world
from dbp.random import generator

comm = world()
if "private" in sys.argv:
    comm.node.allocate = lambda length: None
SIZE, STEPS = 300_007, 3


class Sums:
    """What is summed, with its arena and the residuals."""

    def __init__(self, shards, kept, divide):
        self.shards = Shards(shards, comm.rank, comm.size)
        self.arena = Arena(comm, Layout.flat(SIZE), np.float32, divide=divide)
        self.total = self.arena.vector()
        self.feedback = ErrorFeedback(self.arena)
        self.vector_sum = vector_sum_for(self.arena, self.shards, 1, wire_for("top-k", kept, self.feedback))
        assert self.feedback.is_active == (self.arena.nodes.count > 1)

    def add(self, step, scale=1.0):
        """Return what all nodes get of the sum of a step."""
        self.feedback.begin(scale)
        tree = self.vector_sum.start()
        for number in self.shards.mine:
            sums = self.vector_sum.buffer()
            sums.vector[:], sums.scalars[:] = gradient(step, number), 1
            tree.push(0, number, sums)
        found = self.vector_sum.total(tree)
        assert found.finite
        for part in self.arena.owned:
            self.total[part] = found.vector[part]
        self.feedback.add_pending(self.total)
        self.arena.fence(self.total)
        return self.total.copy()

    def left(self):
        """Return on rank 0 what no node has sent."""
        return self.feedback.snapshot().rows.sum(axis=0)

    def free(self):
        self.vector_sum.free()
        self.arena.free()


@functools.cache
def gradient(step, shard):
    return np.rint(100 * generator(step, "gradient", shard).standard_normal(SIZE)).astype(np.float32)


def everything(steps, shards):
    return sum(gradient(step, shard) for step in steps for shard in range(shards))


def same_everywhere(vector):
    copies = comm.gather(vector.tobytes())
    assert all(copy == copies[0] for copy in copies)


for shards, kept, divide in ((1, 0.01, False), (3, 0.3, False), (8, 0.01, False), (8, 0.1, True)):
    sums = Sums(shards, kept, divide)
    sent, many = np.zeros(SIZE, np.float32), sums.feedback.is_active and not divide
    for step in range(STEPS):
        found = sums.add(step)
        same_everywhere(found)
        if many:
            assert 0.5 * kept * SIZE < np.count_nonzero(found) < 1.5 * kept * SIZE + 100
        again = sums.add(step)  # as nobody has accepted it, it has not been
        np.testing.assert_array_equal(again, found)
        sums.feedback.accept()
        sent += found
    left = sums.left()
    if comm.rank == 0 and many:
        np.testing.assert_array_equal(sent + left, everything(range(STEPS), shards))
        assert np.count_nonzero(left) > 0

    # What so many nodes had left comes to those that there are, and counts twice where examples weigh twice as much.
    rows = np.rint(100 * generator(7, "rows").standard_normal((2 * comm.size, SIZE))).astype(np.float32)
    for count in (1, comm.nodes.count, 2 * comm.size):
        sums.feedback.restore(0.5, rows[:count] if comm.rank == 0 else [np.empty(0, np.float32)] * count)
        left = sums.left()
        if comm.rank == 0:
            np.testing.assert_array_equal(left, rows[:count].sum(axis=0))
        found = sums.add(0)
        sums.feedback.accept()
        left = sums.left()
        if comm.rank == 0:
            np.testing.assert_array_equal(found + left, everything([0], shards) + 2 * rows[:count].sum(axis=0))
    sums.free()

if comm.rank == 0:
    print("nothing is lost")
