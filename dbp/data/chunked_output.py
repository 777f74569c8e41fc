"""HDF5 files whose columns are in chunks of whole rows, packed or not, written in pieces."""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from dbp.data.output import Attributes, OutputFile, check_texts, set_attributes
from dbp.files import writing_to
from dbp.types import Array

CHUNK_BYTES = 1 << 20  # before they are packed: small beside the memory for reading ahead, large enough for a disk


class ChunkedOutputFile(OutputFile):
    """An HDF5 file of columns in chunks, each of which holds consecutive rows; see OutputFile.

    Args:
        path: its name.
        overwrite: whether a file of that name may be replaced.
        read: files that are read, which must not be replaced in any case.
        rows: those in a chunk of the column with the largest rows; by default about CHUNK_BYTES of them.
        level: how hard zlib packs the shuffled bytes of each chunk, from 1 to 9; 0 to leave them as they are.
    """

    def __init__(self, path: Path, overwrite: bool, read: Iterable[Path] = (), rows: int | None = None, level: int = 0):
        super().__init__(path, overwrite, read)
        self._rows, self._level = rows, level
        self._disk: _DiskFile | None = None
        self._structure: h5py.File | None = None
        self._waiting: dict[str, list[Array]] = {}  # rows that do not fill a chunk yet
        self._starts: dict[str, int] = {}  # the row at which the next chunk begins

    def __exit__(self, *failure: Any) -> None:
        if self._structure is not None:
            self._structure.close()
        super().__exit__(*failure)

    def write_rows(self, columns: Mapping[str, Array], start: int, count: int, attributes: Attributes) -> None:
        """Write the next rows of all columns, of `count` rows in the end, and attributes."""
        if self._structure is None:
            self._create_columns(columns, count, attributes)
        for name, values in columns.items():
            assert start == self._starts[name] + sum(map(len, self._waiting[name]))
            self._waiting[name].append(values)
            self._write_chunks(name, start + len(values) == count)
        self._check()

    def commit(self) -> None:
        """Give the file its name; raise UserError if another process has taken it meanwhile."""
        assert self._structure is not None
        self._structure.close()
        self._structure = None
        self._check()
        super().commit()

    def _create_columns(self, columns: Mapping[str, Array], count: int, attributes: Attributes) -> None:
        assert self._file is not None
        check_texts(columns, self.path)
        self._disk = _DiskFile(self._file)
        self._structure = h5py.File(self._disk, "w", libver=("v108", "v110"))
        packing = {"compression": "gzip", "compression_opts": self._level, "shuffle": True} if self._level else {}
        for name, values in columns.items():
            dtype = h5py.string_dtype("utf-8", values.dtype.itemsize) if values.dtype.kind == "S" else values.dtype
            rows = self._rows_of(values, max(map(_row_bytes, columns.values())), count)
            shape = (count, *values.shape[1:])
            self._structure.create_dataset(name, shape, dtype, chunks=(rows, *shape[1:]), **packing)
            self._waiting[name], self._starts[name] = [], 0
        set_attributes(self._structure, attributes, self.path)

    def _rows_of(self, values: Array, largest: int, count: int) -> int:
        """Return the rows in a chunk of a column: as many as in one of the largest, in others a multiple."""
        rows = self._rows or max(1, CHUNK_BYTES // largest)
        times = 1 if _row_bytes(values) == largest else max(1, CHUNK_BYTES // (rows * _row_bytes(values)))
        return min(count, rows * times)

    def _write_chunks(self, name: str, is_end: bool) -> None:
        """Write the chunks of a column that are full, and at the end the last one."""
        assert self._structure is not None
        stored = self._structure[name]
        rows = stored.chunks[0]
        if sum(map(len, self._waiting[name])) < rows and not is_end:
            return
        values = np.concatenate(self._waiting[name])
        whole = len(values) if is_end else len(values) // rows * rows
        for first in range(0, whole, rows):
            corner = (self._starts[name] + first, *(0 for _ in values.shape[1:]))
            stored.id.write_direct_chunk(corner, self._packed(values[first : first + rows], rows))
        self._starts[name] += whole
        self._waiting[name] = [values[whole:]]

    def _packed(self, values: Array, rows: int) -> bytes:
        """Return a chunk as it is stored; the last one is filled up with zeros."""
        content = np.zeros((rows, *values.shape[1:]), values.dtype)
        content[: len(values)] = values
        if not self._level:
            return content.tobytes()
        shuffled = content.reshape(-1).view(np.uint8).reshape(-1, content.dtype.itemsize).T
        return zlib.compress(shuffled.tobytes(), self._level)

    def _check(self) -> None:
        """Raise StorageError if the disk did not take something."""
        with writing_to(self.path):
            if self._disk is not None and self._disk.failure is not None:
                raise self._disk.failure


def _row_bytes(values: Array) -> int:
    return max(1, math.prod(values.shape[1:]) * values.dtype.itemsize)


class _DiskFile(io.RawIOBase):
    """A file to which HDF5 writes; a failure is kept for later, as HDF5 could end the process over it.

    Args:
        file: the file, open for reading and writing.
    """

    def __init__(self, file: BinaryIO):
        self._descriptor = file.fileno()
        self._position = 0
        self.failure: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        self._position = offset + (0, self._position, os.fstat(self._descriptor).st_size)[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, target: Any) -> int:
        """Read bytes at the position: zeros after the end."""
        view = memoryview(target).cast("B")
        content = os.pread(self._descriptor, len(view), self._position)
        view[:] = content.ljust(len(view), b"\0")
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        """Write bytes at the position, unless an earlier write has failed."""
        view = memoryview(data).cast("B")
        done = 0
        with self._noting_failure():
            while done < len(view) and self.failure is None:
                done += os.pwrite(self._descriptor, view[done:], self._position + done)
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        length = self._position if size is None else size
        with self._noting_failure():
            os.ftruncate(self._descriptor, length)
        return length

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
