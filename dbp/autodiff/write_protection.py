"""Protection of the plain arrays in a graph against changes, since derivatives are computed from them.

While a transformation records a function, the arrays that operations have used are read-only. Afterwards they are
writable again; where derivatives are computed later, checksums reveal whether an array was changed.
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


class _Active(threading.local):
    protection: WriteProtection | None = None


active = _Active()  # the protection of what this thread records, None outside of transformations


class WriteProtection:
    """Write protection of the arrays that a function uses: `with WriteProtection() as protection: function(...)`."""

    def __init__(self) -> None:
        self._outer: WriteProtection | None = None
        self.frozen: list[Array] = []  # read-only until release()
        self.others = ArrayChecksums([])  # arrays that could not be made writable again, and so are not frozen

    def __enter__(self) -> WriteProtection:
        self._outer, active.protection = active.protection, self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        active.protection = self._outer
        self.release()
        if self.frozen and isinstance(error, ValueError) and "read-only" in str(error):
            error.add_note(REMEDY)
        if kind is None:
            self.others.check()

    def protect(self, things: Iterable[Any]) -> None:
        """Protect the arrays among the inputs or the options of an operation."""
        for x in things:
            if isinstance(x, np.ndarray):
                if x.flags.writeable:
                    self._freeze(x)
            elif isinstance(x, tuple):  # such as an index
                self.protect(x)

    def _freeze(self, x: Array) -> None:
        if _can_be_writable_again(x):
            x.flags.writeable = False
            self.frozen.append(x)
        else:
            self.others.add(x)

    def hand_over(self) -> None:
        """Pass all arrays to the protection of the outer derivative, which goes through this recording too."""
        if self._outer is not None:
            self._outer.frozen += self.frozen
            self._outer.others.sums += self.others.sums
            self.frozen, self.others = [], ArrayChecksums([])

    def release(self) -> None:
        """Make the arrays writable again, owners of memory before views of them."""
        for x in sorted(self.frozen, key=lambda x: x.base is not None):
            with suppress(ValueError):  # the function has made the owner read-only for good
                x.flags.writeable = True

    def checksums(self) -> ArrayChecksums:
        """Return checksums of all arrays as they are now."""
        return ArrayChecksums([*self.frozen, *(x for x, _ in self.others.sums)])


def _can_be_writable_again(x: Array) -> bool:
    """Return True if the owner of the memory is writable, on which NumPy insists before it makes a view writable."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    if x.base is None:
        return x.flags.writeable
    try:
        return not memoryview(x.base).readonly
    except TypeError:  # not a buffer, such as an array over PyTorch's memory
        return False


class ArrayChecksums:
    """Arrays with checksums, which reveal whether one of them was changed since."""

    def __init__(self, arrays: list[Array]):
        self.sums: list[tuple[Array, int]] = []
        for x in arrays:
            self.add(x)

    def add(self, x: Array) -> None:
        """Add an array as it is now."""
        self.sums.append((x, _checksum(x)))

    def check(self) -> None:
        """Raise ValueError if an array was changed."""
        for x, before in self.sums:
            if _checksum(x) != before:
                raise ValueError(f"an array of shape {x.shape} has been changed since it was recorded; {REMEDY}")


def _checksum(x: Array) -> int:
    return 0 if x.dtype.hasobject else zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
