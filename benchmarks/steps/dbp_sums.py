"""The sum over ranks by dbp, in shared and in private memory, and by MPI; to be started on some ranks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from measure import Report
from mpi4py import MPI
from vectors import Vector

import dbp
from dbp.parallel import Arena, Communicator, Layout, PlainSum, Shards, vector_sum_for, world

SETS = 2  # of buffers that a vector_sum may use in turn


def write(values: np.ndarray | int, buffer: np.ndarray) -> None:
    """Write to a buffer, as the backward pass does."""
    buffer[:] = values


def sum_of(vector_sum: Any, shards: Shards, fill: Callable[[Any], None] = lambda buffer: None) -> np.ndarray:
    """Return a function that sums the ranks' buffers, after writing to them if asked to."""
    tree = vector_sum.start()
    for number in shards.mine:
        sums = vector_sum.buffer()
        fill(sums.vector)
        tree.push(0, number, sums)
    return vector_sum.total(tree).vector


def measure_dbp(report: Report, comm: Communicator, name: str, vector: Vector) -> None:
    """Measure the sum in shared memory, as training uses it, and in private memory.

    Zeros are timed, as sums of sums would overflow.
    """
    shards = Shards(comm.size, comm.rank, comm.size)
    for variant, share in (("dbp", True), ("dbp private", False)):
        arena = Arena(comm, Layout.flat(vector.bytes // 4), np.float32, share=share)
        vector_sum = vector_sum_for(arena, shards, 1) if share else PlainSum(comm, shards, arena.size, arena.dtype, 1)
        values = vector.of_rank(comm.rank)
        fill = partial(write, values)
        for _ in range(SETS):
            vector.check(sum_of(vector_sum, shards, fill), comm.size, variant)
            comm.barrier()
        for _ in range(SETS):
            sum_of(vector_sum, shards, partial(write, 0))
            comm.barrier()
        report.add(variant, name, lambda r=vector_sum: sum_of(r, shards), comm)
        vector.check(sum_of(vector_sum, shards, fill), comm.size, variant)
        if share:
            report.results["dbp"][name]["memory"] = arena.description
        comm.barrier()
        vector_sum.free()
        arena.free()


def measure_mpi(report: Report, comm: Communicator, name: str, vector: Vector) -> None:
    """Measure MPI_Allreduce into another vector and in place; in place with zeros, as sums of sums would overflow."""
    mine, total = vector.of_rank(comm.rank), np.empty(vector.bytes // 4, np.float32)
    MPI.COMM_WORLD.Allreduce(mine, total)
    vector.check(total, comm.size, "MPI_Allreduce")
    report.add("MPI", name, lambda: MPI.COMM_WORLD.Allreduce(mine, total), comm)
    MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, mine)
    vector.check(mine, comm.size, "MPI_Allreduce in place")
    mine[:] = 0
    report.add("MPI in place", name, lambda: MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, mine), comm)


def main() -> None:
    """Check and measure each size in turn."""
    comm, report = world(), Report(__doc__, Vector.of)
    report.versions = {"dbp": dbp.__version__, "numpy": np.__version__, "MPI": comm.description}
    for name, vector in report.cases.items():
        measure_dbp(report, comm, name, vector)
        measure_mpi(report, comm, name, vector)
    report.write(comm)


if __name__ == "__main__":
    main()
