"""Deadlines for calls that may hang: the process, or all ranks, end when one has passed."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

from dbp.errors import NOT_FINISHED
from dbp.terminal import write_error

# From POSIX's time.h and signal.h, as Linux has them.
CLOCK_MONOTONIC, SIGEV_THREAD = 1, 2
# Texts of timers, kept for the life of the process: a call that has begun may read one when its timer is gone.
_texts: list[ctypes.Array[ctypes.c_char]] = []
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


class LibraryTimer:
    """A timer for a with statement: after some seconds it calls a function of the C library, in a thread of its own.

    A Python thread could not run while a library holds the interpreter's lock, as mpi4py does while MPI starts. Systems
    without such timers never call the function.

    Args:
        seconds: until the call.
        function: its name.
        argument: its only one, a number or a text.
    """

    def __init__(self, seconds: float, function: str, argument: int | bytes):
        self._seconds, self._function = seconds, function
        if isinstance(argument, bytes):
            _texts.append(ctypes.create_string_buffer(argument))
            argument = ctypes.addressof(_texts[-1])
        self._argument = argument
        self._library: Any = None
        self._timer = ctypes.c_void_p()

    def __enter__(self) -> Self:
        library = _library()
        if library is not None:
            function = ctypes.cast(library[self._function], ctypes.c_void_p)
            event = _Event(self._argument, 0, SIGEV_THREAD, function.value, None)
            if library.timer_create(CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)) == 0:
                self._library = library
                self._start()
        return self

    def _start(self) -> None:
        whole = int(self._seconds)
        times = (ctypes.c_long * 4)(0, 0, whole, max(int((self._seconds - whole) * 1e9), int(whole == 0)))
        self._library.timer_settime(self._timer, 0, times, None)

    def __exit__(self, *error: object) -> None:
        if self._library is not None:
            self._library.timer_delete(self._timer)


class Deadline(LibraryTimer):
    """A deadline for a with statement: past it, the process prints its tracebacks and ends with an exit code.

    Args:
        seconds: until the deadline.
        code: exit code of the process.
    """

    def __init__(self, seconds: float, code: int):
        super().__init__(seconds, "_exit", code)

    def __enter__(self) -> Self:
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(0.98 * self._seconds, file=sys.__stderr__)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
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
        write_error(f"dbp: error: {text}")
        abort(NOT_FINISHED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        with Deadline(seconds + GRACE_SECONDS, NOT_FINISHED):
            yield
    finally:
        timer.cancel()
