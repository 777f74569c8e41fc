"""Freed memory. Given back to the system, it must be fetched anew, page by page, by the next large array."""

from __future__ import annotations

import ctypes

# Parameters of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = (1 << 30, 1 << 25)  # bytes of an array that is kept; older versions of glibc take the second only


def keep_freed_memory() -> bool:
    """From now on freed memory stays with this process, where glibc manages it; gives whether it does."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or none that can be asked
        return False
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in LARGEST) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST[0]))
