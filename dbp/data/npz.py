"""Read NumPy archives (.npz); nothing in a file is trusted."""

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
from typing import Any

import numpy as np

from dbp.errors import UserError
from dbp.files import check_fits_memory, check_is_file, reading_from
from dbp.types import Array

Shape = tuple[int, ...]
HEAD_BYTES = 2**16  # at the start of an array of NumPy; its header must end within them
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those of NumPy; others may need any memory to unpack
# The exceptions of zipfile and NumPy for files that are not as they should be.
DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, MemoryError),
    *(SyntaxError, OverflowError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)


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

    def _start(self, name: str) -> tuple[Shape, np.dtype[Any], int]:
        """Read shape, type and the position of the values from the head of an array."""
        info = self._members[name]
        if info.compress_type not in COMPRESSIONS:
            raise UserError(f"{self._what}: {name!r} is packed in another way than NumPy's; save it with numpy.savez")
        with self._reading(), self._file.open(info) as member:
            head = io.BytesIO(member.read(HEAD_BYTES))
            version = np.lib.format.read_magic(head)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(head)
            if min(shape, default=0) < 0:
                raise ValueError(f"{name!r} would be of shape {shape}")
        if dtype.kind not in self._kinds:
            raise UserError(f"{self._what}: {name!r} must be numbers, but is of type {dtype}")
        return shape, dtype, head.tell()

    def shape(self, name: str) -> Shape:
        """Return the shape in the header of the array."""
        return self._start(name)[0]

    def read(self, name: str) -> Array:
        """Read the values, in no more memory than the shape needs; raise UserError if that is more than there is."""
        shape, dtype, start = self._start(name)
        size = math.prod(shape) * dtype.itemsize
        check_fits_memory(size, f"{self._what}: {name!r} of shape {shape}")
        info = self._members[name]
        with self._reading(), self._file.open(info) as member:
            if info.file_size != start + size:
                longer = "longer" if info.file_size > start + size else "shorter"
                raise ValueError(f"{name!r} is {longer} than its shape {shape}")
            return np.lib.format.read_array(member, allow_pickle=False)
