"""Memory: the check that a run fits, and the allocator's treatment of freed arrays."""

from __future__ import annotations

import ctypes
import functools
import socket
from collections.abc import Callable

from dbp.errors import UserError
from dbp.parallel.machine.limits import available_memory
from dbp.parallel.machine.shared_memory import RESERVED_BYTES, free_shared_memory
from dbp.parallel.ranks.comm import Communicator

# Parameters of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
UNKNOWN_MEMORY = 1 << 30  # bytes that are taken for free where the system does not say
KEPT_BYTES = (1 << 30, 1 << 25)  # largest freed array to keep; older versions of glibc accept only the second


def check_memory(comm: Communicator, once: int, each: int) -> None:
    """Raise UserError on all ranks if a node has too little memory; collective.

    Args:
        comm: the ranks.
        once: bytes that the ranks of a node share.
        each: bytes that each rank needs in addition.
    """
    needed = once + each * comm.nodes.sizes[comm.nodes.mine]
    needs = dict.fromkeys(comm.gather((comm.nodes.mine, socket.gethostname(), needed, available_memory())))
    short = {node: where for node, *where in needs if where[2] is not None and where[1] > where[2]}
    if short:
        shortages = "; ".join(
            f"{host} has {free / 1e6:,.0f} MB, but needs {need / 1e6:,.0f}" for host, need, free in short.values()
        )
        error = UserError(
            f"weights, optimizer state and gradients do not fit in memory: {shortages}; take more nodes, fewer ranks "
            "on each, a smaller model, or divide_state = true"
        )
        error.on_all_ranks = True
        raise error


def free_memory(comm: Communicator) -> tuple[int, int]:
    """Return the bytes that are free on this rank's node, and how many of them its ranks can share; collective."""
    free, shared = available_memory(), free_shared_memory()
    if free is None:
        free = UNKNOWN_MEMORY
    shared = free if shared is None else min(free, max(0, shared - RESERVED_BYTES))
    of_ranks = comm.gather((free, shared))
    found: tuple[int, int] = of_ranks[comm.nodes.runs[comm.nodes.mine].start]
    return found


def keep_freed_memory() -> bool:
    """Return free memory to the system now, and keep what is freed later; return True if glibc accepts that.

    Memory returned to the system must be fetched again, page by page, by the next large array.
    """
    mallopt, trim = _of_c_library("mallopt"), _of_c_library("malloc_trim")
    if mallopt is None or trim is None:
        return False
    trim(0)
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in KEPT_BYTES) and bool(
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES[0])
    )


@functools.cache
def reuse_freed_memory() -> bool:
    """Call keep_freed_memory() once in this process, for passes over data that come again and again."""
    return keep_freed_memory()


def use_one_arena() -> bool:
    """Have all threads that start later allocate where the main thread does; return True if glibc accepts that.

    The arena of another thread has pieces of 64 MB that it returns to the system once they are free, and larger arrays
    never stay in the process. So arrays of shards that are computed in threads would be fetched again in each step.
    """
    mallopt = _of_c_library("mallopt")
    return mallopt is not None and bool(mallopt(M_ARENA_MAX, 1))


def _of_c_library(name: str) -> Callable[..., int] | None:
    """Return a function of the C library; None if it has none of this name."""
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):  # another C library, or none
        return None
    return found
