"""Deadlines for calls that may hang: the process, or all ranks, end when one has passed."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from dbp.errors import NOT_FINISHED

# From POSIX's time.h and signal.h, as Linux has them.
CLOCK_MONOTONIC, SIGEV_THREAD = 1, 2
GRACE_SECONDS = 5.0  # after which a rank ends itself if MPI has not ended all ranks


class _Event(ctypes.Structure):
    """POSIX's struct sigevent for a function that a thread of the C library calls with a value."""

    _fields_ = (
        ("value", ctypes.c_long),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_char * 64),
    )


class Deadline:
    """A deadline for a with statement: past it, the process prints its tracebacks and ends with an exit code.

    The timer is one of the C library, because a Python thread cannot run while a library holds the interpreter's lock,
    as mpi4py does while MPI starts. Systems without such timers have no deadline.

    Args:
        seconds: until the deadline.
        code: exit code of the process.
    """

    def __init__(self, seconds: float, code: int):
        self._seconds, self._code = seconds, code
        self._library: Any = None
        self._timer = ctypes.c_void_p()

    def __enter__(self) -> Deadline:
        library = _library()
        if library is not None:
            exit_function = ctypes.cast(library["_exit"], ctypes.c_void_p)  # ends the process at once
            event = _Event(self._code, 0, SIGEV_THREAD, exit_function.value, None)
            if library.timer_create(CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)) == 0:
                self._library = library
                self._start(self._seconds)
        return self

    def _start(self, seconds: float) -> None:
        whole = int(seconds)
        times = (ctypes.c_long * 4)(0, 0, whole, max(int((seconds - whole) * 1e9), int(whole == 0)))
        self._library.timer_settime(self._timer, 0, times, None)
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(0.98 * seconds, file=sys.__stderr__)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._library is not None:
            self._library.timer_delete(self._timer)
            faulthandler.cancel_dump_traceback_later()


def _library() -> Any:
    """Return the C library, or an older one's librt, if it has timers; else None."""
    for name in (None, "librt.so.1"):
        try:
            library = ctypes.CDLL(name)
            if library.timer_create and library["_exit"]:
                return library
        except (OSError, AttributeError, TypeError):
            continue
    return None


@contextlib.contextmanager
def abort_after(seconds: float, text: str, abort: Callable[[int], None]) -> Iterator[None]:
    """End all ranks unless the with statement is left in time; if MPI cannot end them, end this one soon after.

    Args:
        seconds: until the deadline.
        text: the error message.
        abort: ends all ranks with an exit code.
    """

    def end() -> None:
        sys.stderr.write(f"dbp: error: {text}\n")
        abort(NOT_FINISHED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        with Deadline(seconds + GRACE_SECONDS, NOT_FINISHED):
            yield
    finally:
        timer.cancel()
