"""Trials of what training relies on: shared memory, the sum over all ranks, how fast ranks compute and wait.

Each takes a moment, and each has a time limit, since what hangs in a trial would hang in training.
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
from dbp.parallel.ranks.faults import tell
from dbp.parallel.shards import Shards, parts
from dbp.parallel.sums.reduce_shared import reduction_for
from dbp.parallel.vectors.arena import Arena

PATIENCE = 60.0  # seconds that a trial may take
ORDER = 1024  # of the square matrices that are multiplied
PRODUCTS = 0.2  # seconds of products
LENGTH = 1_000_000  # float32 numbers that are shared, and summed
MOST = 16  # ranks that add something to the sum, so that all that ranks receive fits in memory
REPEATS = 15


@contextlib.contextmanager
def in_time(comm: Communicator, what: str, seconds: float = PATIENCE) -> Iterator[None]:
    """A part that ends all ranks if it takes longer than that."""
    where = "a node" if comm.nodes.count == 1 else "nodes, whose network may not let messages through"
    error = UserError(f"{what} did not end within {seconds:g} s on {comm.size} ranks of {where} ({comm.description})")
    timer = threading.Timer(seconds, lambda: comm.abort(tell(comm, error)))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True)
class Outcome:
    """What came of trying something: whether it worked (None: it was not possible), and how or why not."""

    worked: bool | None
    text: str


def shared_memory(comm: Communicator) -> Outcome:
    """Whether what one rank writes to shared memory is what all others read; collective."""
    if comm.size == 1:
        return Outcome(None, "not needed by one rank")
    memory = comm.shared_memory(4 * LENGTH)
    if memory is None:
        return Outcome(None, "cannot be had: there is too little of it, or the MPI library has none")
    numbers = memory.bytes.view(np.float32)
    ranks = comm.nodes.runs[comm.nodes.mine]
    part = parts(LENGTH, len(ranks), comm.rank - ranks.start)
    mine = slice(part.start, part.stop)
    numbers[mine] = np.arange(mine.start, mine.stop)
    comm.node_barrier()
    right = all(comm.gather(bool(np.array_equal(numbers, np.arange(LENGTH, dtype=np.float32)))))
    del numbers
    memory.free()
    return Outcome(right, "works" if right else "ranks do not read from it what others wrote to it")


@dataclass(frozen=True)
class Waiting:
    """What ranks wait for at every step: seconds that a barrier and a sum of four megabytes take."""

    barrier: float
    sum: float
    library: float  # seconds that the MPI library's own sum takes
    right: bool  # whether the sum is
    summed: int  # ranks that added something to it
    copies: str  # of the weights, and why


def waiting(comm: Communicator) -> Waiting:
    """How long the ranks wait for each other and for the sum of a gradient; collective."""
    arena = Arena(comm, LENGTH, np.float32)
    shards = Shards(min(comm.size, MOST), comm.rank, comm.size)
    reduction, times, right = reduction_for(arena, shards, 1), [], True
    barrier = _median(comm, comm.barrier)
    for _ in range(REPEATS):
        mine = reduction.start()
        for number in shards.mine:
            sums = reduction.buffer()
            sums.vector[:], sums.scalars[:] = number + 1, 1
            mine.push(0, number, sums)
        comm.barrier()
        start = time.perf_counter()
        total = reduction.total(mine)
        times.append(time.perf_counter() - start)
        expected = shards.count * (shards.count + 1) // 2
        right &= bool(
            all(np.all(total.vector[part] == expected) for part in arena.owned) and total.scalars[0] == shards.count
        )
    theirs = np.zeros(LENGTH, np.float32)
    library = _median(comm, lambda: comm.sum_by_library(theirs))
    waited = Waiting(
        barrier, statistics.median(times), library, all(comm.gather(right)), shards.count, arena.description
    )
    del mine, total
    reduction.free()
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
    """Billions of operations a second in float32 products: of rank 0 while the others sleep, and of all at once."""
    comm.barrier()
    if comm.rank > 0:
        time.sleep(1.5 * PRODUCTS)  # not in MPI, where ranks that wait keep their cores busy
    alone = comm.broadcast(_product_speed() if comm.rank == 0 else None)
    comm.barrier()
    return alone, comm.gather(_product_speed())


def _product_speed() -> float:
    """On average over a moment, so that what another rank takes of the same core is missing."""
    a = np.full((ORDER, ORDER), 0.5, np.float32)
    out = a @ a
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < PRODUCTS:
        np.matmul(a, a, out)
        count += 1
    return 2 * ORDER**3 * count / elapsed / 1e9
