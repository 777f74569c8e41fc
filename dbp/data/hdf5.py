"""Data sets in HDF5 files, of which only the rows in use are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from dbp.data.columns import RowReader
from dbp.data.completeness import HDF5_FAILURES, StoredFile, check_complete, find_linked, reading_hdf5, reason_of
from dbp.data.dataset import Rows, by_name, check_columns, first_inputs, role_of
from dbp.data.file_names import data_path, split_group
from dbp.data.mapped import FileDataset, FileLayout, as_boolean, open_columns
from dbp.data.meaning import ColumnMeaning, check_names, kind_of, texts
from dbp.data.open_file import rows_text, runs
from dbp.data.places import Place, place_of
from dbp.data.ragged import Ragged, RaggedPlace
from dbp.data.row_names import row_names
from dbp.data.scaling import Numbers, check_scale, check_shift, check_width
from dbp.errors import DataError, StorageError, UserError
from dbp.files import machine_memory, reading_from
from dbp.types import Array

VARIABLE_ROWS, PART_OF_MEMORY = 4096, 4  # of a column of variable length: read at a time, and at most kept
SHOWN_NAMES = 20  # of the data sets in a file, in a message


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
            raise UserError(f"{what} does not exist (looked for {path.absolute()})")
        if not path.is_file():
            raise UserError(f"{what} is a {_kind_of(path)}, not an HDF5 file; name a file")
        if not os.access(path, os.R_OK):
            raise StorageError(f"{what} cannot be read: you have no permission; ask its owner for it")
    try:
        if not h5py.is_hdf5(path):
            raise UserError(f"{what} is not an HDF5 file; make one with: dbp convert FORMAT FILES OUT.h5")
        return h5py.File(path, "r")
    except HDF5_FAILURES as error:
        if "unable to lock" in str(error):
            raise StorageError(
                f"{what} is locked: if another program has it open for writing, close it there; if its file system "
                f"has no locks, set HDF5_USE_FILE_LOCKING=FALSE ({reason_of(error)})"
            ) from None
        raise DataError(f"{what} is damaged or cut off: {reason_of(error)}") from None


def _kind_of(path: Path) -> str:
    kinds = (("folder", path.is_dir()), ("FIFO", path.is_fifo()), ("socket", path.is_socket()))
    return next((kind for kind, holds in kinds if holds), "device")


class Stated(NamedTuple):
    """The scale and the shift of a column, if it has any."""

    scale: Numbers | None = None
    shift: Numbers | None = None


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
            attribute "scale" of the inputs, if any.
        shift: what is added to them then, likewise. Where either is given, the attributes of both are ignored.
        mask: likewise of the mask, 1 or 0 for each place of the inputs; None if all hold data.
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
        scale: Numbers | None = None,
        shift: Numbers | None = None,
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
        found = {column: HDF5Column(file, name, _name_in(group, at)) for column, at in names.items()}
        ragged = _ragged_columns(found, None if offsets is None else HDF5Column(file, name, _name_in(group, offsets)))
        check_columns(name, {**found, **ragged})
        warnings = [warning for column in found.values() for warning in column.check_complete()]
        given = None if scale is shift is None else _stated(name, found[first_inputs(found)].shape, scale, shift)
        places = _places(file, found, ragged)
        size = path.stat().st_size
        meaning = {
            at: column.meaning(at, given if role_of(at) == "inputs" else None, warnings)
            for at, column in found.items()
            if role_of(at) in ("inputs", "targets")
        }
        first = first_inputs(found)
        rows = (ragged.get(first) or found[first]).shape[0]
        self.row_names = row_names(file, _name_in(group, names[first]), rows)
        self.layout = FileLayout(size, places, meaning, self.row_names) if len(places) == len(found) else None
        columns: dict[str, RowReader] = {at: as_boolean(at, column) for at, column in found.items()}
        super().__init__(name, {**columns, **ragged, **open_columns(path, places)}, meaning, warnings)


def _stated(name: str, shape: tuple[int, ...], scale: Numbers | None, shift: Numbers | None) -> Stated:
    """Return a given scale and shift; raise UserError unless they fit a column of this shape."""
    found = Stated(
        None if scale is None else check_scale(f"{name}: scale", scale),
        None if shift is None else check_shift(f"{name}: shift", shift),
    )
    for key, numbers in found._asdict().items():
        check_width(f"{name}: {key}", numbers, shape)
    return found


def read_column(source: str, name: str) -> Array:
    """Return a column of a file, or of a group in one, whatever its type.

    Raises:
        UserError: there is no file, or no data set, of this name.
        DataError: it cannot be read.
    """
    file = open_hdf5(data_path(source))
    return HDF5Column(file, source, _name_in(split_group(source)[1], name)).read(slice(None))


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
    for at, column in found.items():
        is_cut = column.shape[:1] == (total,) and len(borders) != total + 1
        if role_of(at) == "inputs" or (is_cut and role_of(at) != "mask"):
            ragged[at] = Ragged(column, borders, offsets.what)
    return ragged


def _places(
    file: h5py.File, found: Mapping[str, HDF5Column], ragged: Mapping[str, Ragged]
) -> dict[str, Place | RaggedPlace]:
    """Return the positions of the columns that can be read without HDF5."""
    places: dict[str, Place | RaggedPlace] = {}
    for at, column in found.items():
        place = None if column.has_variable_length else column.place(file)
        if place is not None:
            places[at] = RaggedPlace(place, ragged[at].offsets) if at in ragged else place
    return places


class HDF5Column:
    """A column that is read through HDF5.

    Args:
        file: the open file.
        data: name of the data set in messages.
        name: name of the column in the file.

    Raises:
        UserError: there is no column of this name, or its numbers are of a type that NumPy does not have.
        DataError: it is a link to a file that is missing, or cannot be read.
    """

    def __init__(self, file: h5py.File, data: str, name: str):
        self.what, self._data = f"{data}: {name!r}", data
        self._files: list[StoredFile] = []  # that hold its numbers; found by check_complete()
        with reading_hdf5(self.what):
            _check_links(file, name, self.what)
            found = file.get(name)
            if not isinstance(found, h5py.Dataset):
                raise UserError(
                    f"{data}: has no data set {name!r}; it has {names_of_data_sets(file)}: "
                    "name the right ones with data.inputs, data.targets and data.weights"
                )
            try:
                self.dtype = found.dtype
            except TypeError:
                raise UserError(
                    f"{self.what} has numbers of a type that NumPy does not have, of {found.id.get_type().get_size()} "
                    "bytes; store it as float32 or int32"
                ) from None
        self._stored = found
        self.shape = found.shape

    @property
    def has_variable_length(self) -> bool:
        """Return True for numbers in rows of HDF5's type of variable length."""
        base = h5py.check_vlen_dtype(self.dtype)
        return base is not None and np.dtype(base).kind in "buif"

    def ragged(self) -> Ragged:
        """Return the rows of a type of variable length, all read into memory.

        Raises:
            UserError: they take more than a part of the memory of this machine.
        """
        rows: list[Array] = []
        size, limit = 0, machine_memory() // PART_OF_MEMORY
        for first in range(0, self.shape[0], VARIABLE_ROWS):
            rows += list(self._read(range(first, min(first + VARIABLE_ROWS, self.shape[0]))))
            size += sum(row.nbytes for row in rows[first:])
            if size > limit:
                raise UserError(
                    f"{self.what} has rows of variable length, which are read whole, but take more than {limit:,} "
                    "bytes; store values and offsets as two data sets, and name the second with data.offsets"
                )
        if not rows:
            raise UserError(f"{self._data}: has no examples")
        return Ragged.of(rows)

    @property
    def borders(self) -> Array | None:
        """Return the first row of each unit of rows that are stored together, and the number of rows; None for one."""
        chunks, rows = self._stored.chunks, self.shape[0]
        return None if chunks is None else np.append(np.arange(0, rows, chunks[0]), rows)

    def check_complete(self) -> list[str]:
        """Return warnings of parts that HDF5 fills in; raise DataError where it must not."""
        return check_complete(self._stored, self.what, self._files)

    def _scale_and_shift(self) -> Stated:
        """Return the attributes "scale" and "shift"; raise UserError unless they are numbers that fit."""
        found: dict[str, Numbers | None] = {"scale": None, "shift": None}
        for name, check in (("scale", check_scale), ("shift", check_shift)):
            what = f"{self.what}: the attribute {name}"
            with reading_hdf5(what):
                if name not in self._stored.attrs:
                    continue
                value = self._stored.attrs[name]
            value = value[0] if np.shape(value) == (1,) else value
            found[name] = check(what, value, f"; set data.{name} to use another")
            check_width(what, found[name], self.shape)
        return Stated(**found)

    def meaning(self, column: str, stated: Stated | None, warnings: list[str]) -> ColumnMeaning:
        """Return the meaning of the column, of which its attributes are a part.

        Args:
            column: its name in the data set, such as "inputs".
            stated: its scale and shift; None for those of the attributes.
            warnings: gets a line for an attribute that is ignored, as another program may mean something else by it.
        """
        found: dict[str, Any] = {}
        for name in ("names", "classes", "units"):
            what = f"{self.what}: the attribute {name}"
            with reading_hdf5(what):
                value = self._stored.attrs.get(name)
            if value is None:
                continue
            try:
                if name == "units" and isinstance(value, str):  # as NetCDF has it
                    value = [value] * (self.shape[-1] if len(self.shape) > 1 else 1)
                found[name] = check_names(f"{self._data}: {column}", name, texts(value), self.shape)
            except (UserError, ValueError, TypeError) as error:
                warnings.append(f"{what} is ignored, as it is no list of names that fit ({error})")
        if "classes" not in found and role_of(column) == "targets" and (classes := self._enum_names(warnings)):
            found["classes"] = classes
        stated = stated or self._scale_and_shift()
        return ColumnMeaning(kind_of(self.dtype), stated.scale, shift=stated.shift, **found)

    def _enum_names(self, warnings: list[str]) -> tuple[str, ...]:
        """Return the names of an enum type in the order of their numbers; none, with a warning, if one is left out."""
        numbers = h5py.check_enum_dtype(self.dtype) or {}
        if sorted(numbers.values()) != list(range(len(numbers))):
            warnings.append(
                f"{self.what}: the names of its enum type are ignored, as its numbers are not 0 to {len(numbers) - 1}"
            )
            return ()
        return tuple(sorted(numbers, key=numbers.__getitem__))

    def place(self, file: h5py.File) -> Place | None:
        """Return where the column lies, if not only HDF5 can read it, given the file by which it was found."""
        with reading_hdf5(self.what):
            return place_of(self._stored, file, self.what)

    def read(self, rows: Rows) -> Array:
        """Read rows; raise DataError, naming file and rows, if they cannot be read."""
        values = self._read(range(*rows.indices(self.shape[0]))) if isinstance(rows, slice) else self._gather(rows)
        for file in self._files:
            file.check(self.what)
        return values

    def read_into(self, rows: range, into: Array) -> None:
        """Read consecutive rows into an array of their shape and type; HDF5 lets one thread read at a time."""
        into[...] = self.read(slice(rows.start, rows.stop))

    def _gather(self, rows: Array) -> Array:
        wanted, back = np.unique(rows, return_inverse=True)
        values = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        for first, at, count in runs(wanted):
            values[at : at + count] = self._read(range(first, first + count))
        return values[back]

    def _read(self, rows: range) -> Array:
        """Read consecutive rows, which takes HDF5 far less time than a list of row numbers."""
        try:
            return np.asarray(self._stored[rows.start : rows.stop])
        except HDF5_FAILURES as error:
            raise DataError(f"{self.what} of {rows_text(rows)} cannot be read: {reason_of(error)}") from None
        except MemoryError:
            raise UserError(f"{self.what}: {len(rows):,} rows take more memory than there is") from None


def _check_links(file: h5py.File, name: str, what: str) -> None:
    """Raise DataError if a name leads nowhere, or to a file that is missing or no HDF5 file, such as a FIFO."""
    group: Any = file
    for part in filter(None, name.split("/")):
        if not isinstance(group, h5py.Group):
            return
        link = group.get(part, getlink=True)
        if isinstance(link, h5py.SoftLink) and group.get(part) is None:
            raise DataError(f"{what} is a link to {link.path!r}, which does not exist in {file.filename}")
        if isinstance(link, h5py.ExternalLink) and not find_linked(link.filename, file.filename, "HDF5_EXT_PREFIX"):
            raise DataError(
                f"{what} is a link to {link.path} in {link.filename}, which is missing or not an HDF5 file; put it "
                f"beside {file.filename}"
            )
        group = group.get(part)


def names_of_data_sets(file: h5py.File) -> str:
    """Return the names of the first data sets in a file, those in groups too."""
    names: list[str] = []

    def note(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset):
            names.append(name)
        return True if len(names) > SHOWN_NAMES else None  # True ends the visit

    file.visititems(note)
    more = ", ..." if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more if names else "none"
