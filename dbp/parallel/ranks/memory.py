"""Memory: whether what a run needs fits, and what becomes of it when it is freed."""

from __future__ import annotations

import ctypes
import socket

from dbp.errors import UserError
from dbp.parallel.machine.limits import available_memory
from dbp.parallel.ranks.comm import Communicator

# Parameters of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = (1 << 30, 1 << 25)  # bytes of an array that is kept; older versions of glibc take the second only


def must_fit(comm: Communicator, once: int, each: int) -> None:
    """UserError, on all ranks, if a node has too little memory; collective.

    Args:
        comm: the ranks.
        once: bytes that a node needs for all of its ranks.
        each: bytes that each of them needs besides.
    """
    needed = once + each * comm.nodes.sizes[comm.nodes.mine]
    places = dict.fromkeys(comm.gather((comm.nodes.mine, socket.gethostname(), needed, available_memory())))
    short = {node: where for node, *where in places if where[2] is not None and where[1] > where[2]}
    if short:
        told = "; ".join(
            f"{host} has {free / 1e6:,.0f} MB, but needs {need / 1e6:,.0f}" for host, need, free in short.values()
        )
        error = UserError(
            f"weights, optimizer state and gradients do not fit in memory: {told}; take more nodes, fewer ranks on "
            "each, a smaller model, or divide_state = true"
        )
        error.on_all_ranks = True
        raise error


def keep_freed_memory() -> bool:
    """Give back what is free now, and from now on keep what is freed, where glibc manages it; gives whether it does.

    Given back to the system, it must be fetched anew, page by page, by the next large array.
    """
    try:
        library = ctypes.CDLL(None)
        mallopt, trim = library.mallopt, library.malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, or none that can be asked
        return False
    trim(0)
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in LARGEST) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST[0]))
