"""The barrier of a node's ranks, with the counters of all ranks in one process."""

import random

import numpy as np
import pytest

from dbp.parallel.machine.shared_memory import SharedMemory
from dbp.parallel.ranks.node_barrier import NodeBarrier


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_nobody_passes_before_all_have_arrived(ranks):
    memory = SharedMemory(np.zeros(NodeBarrier.length(ranks), np.uint8))
    barriers = [NodeBarrier(memory, ranks, index) for index in range(ranks)]
    rng = random.Random(ranks)
    for _ in range(20):
        order = rng.sample(barriers, ranks)
        for arriving, barrier in enumerate(order):
            barrier.arrive()
            passed = [one.has_passed() for one in order[: arriving + 1]]
            assert not any(passed) or arriving == ranks - 1
        assert barriers[0].has_passed()  # it releases the others
        assert all(barrier.has_passed() for barrier in barriers)
