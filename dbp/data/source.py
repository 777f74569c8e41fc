"""A data set in files, as settings name it: one file or several, a group, a pattern, or a file for each column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dbp.data.columns import ColumnNames
from dbp.data.file_names import data_path, expand, location_of
from dbp.data.joined import JoinedDataset, JoinedLayout, join
from dbp.data.mapped import FileDataset, FileLayout, mapped
from dbp.errors import UserError
from dbp.named_arrays import first_of
from dbp.text import shortened
from dbp.types import Array

ARCHIVE, ARRAY = ".npz", ".npy"  # files of NumPy, with several arrays or with one
PARQUET = ".parquet"
SHOWN_FILES = 3  # in the name of a data set


def layout_of(data: FileDataset) -> FileLayout | JoinedLayout | None:
    """Return by what other processes open the files of a data set without HDF5; None if they cannot."""
    return data.joined if isinstance(data, JoinedDataset) else data.layout


class FileSource(NamedTuple):
    """A data set in files.

    Args:
        files: their names, of which some may be patterns.
        names: of the columns in each file.
        scale: factor on the inputs, or on several by their names; None for that of the files.
        shift: what is added to them then; where either is given, those of the files are ignored.
    """

    files: Sequence[str]
    names: ColumnNames = ColumnNames()
    scale: Any = None
    shift: Any = None

    @property
    def name(self) -> str:
        """Return the name of the data set for messages."""
        return shortened(self.files, SHOWN_FILES) if self.files else str(first_of(self.names.inputs))

    def paths(self) -> list[Path]:
        """Return the files that there are, to protect them from being written over."""
        if not self.files:
            return [Path(name) for name in self.names.single(self.name).values()]
        try:
            return [data_path(name) for name in expand(self.files)]
        except UserError:  # which is raised when they are opened
            return []

    def locations(self) -> dict[tuple[str, str], str]:
        """Return the name of each file, or group in one, by what it leads to, the same for all names of it."""
        files = expand(self.files) if self.files else list(self.names.single(self.name).values())[:1]
        return {location_of(name): name for name in files}

    def open(self, with_targets: bool = True) -> FileDataset:
        """Open the data set; raise UserError if there is none of its name or something breaks a rule."""
        if not self.files:
            return self._open_arrays(self.names, with_targets)
        files = expand(self.files)
        if len(files) == 1:
            return self._open_file(files[0], with_targets)
        return join(self.name, files, lambda file: self._open_file(file, with_targets))

    def open_as(self, layout: FileLayout | JoinedLayout | None, with_targets: bool = True) -> FileDataset:
        """Open the data set, given where another process has found its columns; None if it could not tell."""
        if isinstance(layout, JoinedLayout):
            return JoinedDataset(self.name, layout, lambda file: self._open_file(file, with_targets))
        if layout is not None:
            file = expand(self.files)[0]
            if layout.fits(data_path(file)):
                return mapped(file, layout)
        return self.open(with_targets)

    def read_column(self, name: str) -> Array:
        """Return a column of any type by its name in the files; raise UserError if there is none."""
        if not self.files:
            raise UserError(
                f"{self.name}: column {name!r} is in no file, as each column is a file of its own; put all of them "
                f"into an archive ({ARCHIVE})"
            )
        return np.concatenate([_column_of(file, name) for file in expand(self.files)])

    def _open_arrays(self, names: ColumnNames, with_targets: bool) -> FileDataset:
        from dbp.data.numpy_files import open_arrays

        return open_arrays(names if with_targets else names._replace(targets=None), self.scale, self.shift)

    def _open_file(self, file: str, with_targets: bool) -> FileDataset:
        if file.endswith(ARRAY):
            if with_targets:
                raise UserError(
                    f"{file}: is one array; name a file for each column, such as "
                    f'{{ inputs = "x{ARRAY}", targets = "y{ARRAY}" }}'
                )
            return self._open_arrays(ColumnNames(file, None), with_targets)
        names = self.names if with_targets else self.names._replace(targets=None)
        if file.endswith(ARCHIVE):
            from dbp.data.numpy_files import open_archive

            return open_archive(file, names, self.scale, self.shift)
        if file.endswith(PARQUET):
            from dbp.data.parquet import open_parquet_data

            return open_parquet_data(file, names, self.scale, self.shift)
        from dbp.data.hdf5 import HDF5Dataset

        names.single(file)  # refuses several side by side
        found = {"targets": None, **{role: given for role, given in names._asdict().items() if given is not None}}
        return HDF5Dataset(file, **found, scale=self.scale, shift=self.shift)


def _column_of(file: str, name: str) -> Array:
    """Return a column of a file by its name there, whatever its type."""
    if file.endswith(ARCHIVE):
        from dbp.data.npz import Archive

        archive = Archive(Path(file), f"data file {file}", kinds="buifSU")
        if name not in archive.names:
            raise UserError(f"{file}: has no array {name!r}; it has {', '.join(archive.names)}")
        return archive.read(name)
    if file.endswith(PARQUET):
        from dbp.data import parquet

        return parquet.read_column(file, name)
    from dbp.data.hdf5 import read_column

    return read_column(file, name)
