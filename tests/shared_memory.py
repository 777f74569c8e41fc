"""What jobs leave in the shared memory of the node."""

import time
from pathlib import Path

GONE_SECONDS = 5.0  # in which all of a job must be gone when one of its ranks has died


def shared_memory() -> set[str]:
    """Return the names in shared memory, without the MPI libraries' message segments."""
    names = {path.name for path in Path("/dev/shm").glob("*")}
    return {name for name in names if not name.startswith(("sm_segment.", "mpich_shm_"))}


def left_in_shared_memory(before: set[str]) -> set[str]:
    """Return the names that came since and stay; other jobs hold some for a moment."""
    ends, left = time.monotonic() + GONE_SECONDS, shared_memory() - before
    while left and time.monotonic() < ends:
        time.sleep(0.02)
        left &= shared_memory()
    return left
