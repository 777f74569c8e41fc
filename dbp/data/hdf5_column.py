"""A column of an HDF5 file, read through HDF5, and what its attributes say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np

from dbp.data.completeness import HDF5_FAILURES, StoredFile, check_complete, find_linked, reading_hdf5, reason_of
from dbp.data.dataset import Rows, role_of
from dbp.data.locations import Location, location_of
from dbp.data.meaning import FLOATS, ColumnMeaning, check_names, kind_of, texts
from dbp.data.open_file import rows_text, runs
from dbp.data.ragged import Ragged
from dbp.data.scaling import Numbers, check_scale, check_shift, check_width
from dbp.errors import DataError, UserError
from dbp.files import machine_memory
from dbp.types import Array

NETCDF = {"scale": "scale_factor", "shift": "add_offset"}  # the names of attributes in NetCDF
MISSING = ("_FillValue", "missing_value")
VARIABLE_ROWS, PART_OF_MEMORY = 4096, 4  # of a column of variable length: read at a time, and at most kept
SHOWN_NAMES = 20  # of the data sets in a file, in a message


class Stated(NamedTuple):
    """The scale and the shift of a column, if it has any."""

    scale: Numbers | None = None
    shift: Numbers | None = None


class HDF5Column:
    """A column that is read through HDF5.

    Args:
        file: the open file.
        data: name of the data set in messages.
        name: name of the column in the file.
        remedy: for a name that the file does not have.

    Raises:
        UserError: there is no column of this name, or its numbers are of a type that NumPy does not have.
        DataError: it is a link to a file that is missing, or cannot be read.
    """

    def __init__(
        self,
        file: h5py.File,
        data: str,
        name: str,
        remedy: str = "name the right ones in [data] or with --set, such as data.inputs=NAME",
    ):
        self.what, self._data = f"{data}: {name!r}", data
        self._files: list[StoredFile] = []  # that hold its numbers; found by check_complete()
        with reading_hdf5(self.what):
            _check_links(file, name, self.what)
            found = file.get(name)
            if not isinstance(found, h5py.Dataset):
                raise UserError(f"{data}: has no data set {name!r}; it has {names_of_data_sets(file)}: {remedy}")
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
            with reading_hdf5(self.what):
                attribute = next((given for given in (name, NETCDF[name]) if given in self._stored.attrs), None)
                if attribute is None:
                    continue
                value = self._stored.attrs[attribute]
            what = f"{self.what}: the attribute {attribute}"
            value = value[0] if np.shape(value) == (1,) else value
            found[name] = check(what, value, f"; set data.{name} to use another")
            check_width(what, found[name], self.shape)
        return Stated(**found)

    def _of_targets(self, names: Mapping[str, Any], warnings: list[str]) -> Stated:
        """Return the scale and shift of targets; what does not fit is ignored with a warning.

        Args:
            names: of the column, and of its classes if it has any.
            warnings: gets the line.
        """
        try:
            stated = self._scale_and_shift()
        except UserError as error:
            warnings.append(f"{self.what}: scale and shift are ignored ({error})")
            return Stated()
        if names.get("classes") and stated != Stated():
            warnings.append(f"{self.what}: scale and shift are ignored, as these targets are classes")
            return Stated()
        return stated

    def is_packed(self) -> bool:
        """Return True for integers that NetCDF's attributes make floats."""
        with reading_hdf5(self.what):
            return self.dtype.kind in "iu" and NETCDF["scale"] in self._stored.attrs

    def missing(self) -> float | None:
        """Return the number that stands for missing ones, as NetCDF has it; None if the attributes name none."""
        for name in MISSING:
            with reading_hdf5(f"{self.what}: the attribute {name}"):
                value = np.ravel(self._stored.attrs.get(name, ()))
            if value.size == 1 and value.dtype.kind in "uif" and not np.isnan(value[0]):
                return float(value[0])
        return None

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
        stated = stated or (
            self._of_targets(found, warnings) if role_of(column) == "targets" else self._scale_and_shift()
        )
        kind = FLOATS if self.is_packed() else kind_of(self.dtype)
        return ColumnMeaning(kind, stated.scale, shift=stated.shift, **found)

    def _enum_names(self, warnings: list[str]) -> tuple[str, ...]:
        """Return the names of an enum type in the order of their numbers; none, with a warning, if one is left out."""
        numbers = h5py.check_enum_dtype(self.dtype) or {}
        if sorted(numbers.values()) != list(range(len(numbers))):
            warnings.append(
                f"{self.what}: the names of its enum type are ignored, as its numbers are not 0 to {len(numbers) - 1}"
            )
            return ()
        return tuple(sorted(numbers, key=numbers.__getitem__))

    def location(self, file: h5py.File) -> Location | None:
        """Return where the column lies, if not only HDF5 can read it, given the file by which it was found."""
        with reading_hdf5(self.what):
            return location_of(self._stored, file, self.what)

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
            return self._stored_rows(rows)
        except HDF5_FAILURES as error:
            raise DataError(f"{self.what} of {rows_text(rows)} cannot be read: {reason_of(error)}") from None
        except MemoryError:
            raise UserError(f"{self.what}: {len(rows):,} rows take more memory than there is") from None

    def _stored_rows(self, rows: range) -> Array:
        return np.asarray(self._stored[rows.start : rows.stop])


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
