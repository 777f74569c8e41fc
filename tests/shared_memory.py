"""What jobs leave in the shared memory of the node."""

import contextlib
import time
from pathlib import Path

GONE_SECONDS = 20.0  # in which all of a job must be gone when one of its ranks has died, on a busy machine too


def shared_memory() -> set[str]:
    """Return the names in shared memory, without the MPI libraries' message segments."""
    names = {path.name for path in Path("/dev/shm").glob("*")}
    return {name for name in names if not name.startswith(("sm_segment.", "mpich_shm_"))}


def left_in_shared_memory(before: set[str]) -> set[str]:
    """Return the names that came since and stay; other jobs hold some for a moment, or as long as they run."""
    ends, left = time.monotonic() + GONE_SECONDS, shared_memory() - before
    while left and time.monotonic() < ends:
        time.sleep(0.02)
        left &= shared_memory()
    return {name for name in left if not (is_in_use(name) or is_empty_folder(name))}


def is_empty_folder(name: str) -> bool:
    """Return True for a folder without files, which takes no memory; a `dbp run` that another test kills leaves one."""
    with contextlib.suppress(OSError):
        return not any((Path("/dev/shm") / name).iterdir())
    return False


def is_in_use(name: str) -> bool:
    """Return True if a living process has the name in its environment, as ranks have that of their folder."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if name.encode() in path.read_bytes():
                return True
    return False
