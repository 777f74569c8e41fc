"""The processes above one, as Linux tells, and a process that ends with the one above it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dbp.errors import NOT_FINISHED

LAUNCHERS = ("mpirun", "mpiexec", "prterun", "orterun", "mpiexec.hydra", "srun")
PR_SET_PDEATHSIG = 1  # of prctl: the signal that a process gets when its parent dies


def name_of(process: int) -> str:
    """Return the name of a process; raise OSError where it is not known."""
    return Path(f"/proc/{process}/comm").read_text().strip()


def parent_of(process: int) -> int:
    """Return the parent of a process; raise OSError where it is not known."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def ends_with_parent(number: int, parent: int) -> Callable[[], None]:
    """Return a function after whose call a process gets a signal when its parent ends; elsewhere it does nothing.

    The function may be called between fork and exec, where no library can be loaded.

    Args:
        number: the signal.
        parent: that process; if it has ended before the call, the process ends at once.
    """
    if sys.platform != "linux":
        return lambda: None
    request = ctypes.CDLL(None).prctl

    def ask() -> None:
        request(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(NOT_FINISHED)

    return ask
