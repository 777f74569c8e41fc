"""Data sets in HDF5 files. Only the rows asked for are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dbp.data.dataset import Array, Examples, Rows, check_columns
from dbp.errors import UserError, unknown

PACKAGED = "dbp:"


def versions() -> tuple[str, str]:
    """Those of h5py and of the HDF5 library."""
    return h5py.version.version, h5py.version.hdf5_version


def packaged_names() -> list[str]:
    """The names of the data sets that come with dbp."""
    return [PACKAGED + path.stem for path in Path(__file__).parent.glob("*.h5")]


def data_path(name: str) -> Path:
    """The file of a data set: a path, or the name of one that comes with dbp ("dbp:digits-train")."""
    if not name.startswith(PACKAGED):
        return Path(name)
    if name not in packaged_names():
        raise unknown("packaged data set", name, packaged_names())
    return Path(__file__).parent / (name.removeprefix(PACKAGED) + ".h5")


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file for reading; UserError if it is missing or is none."""
    if not path.exists():
        raise UserError(f"data file {path} does not exist (looked for {path.absolute()})")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if not path.is_file() or not h5py.is_hdf5(path):
            raise UserError(
                f"data file {path} is not an HDF5 file; make one with: dbp convert idx|csv|npz ... OUT.h5"
            ) from None
        raise UserError(f"data file {path} cannot be read: {error}") from None


class HDF5Dataset:
    """Examples in an HDF5 file with one data set for inputs and one for targets.

    Args:
        path: the file, or "dbp:..." for a data set that comes with dbp.
        inputs: name of the data set of inputs, (examples, ...).
        targets: name of the data set of targets; None to leave them out.
        weights: name of the data set of weights; by default "weights" if there is one.
        scale: inputs are multiplied by this; by default by the attribute "scale" of the inputs, if any.
    """

    def __init__(
        self,
        path: str | Path,
        inputs: str = "inputs",
        targets: str | None = "targets",
        weights: str | None = None,
        scale: float | None = None,
    ):
        self.name = str(path)
        file = open_hdf5(data_path(self.name))
        if weights is None and "weights" in file:
            weights = "weights"
        columns = [None if name is None else self._find(file, name) for name in (inputs, targets, weights)]
        check_columns(self.name, *columns)
        self._columns = [None if column is None else _mapped(column) for column in columns]
        stored_scale = columns[0].attrs.get("scale") if columns[0] is not None else None
        self.scale = scale if scale is not None else None if stored_scale is None else float(stored_scale)
        self.input_shape: tuple[int, ...] = self._columns[0].shape[1:]  # type: ignore[union-attr]

    def _find(self, file: h5py.File, name: str) -> h5py.Dataset:
        found = file.get(name)
        if not isinstance(found, h5py.Dataset):
            there = [key for key, item in file.items() if isinstance(item, h5py.Dataset)]
            raise UserError(
                f"{self.name}: has no data set {name!r}; it has {', '.join(there) or 'none'}: "
                "name the right ones with data.inputs and data.targets"
            )
        return found

    def __len__(self) -> int:
        return len(self._columns[0])  # type: ignore[arg-type]

    def read(self, rows: Rows) -> Examples:
        """These rows, as stored."""
        inputs, targets, weights = (None if c is None else _rows(c, rows) for c in self._columns)
        assert inputs is not None
        return Examples(inputs, targets, weights)


def _mapped(column: h5py.Dataset) -> Any:
    """The column mapped into memory where it lies in one piece in its file, else as it is.

    Pages of the file are shared by all ranks of a node, and random rows cost a hundredth of a read
    through HDF5.
    """
    one_piece = column.chunks is None and not column.is_virtual and column.external is None
    offset = column.id.get_offset() if one_piece else None
    if offset is None or column.file.userblock_size:
        return column
    return np.memmap(column.file.filename, column.dtype, "r", offset, column.shape)


def _rows(column: Any, rows: Rows) -> Array:
    if isinstance(rows, slice) or isinstance(column, np.memmap):
        return np.asarray(column[rows])
    wanted, back = np.unique(rows, return_inverse=True)
    values = np.empty((len(wanted), *column.shape[1:]), column.dtype)
    start = 0
    for run in np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1):
        if len(run):  # HDF5 reads consecutive rows far faster than a list of row numbers
            column.read_direct(values, np.s_[run[0] : run[-1] + 1], np.s_[start : start + len(run)])
        start += len(run)
    return values[back]
