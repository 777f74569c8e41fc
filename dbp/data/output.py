"""A file of results, by rows or in whole arrays, that bears its name only when it is whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import h5py

from dbp.errors import UserError
from dbp.types import Array


def must_be_free(path: Path, overwrite: bool) -> None:
    """UserError if there is a file of that name already, which may not be replaced."""
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; choose another name or pass --overwrite")


class OutputFile:
    """An HDF5 file that grows under a temporary name.

    Args:
        path: its name in the end.
        rows: of every column that is written by rows.
        overwrite: whether a file of that name may be replaced.
    """

    def __init__(self, path: Path, rows: int, overwrite: bool):
        self._path, self._rows, self._overwrite = path, rows, overwrite
        self._partial = path.with_name(f".{path.name}.partial")

    def prepare(self) -> None:
        """Make the temporary file; UserError if that or the final name cannot be had."""
        must_be_free(self._path, self._overwrite)
        try:
            h5py.File(self._partial, "w").close()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise UserError(f"{self._path} cannot be written: {reason}") from None

    def write(self, start: int, columns: Mapping[str, Array]) -> None:
        """Write some rows of all columns, from this row on."""
        with h5py.File(self._partial, "a") as file:
            for name, values in columns.items():
                whole = file.require_dataset(name, (self._rows, *values.shape[1:]), values.dtype, exact=True)
                whole[start : start + len(values)] = values

    def put(self, arrays: Mapping[str, Array], attributes: Mapping[str, float]) -> None:
        """Write whole arrays, by names such as group/name, and attributes of the file."""
        with h5py.File(self._partial, "a") as file:
            for name, values in arrays.items():
                file[name] = values
            file.attrs.update(attributes)

    def finish(self) -> None:
        """Give the file its name."""
        self._partial.replace(self._path)

    def discard(self) -> None:
        """Remove what is not finished."""
        self._partial.unlink(missing_ok=True)
