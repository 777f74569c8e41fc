"""What this process does at a signal, as the C library has it: with handlers of compiled code, unknown to Python."""

from __future__ import annotations

import ctypes
import functools
import signal
from typing import Any

STRUCTURE_BYTES = 512  # more than a struct sigaction has


class _Symbol(ctypes.Structure):
    """The Dl_info of dladdr: in which library an address lies."""

    _fields_ = (
        ("library", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


class SignalAction:
    """The action at a signal as it is now, which can be restored.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int):
        self._number = number
        self._structure = ctypes.create_string_buffer(STRUCTURE_BYTES)
        c_library().sigaction(number, None, self._structure)

    @property
    def is_default(self) -> bool:
        """Return True without a handler."""
        return self._handler == int(signal.SIG_DFL)

    @property
    def library(self) -> str:
        """Return the path of the library or program that has the handler; "" where it is in none."""
        symbol = _Symbol()
        found = c_library().dladdr(ctypes.c_void_p(self._handler), ctypes.byref(symbol))
        return symbol.library.decode(errors="replace") if found and symbol.library else ""

    @property
    def _handler(self) -> int:
        return ctypes.c_void_p.from_buffer(self._structure).value or 0  # comes first in a struct sigaction

    def restore(self) -> None:
        """Install it again; only calls the C library, as a handler may."""
        c_library().sigaction(self._number, self._structure, None)


@functools.cache
def c_library() -> Any:
    """Return the C library that this process has loaded."""
    return ctypes.CDLL(None)


def set_default(number: int) -> None:
    """Have a signal do what it does without a handler; unlike Python's function, from any thread."""
    c_library().signal(number, ctypes.c_void_p(int(signal.SIG_DFL)))
