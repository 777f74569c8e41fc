"""Read NumPy archives (.npz), whole arrays or block by block; nothing in a file is trusted."""

from __future__ import annotations

import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dbp.errors import UserError
from dbp.files import check_fits_memory, reading_from
from dbp.plain_files import check_is_file
from dbp.types import Array

Shape = tuple[int, ...]
HEAD_BYTES = 2**16  # at the start of an array of NumPy; its header must end within them
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those of NumPy; others may need any memory to unpack
LOCAL_HEADER = struct.Struct("<26x2H")  # before a member: at its end the bytes of the name and of what follows it
# The exceptions of zipfile and NumPy for files that are not as they should be.
DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, MemoryError),
    *(SyntaxError, OverflowError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)


class ArrayHead(NamedTuple):
    """What the head of an array says.

    Args:
        shape: its shape.
        dtype: its type.
        is_fortran: whether its first axis varies fastest.
        start: the position of its values.
    """

    shape: Shape
    dtype: np.dtype[Any]
    is_fortran: bool
    start: int

    @property
    def size(self) -> int:
        """Return the bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Return the bytes of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def _parsed(content: bytes) -> ArrayHead:
    """Return what the beginning of an array says; raise an exception of DAMAGE if it is none."""
    head = io.BytesIO(content)
    version = np.lib.format.read_magic(head)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(head)
    if min(shape, default=0) < 0:
        raise ValueError(f"it would be of shape {shape}")
    return ArrayHead(shape, dtype, is_fortran, head.tell())


def array_head(path: Path, what: str) -> ArrayHead:
    """Return the head of a file with one array; raise UserError if it is damaged, cut off or of another format."""
    try:
        with reading_from(what), path.open("rb") as file:
            head = _parsed(file.read(HEAD_BYTES))
            found = file.seek(0, io.SEEK_END)
    except (UserError, MemoryError):
        raise
    except DAMAGE as error:
        raise UserError(f"{what}: damaged, or no array of NumPy: {' '.join(str(error).split())[:200]}") from None
    if found != head.start + head.size:
        raise UserError(f"{what}: has {found:,} bytes, but its shape {head.shape} needs {head.start + head.size:,}")
    return head


class Archive:
    """The arrays of a NumPy archive by name; arrays of objects, which could be code, are refused.

    Args:
        path: the file.
        what: the file as messages name it.
        kinds: kinds of the types that arrays may have.

    Raises:
        UserError: the file is missing, damaged or of another format.
    """

    def __init__(self, path: Path, what: str, kinds: str = "fiu"):
        self._what, self._kinds = what, kinds
        with reading_from(what):
            check_is_file(path, what)
        with self._reading():
            self._file = zipfile.ZipFile(path)
            self._members = {info.filename.removesuffix(".npy"): info for info in self._file.infolist()}
        self.names = tuple(self._members)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self._what}: damaged, or no npz archive of plain arrays: {reason[:200]}") from None

    def _start(self, name: str) -> ArrayHead:
        """Read the head of an array."""
        info = self._members[name]
        if info.compress_type not in COMPRESSIONS:
            raise UserError(f"{self._what}: {name!r} is packed in another way than NumPy's; save it with numpy.savez")
        with self._reading(), self._file.open(info) as member:
            head = _parsed(member.read(HEAD_BYTES))
        if head.dtype.kind not in self._kinds:
            raise UserError(f"{self._what}: {name!r} must be numbers, but is of type {head.dtype}")
        return head

    def location(self, name: str) -> tuple[int | None, ArrayHead]:
        """Return where an array begins in the file, and its head; None in place of the first if it is packed."""
        info, head = self._members[name], self._start(name)
        with self._reading():
            self._check_length(name, head)
            if info.compress_type != zipfile.ZIP_STORED:
                return None, head
            assert self._file.fp is not None
            self._file.fp.seek(info.header_offset)
            local = self._file.fp.read(LOCAL_HEADER.size)
            *_, name_bytes, extra_bytes = LOCAL_HEADER.unpack(local)
        return info.header_offset + LOCAL_HEADER.size + name_bytes + extra_bytes, head

    def shape(self, name: str) -> Shape:
        """Return the shape in the header of the array."""
        return self._start(name).shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the type in the header of the array."""
        return self._start(name).dtype

    def read(self, name: str) -> Array:
        """Read the values, in no more memory than the shape needs; raise UserError if that is more than there is."""
        head = self._start(name)
        check_fits_memory(head.size, f"{self._what}: {name!r} of shape {head.shape}")
        info = self._members[name]
        with self._reading(), self._file.open(info) as member:
            self._check_length(name, head)
            return np.lib.format.read_array(member, allow_pickle=False)

    def blocks(self, name: str, rows: int) -> Iterator[Array]:
        """Yield consecutive rows of an array, so many at a time; one in Fortran's order is read whole before."""
        head = self._start(name)
        if head.is_fortran:
            values = self.read(name)
            yield from (values[first : first + rows] for first in range(0, head.shape[0], rows))
            return
        check_fits_memory(head.row_bytes, f"{self._what}: a row of {name!r} of shape {head.shape}")
        with self._reading():
            self._check_length(name, head)
            member = self._file.open(self._members[name])
        with member:
            with self._reading():
                member.read(head.start)
            for first in range(0, head.shape[0], rows):
                count = min(rows, head.shape[0] - first)
                with self._reading():
                    content = bytearray(member.read(count * head.row_bytes))
                    values = np.frombuffer(content, head.dtype).reshape(count, *head.shape[1:])
                yield values.astype(head.dtype.newbyteorder("="), copy=False)
            with self._reading():
                member.read(1)  # at the end the checksum is compared

    def _check_length(self, name: str, head: ArrayHead) -> None:
        length = self._members[name].file_size
        if length != head.start + head.size:
            longer = "longer" if length > head.start + head.size else "shorter"
            raise ValueError(f"{name!r} is {longer} than its shape {head.shape}")
