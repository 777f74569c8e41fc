"""Trials of what training needs: shared memory, the sum over all ranks, the speed of products, and waiting times.

Each takes less than a second. Each has a time limit, since what hangs in a trial would hang in training.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from dbp.errors import UserError
from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.faults import report_failure
from dbp.parallel.shards import Shards, parts
from dbp.parallel.sums.selection import vector_sum_for
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.layout import Layout

TRIAL_SECONDS = 60.0  # that a trial may take
MATRIX_ORDER = 1024  # rows and columns of the matrices that are multiplied
PRODUCT_SECONDS = 0.2  # during which products are counted
LENGTH = 1_000_000  # float32 numbers that are shared, and summed
MOST_SUMMED = 16  # ranks that contribute to the sum; more might not fit in the memory of a node
REPEATS = 15  # of which the median counts


@contextlib.contextmanager
def in_time(comm: Communicator, what: str, seconds: float = TRIAL_SECONDS) -> Iterator[None]:
    """End all ranks with an error if the body takes longer than some seconds."""
    where = "a node" if comm.nodes.count == 1 else "nodes, whose network may not let messages through"
    error = UserError(f"{what} did not end within {seconds:g} s on {comm.size} ranks of {where} ({comm.description})")
    timer = threading.Timer(seconds, lambda: comm.abort(report_failure(comm, error)))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True)
class MemoryTrial:
    """The result of the trial of shared memory.

    Args:
        worked: whether ranks read what others wrote; None if they cannot share memory.
        text: the result in words.
    """

    worked: bool | None
    text: str


def shared_memory(comm: Communicator) -> MemoryTrial:
    """Try whether each rank reads from shared memory what the others wrote to it; collective."""
    if comm.size == 1:
        return MemoryTrial(None, "not needed by one rank")
    memory = comm.node.allocate(4 * LENGTH)
    if memory is None:
        return MemoryTrial(None, "is not available: there is too little of it, or the MPI library has none")
    numbers = memory.bytes.view(np.float32)
    ranks = comm.nodes.runs[comm.nodes.mine]
    part = parts(LENGTH, len(ranks), comm.rank - ranks.start)
    mine = slice(part.start, part.stop)
    numbers[mine] = np.arange(mine.start, mine.stop)
    comm.node.barrier()
    right = all(comm.gather(bool(np.array_equal(numbers, np.arange(LENGTH, dtype=np.float32)))))
    del numbers
    memory.free()
    return MemoryTrial(right, "works" if right else "ranks do not read from it what others wrote to it")


@dataclass(frozen=True)
class WaitTimes:
    """The times for which ranks wait at every step.

    Args:
        barrier: seconds that a barrier takes.
        sum: seconds that a sum of four megabytes takes.
        library: seconds that the MPI library's own sum takes.
        right: whether the sum is correct.
        summed: number of ranks that contributed to it.
        copies: where the copies of the weights are, and why.
    """

    barrier: float
    sum: float
    library: float
    right: bool
    summed: int
    copies: str


def wait_times(comm: Communicator) -> WaitTimes:
    """Measure how long ranks wait for each other and for the sum of a gradient; collective."""
    arena = Arena(comm, Layout.flat(LENGTH), np.float32)
    shards = Shards(min(comm.size, MOST_SUMMED), comm.rank, comm.size)
    vector_sum, times, right = vector_sum_for(arena, shards, 1), [], True
    barrier = _median(comm, comm.barrier)
    for _ in range(REPEATS):
        mine = vector_sum.start()
        for number in shards.mine:
            sums = vector_sum.buffer()
            sums.vector[:], sums.scalars[:] = number + 1, 1
            mine.push(0, number, sums)
        comm.barrier()
        start = time.perf_counter()
        total = vector_sum.total(mine)
        times.append(time.perf_counter() - start)
        expected = shards.count * (shards.count + 1) // 2
        right &= bool(
            all(np.all(total.vector[part] == expected) for part in arena.owned) and total.scalars[0] == shards.count
        )
    theirs = np.zeros(LENGTH, np.float32)
    library = _median(comm, lambda: comm.sum_by_library(theirs))
    waited = WaitTimes(
        barrier, statistics.median(times), library, all(comm.gather(right)), shards.count, arena.description
    )
    del mine, total
    vector_sum.free()
    arena.free()
    return waited


def _median(comm: Communicator, action: Callable[[], None]) -> float:
    times = []
    for _ in range(REPEATS):
        comm.barrier()
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def products(comm: Communicator) -> tuple[float, list[float]]:
    """Measure GFLOP/s of float32 products, of rank 0 while the others sleep and of all ranks at once; collective."""
    comm.barrier()
    if comm.rank > 0:
        time.sleep(1.5 * PRODUCT_SECONDS)  # ranks that wait in MPI would keep their cores busy
    alone = comm.broadcast(_product_speed() if comm.rank == 0 else None)
    comm.barrier()
    return alone, comm.gather(_product_speed())


def _product_speed() -> float:
    """Measure GFLOP/s over some time, so that the share of other ranks on the same core is missing."""
    a = np.full((MATRIX_ORDER, MATRIX_ORDER), 0.5, np.float32)
    out = a @ a
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < PRODUCT_SECONDS:
        np.matmul(a, a, out)
        count += 1
    return 2 * MATRIX_ORDER**3 * count / elapsed / 1e9
