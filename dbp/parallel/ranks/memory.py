"""Memory: the check that a run fits, and the allocator's treatment of freed arrays."""

from __future__ import annotations

import ctypes
import socket

from dbp.errors import UserError
from dbp.parallel.machine.limits import available_memory
from dbp.parallel.machine.shared_memory import RESERVED_BYTES, free_shared_memory
from dbp.parallel.ranks.comm import Communicator

# Parameters of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
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
    try:
        library = ctypes.CDLL(None)
        mallopt, trim = library.mallopt, library.malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, or none
        return False
    trim(0)
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in KEPT_BYTES) and bool(
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES[0])
    )
