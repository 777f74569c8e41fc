"""Data sets in NumPy's files: archives (.npz), and a file for each column (.npy). What is not packed is mapped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbp.data.columns import Column, ColumnNames, HeldLocation, RowReader, plain_meaning
from dbp.data.dataset import first_inputs, role_of
from dbp.data.mapped import FileDataset, FileLayout, MappedColumn, open_columns
from dbp.data.meaning import Meaning
from dbp.data.npz import Archive, ArrayHead, array_head
from dbp.data.open_file import OpenFile
from dbp.errors import UserError
from dbp.files import reading_from
from dbp.named_arrays import first_of
from dbp.plain_files import check_is_file

NUMBERS = "buif"  # kinds of the types of columns


def open_archive(path: str, names: ColumnNames, scale: Any, shift: Any) -> FileDataset:
    """Return the data set in an archive.

    Args:
        path: the file.
        names: of the arrays; those that are None are left out, but for weights, which are taken if there are any.
        scale: factor on the inputs, if any.
        shift: what is added to them then, if anything.

    Raises:
        UserError: the file is damaged, an array is not there, or breaks a rule.
    """
    archive = Archive(Path(path), f"data file {path}", kinds=NUMBERS)
    wanted = _by_role(names, path)
    if not any(role_of(column) == "weights" for column in wanted) and "weights" in archive.names:
        wanted["weights"] = "weights"
    for role, name in wanted.items():
        if name not in archive.names:
            raise UserError(
                f"{path}: has no array {name!r} for the {role}; it has {', '.join(archive.names) or 'none'}: name the "
                "right ones with data.inputs, data.targets and data.weights"
            )
    locations: dict[str, Column | HeldLocation] = {
        role: _column(*archive.location(name)) or HeldLocation(archive.read(name)) for role, name in wanted.items()
    }
    packed = [name for role, name in wanted.items() if isinstance(locations[role], HeldLocation)]
    warnings = (
        [f"{path}: {', '.join(packed)} are held in memory by each node; dbp convert npz spares it"] if packed else []
    )
    columns = open_columns(Path(path), locations)
    found = FileDataset(path, columns, plain_meaning(path, columns, scale, shift), warnings)
    found.layout = FileLayout(Path(path).stat().st_size, dict(locations), found.meaning)
    return found


def open_arrays(names: ColumnNames, scale: Any, shift: Any) -> FileDataset:
    """Return the data set of which each column is a file of its own; see open_archive()."""
    wanted = _by_role(names, str(first_of(names.inputs)))
    columns: dict[str, RowReader] = {}
    for role, path in wanted.items():
        what = f"data file {path}"
        with reading_from(what):
            check_is_file(Path(path), what)
        location = _column(0, array_head(Path(path), what))
        if location is None:
            raise UserError(
                f"{what}: is in Fortran's order, in which the numbers of an example lie far apart; save it with "
                "numpy.ascontiguousarray"
            )
        columns[role] = MappedColumn(OpenFile(Path(path)), role, location)
    return ArrayFiles(wanted, columns, plain_meaning(wanted[first_inputs(wanted)], columns, scale, shift))


class ArrayFiles(FileDataset):
    """Examples of which each column is a file of its own.

    Args:
        files: by column.
        columns: their readers.
        meaning: of the columns.
    """

    def __init__(self, files: Mapping[str, str], columns: Mapping[str, RowReader], meaning: Meaning):
        super().__init__(files[first_inputs(files)], columns, meaning)
        self._files = files

    def paths(self) -> list[Path]:
        """Return its files."""
        return [Path(file) for file in self._files.values()]


def _by_role(names: ColumnNames, file: str) -> dict[str, str]:
    if names.mask is not None or names.offsets is not None:
        raise UserError("data.mask and data.offsets need HDF5 files; convert the arrays with dbp convert npz")
    return names.single(file)


def _column(offset: int | None, head: ArrayHead) -> Column | None:
    """Return the location of an array whose file begins at an offset; None if it must be read whole."""
    if offset is None or (head.is_fortran and len(head.shape) > 1):
        return None
    return Column(head.dtype, head.shape, offset + head.start)
