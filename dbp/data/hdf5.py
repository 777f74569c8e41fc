"""Data sets in HDF5 files, of which only the rows in use are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from dbp.data.columns import HeldLocation, MissingColumn, MissingLocation, RowReader
from dbp.data.completeness import HDF5_FAILURES, reading_hdf5, reason_of
from dbp.data.dataset import by_name, check_columns, first_inputs, role_of
from dbp.data.file_names import data_path, split_group
from dbp.data.hdf5_column import HDF5Column, Stated
from dbp.data.locations import Location
from dbp.data.mapped import FileDataset, FileLayout, as_boolean, open_columns
from dbp.data.matlab import MatlabColumn, is_matlab, is_old_matlab, turn
from dbp.data.ragged import Ragged, RaggedLocation
from dbp.data.row_names import RowNames, row_names
from dbp.data.scaling import stated_for
from dbp.errors import DataError, StorageError, UserError
from dbp.files import reading_from
from dbp.types import Array


def versions() -> tuple[str, str]:
    """Return the versions of h5py and of the HDF5 library."""
    return h5py.version.version, h5py.version.hdf5_version


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        UserError: it is missing, no regular file (a FIFO or a device is not touched) or of another format.
        DataError: it is damaged.
        StorageError: the system, or a lock, does not let it be read.
    """
    what = f"data file {path}"
    with reading_from(what):
        if "\0" in str(path) or not path.exists():
            raise UserError(f"{what} does not exist (looked for {path.absolute()}){_how_to_name_group(path)}")
        if not path.is_file():
            raise UserError(f"{what} is a {_kind_of(path)}, not an HDF5 file; name a file")
        if not os.access(path, os.R_OK):
            raise StorageError(f"{what} cannot be read: you have no permission; ask its owner for it")
    try:
        if not h5py.is_hdf5(path):
            if is_old_matlab(path):
                raise UserError(f"{what} is of MATLAB, but not of version 7.3; write it in MATLAB with save -v7.3")
            raise UserError(f"{what} is not an HDF5 file; make one with: {_how_to_convert(path)}")
        return h5py.File(path, "r")
    except HDF5_FAILURES as error:
        if "unable to lock" in str(error):
            raise StorageError(
                f"{what} is locked: if another program has it open for writing, close it there; if its file system "
                f"has no locks, set HDF5_USE_FILE_LOCKING=FALSE ({reason_of(error)})"
            ) from None
        raise DataError(f"{what} is damaged or cut off: {reason_of(error)}") from None


def _how_to_name_group(path: Path) -> str:
    """Return a remedy if a name looks like that of a group in a file that exists; else nothing."""
    file, colon, group = str(path).rpartition(":")
    return f"; a group in {file} is written {file}:/{group or 'train'}" if colon and Path(file).is_file() else ""


def _how_to_convert(path: Path) -> str:
    """Return the command that makes an HDF5 file of a file of another format."""
    if path.suffix.lower() != ".csv":
        return "dbp convert FORMAT FILES OUT.h5"
    name = path.name
    return f"dbp convert csv {name} OUT.h5; with --like TRAIN.h5 its columns become those that a model was trained on"


def _kind_of(path: Path) -> str:
    kinds = (("folder", path.is_dir()), ("FIFO", path.is_fifo()), ("socket", path.is_socket()))
    return next((kind for kind, holds in kinds if holds), "device")


class HDF5Dataset(FileDataset):
    """Examples in an HDF5 file with a data set for each column.

    `layout` tells other processes where to map the same columns without HDF5; None if they cannot be mapped.
    `row_names` has the names of the files that the examples come from; None if the data set "files" is not there.

    Args:
        path: the file; a group in it, such as "all.h5:/train"; or "dbp:..." for a data set that comes with dbp.
        inputs: name in the file, or in the group, of the data set of inputs, (examples, ...); or such names by the name
            of the column.
        targets: likewise of targets; None to leave them out.
        weights: likewise of weights; by default "weights" if there is a data set of this name.
        scale: factor by which inputs are multiplied: a number, or one for each along the last axis; by default the
            attribute "scale" of the inputs, if any. Of several inputs it may be given by their names.
        shift: what is added to them then, likewise. Where either is given, the attributes of both are ignored.
        mask: likewise of the mask, 1 or 0 for each position of the inputs; None if all hold data.
        offsets: name in the file of the data set of offsets, by which the values of inputs are cut into rows of unequal
            length, and of targets and weights that have as many.

    Raises:
        UserError: the file, a data set or the scale breaks a rule, or a filter is not installed.
        DataError: the file is damaged, or HDF5 would fill in a part of a data set that is missing.
    """

    def __init__(
        self,
        path: str | Path,
        inputs: str | Mapping[str, str] = "inputs",
        targets: str | Mapping[str, str] | None = "targets",
        weights: str | Mapping[str, str] | None = None,
        scale: Any = None,
        shift: Any = None,
        mask: str | Mapping[str, str] | None = None,
        offsets: str | None = None,
    ):
        name = str(path)
        path, group = data_path(name), split_group(name)[1]
        file = open_hdf5(path)
        if weights is None and _has_weights(file, group):
            weights = "weights"
        names = by_name("inputs", inputs) | by_name("targets", targets) | by_name("weights", weights)
        names |= by_name("mask", mask)
        column_of = MatlabColumn if is_matlab(path) else HDF5Column
        found = {column: column_of(file, name, _name_in(group, at)) for column, at in names.items()}
        warnings = turn(found, first_inputs(found))
        ragged = _ragged_columns(found, None if offsets is None else HDF5Column(file, name, _name_in(group, offsets)))
        check_columns(name, {**found, **ragged})
        warnings += [warning for column in found.values() for warning in column.check_complete()]
        given = {at: _stated(name, at, column, scale, shift) for at, column in found.items() if role_of(at) == "inputs"}
        locations = _locations(file, found, ragged)
        size = path.stat().st_size
        meaning = {
            at: column.meaning(at, given.get(at), warnings)
            for at, column in found.items()
            if role_of(at) in ("inputs", "targets")
        }
        first = first_inputs(found)
        rows = (ragged.get(first) or found[first]).shape[0]
        self.row_names = row_names(file, _name_in(group, names[first]), rows)
        self.layout = FileLayout(size, locations, meaning, self.row_names) if len(locations) == len(found) else None
        columns: dict[str, RowReader] = {at: as_boolean(at, column, name) for at, column in found.items()}
        columns |= {at: MissingColumn(found[at], number) for at, number in _missing(found, ragged).items()}
        super().__init__(name, {**columns, **ragged, **open_columns(path, locations)}, meaning, warnings)


def _stated(name: str, at: str, column: HDF5Column, scale: Any, shift: Any) -> Stated | None:
    """Return the scale and shift that the user states for inputs; None for those of the attributes."""
    found = Stated(*stated_for(name, at, column.shape, scale, shift))
    return None if found == Stated() else found


def read_column(source: str, name: str) -> Array:
    """Return a column of a file, or of a group in one, whatever its type.

    Raises:
        UserError: there is no file, or no data set, of this name.
        DataError: it cannot be read.
    """
    remedy = f"name another, or keep the column with --keep {name} of dbp convert"
    return _other_column(source, name, remedy).read(slice(None))


def kept_column(source: str, name: str) -> HDF5Column | RowNames:
    """Return a column of numbers or texts that no model sees, of which rows can be read; see read_column()."""
    column = _other_column(source, name, "name another with --keep")
    if h5py.check_string_dtype(column.dtype) is None:
        return column
    return RowNames(str(data_path(source)), _name_in(split_group(source)[1], name), column.shape[0])


def _other_column(source: str, name: str, remedy: str) -> HDF5Column:
    return HDF5Column(open_hdf5(data_path(source)), source, _name_in(split_group(source)[1], name), remedy)


def _name_in(group: str, name: str) -> str:
    """Return the name in the file of a data set in a group; a name that begins with / is one in the file."""
    return name if name.startswith("/") or not group else f"{group}/{name}"


def _has_weights(file: h5py.File, group: str) -> bool:
    """Return True if a group has a data set "weights", or a link of that name that leads nowhere."""
    with reading_hdf5(file.filename):
        inside = file.get(group, None) if group else file
        link = inside.get("weights", getlink=True) if isinstance(inside, h5py.Group) else None
        return link is not None and not (type(link) is h5py.HardLink and isinstance(inside["weights"], h5py.Group))


def _ragged_columns(found: Mapping[str, HDF5Column], offsets: HDF5Column | None) -> dict[str, Ragged]:
    """Return the columns whose rows have unequal lengths: cut by offsets, or of a type of variable length."""
    ragged = {at: column.ragged() for at, column in found.items() if column.has_variable_length}
    if offsets is None:
        return ragged
    borders = offsets.read(slice(0, None))
    total = int(borders[-1]) if borders.ndim == 1 and borders.size else -1
    fits = {at: column.shape[:1] == (total,) and len(borders) != total + 1 for at, column in found.items()}
    has_several = any(fits[at] for at in found if role_of(at) == "inputs")  # of which others may be one row an example
    for at, column in found.items():
        is_cut = fits[at] or (role_of(at) == "inputs" and not has_several)
        if is_cut and role_of(at) != "mask":
            ragged[at] = Ragged(column, borders, offsets.what)
    return ragged


def _missing(found: Mapping[str, HDF5Column], ragged: Mapping[str, Ragged]) -> dict[str, float]:
    """Return the numbers that stand for missing ones, by column: of floats, and of integers that have a scale."""
    return {
        at: missing
        for at, column in found.items()
        if at not in ragged
        and role_of(at) in ("inputs", "targets")
        and (column.dtype.kind == "f" or column.is_packed())
        and (missing := column.missing()) is not None
    }


def _locations(
    file: h5py.File, found: Mapping[str, HDF5Column], ragged: Mapping[str, Ragged]
) -> dict[str, Location | RaggedLocation | MissingLocation | HeldLocation]:
    """Return the locations of the columns that can be read without HDF5."""
    locations: dict[str, Location | RaggedLocation | MissingLocation | HeldLocation] = {}
    missing = _missing(found, ragged)
    for at, column in found.items():
        is_held = column.has_variable_length
        location = HeldLocation(ragged[at].read_values(slice(None))) if is_held else column.location(file)
        if location is not None:
            locations[at] = RaggedLocation(location, ragged[at].offsets) if at in ragged else location
            if at in missing:
                locations[at] = MissingLocation(location, missing[at])
    return locations
