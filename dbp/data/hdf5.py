"""Data sets in HDF5 files, of which only the rows in use are read."""

from __future__ import annotations

from pathlib import Path

import h5py

from dbp.data.dataset import check_columns
from dbp.data.mapped import Column, FileDataset, FileLayout, data_path
from dbp.errors import UserError
from dbp.files import reading_from


def versions() -> tuple[str, str]:
    """Return the versions of h5py and of the HDF5 library."""
    return h5py.version.version, h5py.version.hdf5_version


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading; raise UserError if it is missing or of another format."""
    if not path.exists():
        raise UserError(f"data file {path} does not exist (looked for {path.absolute()})")
    with reading_from(f"data file {path}"):
        if not path.is_file() or not h5py.is_hdf5(path):
            raise UserError(f"data file {path} is not an HDF5 file; make one with: dbp convert idx|csv|npz ... OUT.h5")
        return h5py.File(path, "r")


class HDF5Dataset(FileDataset):
    """Examples in an HDF5 file with one data set for inputs and one for targets.

    `layout` tells other processes where to map the same columns without HDF5; None if they cannot be mapped.

    Args:
        path: the file, or "dbp:..." for a data set that comes with dbp.
        inputs: name of the data set of inputs, (examples, ...).
        targets: name of the data set of targets; None to leave them out.
        weights: name of the data set of weights; by default "weights" if there is one.
        scale: factor by which inputs are multiplied; by default the attribute "scale" of the inputs, if any.
    """

    def __init__(
        self,
        path: str | Path,
        inputs: str = "inputs",
        targets: str | None = "targets",
        weights: str | None = None,
        scale: float | None = None,
    ):
        name = str(path)
        path = data_path(name)
        file = open_hdf5(path)
        if weights is None and "weights" in file:
            weights = "weights"
        found = [None if column is None else _find(file, name, column) for column in (inputs, targets, weights)]
        check_columns(name, *found)
        if scale is None and "scale" in found[0].attrs:  # type: ignore[union-attr]
            scale = float(found[0].attrs["scale"])  # type: ignore[union-attr]
        columns = [None if column is None else _contiguous(column) for column in found]
        size = path.stat().st_size
        pairs = list(zip(found, columns, strict=True))
        all_contiguous = all(column is not None for stored, column in pairs if stored is not None)
        self.layout = FileLayout(size, tuple(columns), scale) if all_contiguous else None
        super().__init__(name, [s if column is None else column.mapped(path) for s, column in pairs], scale)


def _find(file: h5py.File, data: str, name: str) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        there = [key for key, item in file.items() if isinstance(item, h5py.Dataset)]
        raise UserError(
            f"{data}: has no data set {name!r}; it has {', '.join(there) or 'none'}: "
            "name the right ones with data.inputs and data.targets"
        )
    return found


def _contiguous(column: h5py.Dataset) -> Column | None:
    """Return the position of a contiguous column: mapped, random rows take a hundredth of the time of reads by HDF5."""
    contiguous = column.chunks is None and not column.is_virtual and column.external is None
    offset = column.id.get_offset() if contiguous else None
    if offset is None or column.file.userblock_size:
        return None
    return Column(column.dtype, column.shape, offset)
