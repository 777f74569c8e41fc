"""The barrier of a node's ranks, with the counters of all ranks in one process."""

import random
import threading
import time

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


def test_a_rank_that_sleeps_is_woken_up_by_the_one_that_it_waits_for():
    """The ranks are threads here, which share memory as processes do."""
    ranks, rounds = 3, 50
    memory = SharedMemory(np.zeros(NodeBarrier.length(ranks), np.uint8))
    passed = []

    def run(index):
        barrier, rng = NodeBarrier(memory, ranks, index), random.Random(index)
        if not barrier.can_sleep:
            return
        for _ in range(rounds):
            time.sleep(rng.choice((0, 1e-4)))
            barrier.arrive()
            while not barrier.has_passed():
                barrier.sleep(30.0)
        passed.append(index)

    start = time.perf_counter()
    threads = [threading.Thread(target=run, args=(index,)) for index in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not passed:
        pytest.skip("this system has no semaphores that processes share")
    assert sorted(passed) == [*range(ranks)]
    assert time.perf_counter() - start < 30  # nobody slept to the end
