"""HDF5 files of data and results: laid out in memory, written by plain writes, renamed once complete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import h5py
import numpy as np

from dbp.errors import UserError
from dbp.files import NewFile, must_be_free, remove_left, write_at, writing_to
from dbp.sparse_file import SparseFile
from dbp.types import Array

Attributes = Mapping[str, Mapping[str, Any]]  # by the name of the array that they describe; "/" for those of the file


class OutputFile:
    """An HDF5 file of named arrays, which is discarded at the end of its with statement unless it was committed.

    All methods raise StorageError if the file cannot be written.

    Args:
        path: its name.
        overwrite: whether a file of that name may be replaced.
        read: files that are read, which must not be replaced in any case.
    """

    def __init__(self, path: Path, overwrite: bool, read: Iterable[Path] = ()):
        self.path, self._overwrite, self._read = path, overwrite, tuple(read)
        self._new = NewFile(path, replaces=overwrite)
        self._file: BinaryIO | None = None
        self._offsets: dict[str, int] | None = None  # of the arrays, in bytes; None until they are laid out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._new.discard()

    def create(self) -> None:
        """Create the file under a temporary name; raise UserError if its own is taken."""
        must_be_free(self.path, self._overwrite, self._read)
        remove_left(self.path)
        self._file = self._new.create()

    def write_all(self, arrays: Mapping[str, Array], attributes: Attributes) -> None:
        """Write whole arrays (none of them a scalar) by names such as group/name, and attributes of file and arrays."""
        self._lay_out({name: (array.shape, array.dtype) for name, array in arrays.items()}, attributes)
        for name, array in arrays.items():
            self._write(name, array)

    def write_rows(self, columns: Mapping[str, Array], start: int, count: int, attributes: Attributes) -> None:
        """Write the rows of all columns from the row `start` on, of `count` rows in the end, and attributes."""
        if self._offsets is None:
            shapes = {name: ((count, *values.shape[1:]), values.dtype) for name, values in columns.items()}
            self._lay_out(shapes, attributes)
        for name, values in columns.items():
            self._write(name, values, start * values[:1].nbytes)

    def write_pieces(
        self, columns: Mapping[str, tuple[tuple[int, ...], np.dtype[Any], Iterable[Array]]], attributes: Attributes
    ) -> None:
        """Write columns of different numbers of rows, each given by shape, type and its rows in pieces."""
        self._lay_out({name: (shape, dtype) for name, (shape, dtype, _) in columns.items()}, attributes)
        for name, (_, _, pieces) in columns.items():
            offset = 0
            for values in pieces:
                self._write(name, values, offset)
                offset += values.nbytes

    def commit(self) -> None:
        """Give the file its name; raise UserError if another process has taken it meanwhile."""
        self._new.commit()

    def _lay_out(self, arrays: Mapping[str, tuple[tuple[int, ...], Any]], attributes: Attributes) -> None:
        """Write all but the values of the arrays, whose shapes and types are given."""
        assert self._file is not None
        check_texts(arrays, self.path)
        storage = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        storage.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # each array gets its space at once, contiguous
        storage.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        layout, self._offsets = SparseFile(), {}
        with h5py.File(layout, "w", libver=("v108", "v110")) as structure:  # before, attributes have at most 64 KiB
            for name, (shape, dtype) in arrays.items():
                stored = h5py.string_dtype("utf-8", dtype.itemsize) if dtype.kind == "S" else dtype
                self._offsets[name] = structure.create_dataset(name, shape, stored, dcpl=storage).id.get_offset()
            set_attributes(structure, attributes, self.path)
        with writing_to(self.path):
            layout.copy_to(self._file)

    def _write(self, name: str, values: Array, offset: int = 0) -> None:
        """Write values at a number of bytes from the beginning of their array."""
        assert self._file is not None
        assert self._offsets is not None
        if values.size:
            data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
            with writing_to(self.path):
                write_at(self._file, self._offsets[name] + offset, data)


def set_attributes(structure: h5py.File, attributes: Attributes, path: Path) -> None:
    """Set the attributes of a file and its arrays.

    Args:
        structure: the file in memory.
        attributes: a list or tuple of texts, which may be empty, becomes texts.
        path: of the file, for messages.

    Raises:
        UserError: a text has a NUL character, at which HDF5 would end it.
    """
    for name, given in attributes.items():
        for key, value in given.items():
            elements = value if isinstance(value, (list, tuple)) else [value]
            texts = [element for element in elements if isinstance(element, str)]
            check_texts(texts, path)
            is_list = elements is value and len(texts) == len(value)
            structure[name].attrs[key] = np.array(value, h5py.string_dtype()) if is_list else value


def check_texts(texts: Iterable[str], path: Path) -> None:
    """Raise UserError if a name or a text of a file has a NUL character."""
    for text in texts:
        if "\0" in text:
            raise UserError(
                f"{path} cannot hold the name {text!r}: HDF5 ends names at a NUL character; rename it in the source"
            )
