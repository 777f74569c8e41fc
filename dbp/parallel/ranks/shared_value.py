"""A value of rank 0 on all ranks, whose large arrays each node holds once."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.faults import from_rank_0

LARGE_BYTES = 1 << 20  # of an array that is shared
ALIGNED_BYTES = 64  # a factor of the position of each array

Result = TypeVar("Result")


def shared_from_rank_0(comm: Communicator, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function on rank 0 and return its result on all ranks, or raise its error; collective.

    Large arrays in the result are read-only and lie in memory that the ranks of a node share. Where no memory can be
    shared, each rank has its own.
    """
    large: list[pickle.PickleBuffer] = []

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < LARGE_BYTES:
            return True
        large.append(buffer)
        return False

    def packed() -> tuple[bytes, list[int]]:
        content = pickle.dumps(function(*arguments), protocol=5, buffer_callback=is_small)
        return content, [buffer.raw().nbytes for buffer in large]

    content, sizes = from_rank_0(comm, packed)
    if not sizes:
        return pickle.loads(content)  # type: ignore[no-any-return]  # noqa: S301  from a rank of this job
    starts = [0, *accumulate(-(-size // ALIGNED_BYTES) * ALIGNED_BYTES for size in sizes)]
    memory = comm.node.allocate(starts[-1])
    everything = np.empty(starts[-1], np.uint8) if memory is None else memory.bytes
    parts = [everything[start : start + size] for start, size in zip(starts, sizes, strict=False)]
    for part, buffer in zip(parts, large, strict=False):  # on rank 0
        part[:] = np.frombuffer(buffer.raw(), np.uint8)
    if memory is None:
        comm.broadcast_array(everything)
    else:
        comm.broadcast_between_nodes(everything)
        comm.node.barrier()
    return pickle.loads(content, buffers=[part.data.toreadonly() for part in parts])  # type: ignore[no-any-return]  # noqa: S301
