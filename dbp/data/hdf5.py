"""Data sets in HDF5 files. Only the rows asked for are read."""

from __future__ import annotations

from pathlib import Path

import h5py

from dbp.data.dataset import check_columns
from dbp.data.mapped import Column, FileDataset, Place, data_path
from dbp.errors import UserError
from dbp.files import reading_from


def versions() -> tuple[str, str]:
    """Those of h5py and of the HDF5 library."""
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

    Its place tells how other processes come by the same columns without HDF5; None where they cannot.

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
        name = str(path)
        path = data_path(name)
        file = open_hdf5(path)
        if weights is None and "weights" in file:
            weights = "weights"
        found = [None if column is None else _find(file, name, column) for column in (inputs, targets, weights)]
        check_columns(name, *found)
        if scale is None and "scale" in found[0].attrs:  # type: ignore[union-attr]
            scale = float(found[0].attrs["scale"])  # type: ignore[union-attr]
        places = [None if column is None else _place(column) for column in found]
        size = path.stat().st_size
        in_one_piece = all(place is not None for place, column in zip(places, found, strict=True) if column is not None)
        self.place = Place(size, tuple(places), scale) if in_one_piece else None
        pairs = zip(found, places, strict=True)
        super().__init__(name, [c if p is None else p.mapped(path) for c, p in pairs], scale)


def _find(file: h5py.File, data: str, name: str) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        there = [key for key, item in file.items() if isinstance(item, h5py.Dataset)]
        raise UserError(
            f"{data}: has no data set {name!r}; it has {', '.join(there) or 'none'}: "
            "name the right ones with data.inputs and data.targets"
        )
    return found


def _place(column: h5py.Dataset) -> Column | None:
    """Where a column lies, if it lies in one piece in its file: random rows cost a hundredth of a read through HDF5."""
    one_piece = column.chunks is None and not column.is_virtual and column.external is None
    offset = column.id.get_offset() if one_piece else None
    if offset is None or column.file.userblock_size:
        return None
    return Column(column.dtype, column.shape, offset)
