"""What keeps the plain arrays that a graph was recorded from as they were, since derivatives are found from them.

While a transformation records a function, NumPy itself refuses to change the arrays that operations have used.
Arrays are writable again when it is done. Where derivatives are found later, a checksum tells of changes.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np

from dbp.types import Array

REMEDY = "derivatives are found from arrays that operations have used: make new arrays instead of changing these"


class _Watching(threading.local):
    guard: Guard | None = None


watching = _Watching()  # the guard of what this thread records, if a transformation does


class Guard:
    """The arrays used while a function is recorded: `with Guard() as guard: function(...)`."""

    def __init__(self) -> None:
        self._around: Guard | None = None
        self.frozen: list[Array] = []  # read-only for now
        self.others = Seal([])  # of memory that could not be made writable again, with checksums instead

    def __enter__(self) -> Guard:
        self._around, watching.guard = watching.guard, self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        watching.guard = self._around
        self.release()
        if self.frozen and isinstance(error, ValueError) and "read-only" in str(error):
            error.add_note(REMEDY)
        if kind is None:
            self.others.check()

    def keep(self, things: Iterable[Any]) -> None:
        """Watch over the arrays among the inputs or the options of an operation."""
        for x in things:
            if isinstance(x, np.ndarray):
                if x.flags.writeable:
                    self._freeze(x)
            elif isinstance(x, tuple):  # an index, for one
                self.keep(x)

    def _freeze(self, x: Array) -> None:
        if _can_be_writable_again(x):
            x.flags.writeable = False
            self.frozen.append(x)
        else:
            self.others.add(x)

    def hand_over(self) -> None:
        """Leave what was recorded to the guard around this one, as an outer derivative goes through it."""
        if self._around is not None:
            self._around.frozen += self.frozen
            self._around.others.sums += self.others.sums
            self.frozen, self.others = [], Seal([])

    def release(self) -> None:
        """Make the arrays writable again, owners of memory before views of them."""
        for x in sorted(self.frozen, key=lambda x: x.base is not None):
            with suppress(ValueError):  # the function has made the owner read-only for good
                x.flags.writeable = True

    def seal(self) -> Seal:
        """The arrays as they are now."""
        return Seal([*self.frozen, *(x for x, _ in self.others.sums)])


def _can_be_writable_again(x: Array) -> bool:
    """Whether the owner of the memory says that it may be written, which NumPy asks of a view."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    if x.base is None:
        return x.flags.writeable
    try:
        return not memoryview(x.base).readonly
    except TypeError:  # no buffer, such as an array of PyTorch's memory
        return False


class Seal:
    """Some arrays, and what tells whether they have been changed since."""

    def __init__(self, arrays: list[Array]):
        self.sums: list[tuple[Array, int]] = []
        for x in arrays:
            self.add(x)

    def add(self, x: Array) -> None:
        """Note an array as it is now."""
        self.sums.append((x, _checksum(x)))

    def check(self) -> None:
        """ValueError if an array has been changed."""
        for x, before in self.sums:
            if _checksum(x) != before:
                raise ValueError(f"an array of shape {x.shape} has been changed since it was recorded; {REMEDY}")


def _checksum(x: Array) -> int:
    return 0 if x.dtype.hasobject else zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
