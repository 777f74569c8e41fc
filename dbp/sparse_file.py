"""A file in memory with gaps, in which HDF5 lays a file out that then goes to the disk by plain writes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from dbp.files import write_at

PAGE_BYTES = 1 << 12


class SparseFile(io.RawIOBase):
    """A file in memory that holds only the pages written to; the gaps between them take no memory.

    HDF5 lays out a file in it without the values of the arrays, which then go to the disk by plain writes. HDF5 itself
    never writes to the disk, where it ends the process if the disk is full.
    """

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}  # by number
        self._length = self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        self._position = offset + (0, self._position, self._length)[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def write(self, data: Any) -> int:
        """Write bytes at the position."""
        view = memoryview(data).cast("B")
        for number, inside, part in self._parts(view):
            self._pages.setdefault(number, bytearray(PAGE_BYTES))[inside] = part
        self._length = max(self._length, self._position)
        return len(view)

    def readinto(self, target: Any) -> int:
        """Read bytes at the position: zeros in the gaps, and after the end."""
        view = memoryview(target).cast("B")
        for number, inside, part in self._parts(view):
            part[:] = self._pages[number][inside] if number in self._pages else bytes(len(part))
        return len(view)

    def _parts(self, view: memoryview) -> Iterator[tuple[int, slice, memoryview]]:
        """Yield the parts of a buffer that lie in one page each, with page and offset; move the position past them."""
        done = 0
        while done < len(view):
            number, first = divmod(self._position, PAGE_BYTES)
            part = view[done : done + PAGE_BYTES - first]
            yield number, slice(first, first + len(part)), part
            done += len(part)
            self._position += len(part)

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        self._length = self._position if size is None else size
        return self._length

    def copy_to(self, file: BinaryIO) -> None:
        """Write this file to one on the disk, with gaps there too, by as few writes as possible."""
        run: list[int] = []  # pages that follow one another
        for number in sorted(self._pages):
            if run and number != run[-1] + 1:
                self._copy_run(run, file)
                run = []
            run.append(number)
        self._copy_run(run, file)
        file.truncate(self._length)

    def _copy_run(self, run: list[int], file: BinaryIO) -> None:
        if run:
            pages = bytearray().join(self._pages[number] for number in run)
            write_at(file, run[0] * PAGE_BYTES, memoryview(pages))
