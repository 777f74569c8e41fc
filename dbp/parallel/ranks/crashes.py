"""Crashes of this process, such as a segmentation fault in compiled code: it says where it was, and ends at once."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from dbp.process.signal_action import SignalAction, set_default

CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)  # that faulthandler handles
MPI_LIBRARY = re.compile(r"lib(mpi|open-|pmix|psm|ucs)")  # names of Open MPI, MPICH, and of what they load


@contextlib.contextmanager
def ends_by_crash() -> Iterator[None]:
    """Have this process print Python's tracebacks and end when it crashes, whatever is started in the with statement.

    MPI libraries catch such signals when they start, and print the stack by functions that may wait for a lock of the
    memory that the crash itself holds: then the rank would never end, and all others would wait for it. Handlers of the
    user (PYTHONFAULTHANDLER, faulthandler.enable()) and of other libraries are kept.
    """
    if faulthandler.is_enabled():
        yield
        return
    _enable()
    try:
        yield
    finally:
        faulthandler.disable()
        _enable()


def _enable() -> None:
    """Install Python's handlers, in place of MPI's, which they would call next; the script may have started MPI."""
    actions = {number: SignalAction(number) for number in CRASHES}
    of_mpi = [number for number, action in actions.items() if MPI_LIBRARY.match(Path(action.library).name)]
    for number in of_mpi:
        set_default(number)
    try:
        faulthandler.enable(sys.__stderr__)  # type: ignore[arg-type]  # None raises RuntimeError
    except (AttributeError, OSError, RuntimeError, ValueError):  # it is closed
        faulthandler.enable(Path(os.devnull).open("w"))  # noqa: SIM115  open for as long as the handlers are installed
    for number, action in actions.items():
        if number not in of_mpi and not action.is_default:
            action.restore()
