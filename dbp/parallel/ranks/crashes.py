"""Crashes of this process, such as a segmentation fault in compiled code: it says where it was, and ends at once."""

from __future__ import annotations

import contextlib
import faulthandler
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def ends_by_crash() -> Iterator[None]:
    """Have this process print Python's tracebacks and end when it crashes, whatever is started in the with statement.

    MPI libraries catch such signals when they start, and print the stack by functions that may wait for a lock of the
    memory that the crash itself holds: then the rank would never end, and all others would wait for it. A handler that
    the user has installed (PYTHONFAULTHANDLER, faulthandler.enable()) is kept.
    """
    if faulthandler.is_enabled() or not _enable():
        yield
        return
    try:
        yield
    finally:
        faulthandler.disable()  # which drops the handlers that were installed meanwhile, or they would be called next
        _enable()


def _enable() -> bool:
    """Install Python's handler; return False where there is no stderr that it could write to."""
    try:
        faulthandler.enable(sys.__stderr__)  # type: ignore[arg-type]  # None raises RuntimeError
    except (AttributeError, OSError, RuntimeError, ValueError):
        return False
    return True
