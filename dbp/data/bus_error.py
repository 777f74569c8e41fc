"""Reads of a memory map that survive a bus error, by which the system says that it cannot load a page of the file.

It does so for pages behind the end of a file that was cut off, and for pages that the disk cannot read. Without this
module the signal SIGBUS then ends the process without a word on the file. A handler in Python cannot help, as it would
run only after the read, which the processor repeats for ever. So a function of ctypes handles the signal at once: it
puts zeros in place of the whole map, so that the read comes to its end, and notes that they are not the file's numbers.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
from typing import Any

from dbp.process.signal_action import SignalAction, c_library

MAP_FIXED = 0x10  # POSIX's sys/mman.h on Linux and macOS: in place of what is mapped there


class BusErrorGuard:
    """The handler of SIGBUS of this process, installed with the first map.

    Attributes:
        reading: address and length of the map that is being read; None while none is. A signal that comes then has
            another cause, and goes to the handler that was there before.
        caught: set to True by a bus error; whoever reads sets it to False.
    """

    def __init__(self) -> None:
        self.reading: tuple[int, int] | None = None
        self.caught = False
        self._library: Any = None
        self._handler: Any = None  # kept, as the C library holds only its address
        self._before: Any = None  # the action before this handler

    def install(self) -> None:
        """Handle the signal from now on; does nothing the second time."""
        if self._library is not None:
            return
        self._library = library = c_library()
        library.mmap.restype = ctypes.c_void_p
        library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._handle)
        self._before = SignalAction(signal.SIGBUS)
        library.signal(signal.SIGBUS, self._handler)

    def _handle(self, _number: int) -> None:
        if self.reading is None:
            self._before.restore()  # the fault comes again, for that handler
            return
        flags = MAP_FIXED | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._library.mmap(*self.reading, mmap.PROT_READ, flags, -1, 0)
        self.caught = True


bus_errors = BusErrorGuard()
