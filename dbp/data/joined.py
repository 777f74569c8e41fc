"""Several files as one data set, of which few are open at a time."""

from __future__ import annotations

import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dbp.data.columns import RowReader
from dbp.data.dataset import Examples, Rows
from dbp.data.file_names import data_path
from dbp.data.mapped import FileDataset, FileLayout, open_columns
from dbp.data.meaning import Meaning
from dbp.data.ragged import Ragged, padded_length, with_masks
from dbp.errors import DataError, UserError
from dbp.types import Array

if TYPE_CHECKING:
    from dbp.data.row_names import JoinedRowNames, RowNames

PIECE_BYTES = 1 << 20  # of a unit in a file whose rows lie in one piece, if those of another file lie in chunks
SPARE_DESCRIPTORS = 256  # of a process, for all but its data

Opener = Callable[[str], FileDataset]
Files = Sequence[tuple[int, Array | None]]  # the rows of each file, and the borders of its units


class ColumnForm(NamedTuple):
    """The type and shape of a column of several files.

    Args:
        dtype: of its numbers.
        shape: over all files; rows come first.
        borders: the first row of each unit of rows that are stored together, and the number of rows; None if the rows
            of each file lie in one piece.
        offsets: where the values of each row begin, and their number over all files, if rows have unequal lengths.
        values: where those of each file begin, and their number, likewise.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    borders: Array | None
    offsets: Array | None = None
    values: Array | None = None


class JoinedLayout(NamedTuple):
    """What a process needs to know of several files in order to open each when its rows are needed.

    Args:
        files: their names.
        starts: the first row of each, and the number of rows of all.
        layouts: the positions of the columns in each file; None where these are read through HDF5.
        columns: the columns by name.
        meaning: of all files.
        row_names: the names of the examples in each file; empty if not all files have them.
    """

    files: Sequence[str]
    starts: Array
    layouts: Sequence[FileLayout | None]
    columns: Mapping[str, ColumnForm]
    meaning: Meaning
    row_names: Sequence[RowNames | JoinedRowNames] = ()


def join(name: str, files: Sequence[str], opener: Opener) -> JoinedDataset:
    """Return the data set of several files, each of which is opened once to see what it holds.

    Args:
        name: of the data set, for messages.
        files: names of files.
        opener: opens one of them.

    Raises:
        UserError: a file breaks a rule, or does not go with the first one; names the file.
    """
    layouts: list[FileLayout | None] = []
    parts: dict[str, list[tuple[int, Array | None]]] = {}  # by column: the rows of each file, and the borders in it
    ragged: dict[str, list[Array]] = {}  # by column: the lengths of the rows of each file
    warnings: list[str] = []
    names: list[RowNames | JoinedRowNames] = []
    first: FileDataset | None = None
    for file in files:
        opened = opener(file)
        first = first or opened
        _check_alike(first, opened)
        layouts.append(opened.layout)
        names += [opened.row_names] if opened.row_names is not None else []
        warnings += opened.warnings
        for column, reader in opened.columns.items():
            parts.setdefault(column, []).append((reader.shape[0], reader.borders))
            if isinstance(reader, Ragged):
                ragged.setdefault(column, []).append(reader.lengths)
        if opened is not first:
            del opened  # which closes it
    assert first is not None
    columns = {
        column: _ragged_form(reader, ragged[column], parts[column])
        if column in ragged
        else _form(reader, parts[column])
        for column, reader in first.columns.items()
    }
    starts = np.cumsum([0, *(rows for rows, _ in next(iter(parts.values())))])
    names = names if len(names) == len(files) else []
    return JoinedDataset(name, JoinedLayout(files, starts, layouts, columns, first.meaning, names), opener, warnings)


def _check_alike(first: FileDataset, other: FileDataset) -> None:
    """Raise UserError unless a file has the columns of the first one, of the same type, shape and meaning."""
    mine, expected = (_features(data) for data in (other, first))
    for what in mine | expected:
        if mine.get(what) != expected.get(what):
            here, there = (features.get(what, "none") for features in (mine, expected))
            raise UserError(
                f"{other.name}: {what} is {here}, but {there} in {first.name}; the files of one data set must be "
                f"alike: {_how_to_make_alike(what, first.name, other.name)}"
            )


def _how_to_make_alike(what: str, first: str, other: str) -> str:
    """Return what makes one data set of two files that differ in one feature."""
    if "shape" in what or not any(name.endswith((".h5", ".hdf5")) for name in (first, other)):
        return "write them alike, or leave this one out"
    return f"make one file of them with: dbp convert hdf5 {first} {other} all.h5; or leave this one out"


def _features(data: FileDataset) -> dict[str, str]:
    """Return what must be the same in all files of a data set, by its name in messages."""
    features = {}
    for column, reader in data.columns.items():
        features[f"the type of {column}"] = str(reader.dtype)
        features[f"the shape of an example of {column}"] = str(_example_shape(reader))
        if column in data.meaning:
            features[f"the meaning of {column}"] = data.meaning[column].in_full()
    return features


def _example_shape(reader: RowReader) -> tuple[int | None, ...]:
    """Return the shape of an example of a column; None for a length that is not the same for all."""
    return (None, *reader.shape[2:]) if isinstance(reader, Ragged) else reader.shape[1:]


def _ragged_form(first: RowReader, lengths: Sequence[Array], parts: Files) -> ColumnForm:
    joined = np.concatenate(lengths)
    shape = len(joined), padded_length(int(joined.max())), *first.shape[2:]
    offsets = np.concatenate([[0], np.cumsum(joined)])
    values = np.cumsum([0, *(part.sum() for part in lengths)])
    value_bytes = first.dtype.itemsize * int(np.prod(first.shape[2:], dtype=int))
    borders = _borders(parts, int(value_bytes * offsets[-1] / len(joined)))
    return ColumnForm(first.dtype, shape, borders, offsets, values)


def _form(first: RowReader, parts: Files) -> ColumnForm:
    shape = (sum(rows for rows, _ in parts), *first.shape[1:])
    return ColumnForm(first.dtype, shape, _borders(parts, first.dtype.itemsize * int(np.prod(first.shape[1:]))))


def _borders(parts: Files, row_bytes: int) -> Array | None:
    """Return the borders of the units of all files, of which those in one piece are cut; None if all are."""
    if all(borders is None for _, borders in parts):
        return None
    found, start = [], 0
    for rows, borders in parts:
        inside = np.arange(0, rows, max(1, PIECE_BYTES // max(1, row_bytes))) if borders is None else borders[:-1]
        found.append(start + inside)
        start += rows
    return np.concatenate([*found, [start]])


class OpenParts:
    """The readers of the columns of several files; those of the files that were used last are kept open.

    Args:
        layout: of the files.
        opener: opens a file through HDF5.
    """

    def __init__(self, layout: JoinedLayout, opener: Opener):
        self.layout, self._opener = layout, opener
        self._open: OrderedDict[int, Mapping[str, RowReader]] = OrderedDict()
        self._most = _most_open(len(layout.files), len(layout.columns))
        self._lock = threading.Lock()  # a thread may read ahead

    def __getitem__(self, part: int) -> Mapping[str, RowReader]:
        """Return the columns of a file by name; raise DataError if it is another file than at the start."""
        with self._lock:
            if part not in self._open:
                while len(self._open) >= self._most:
                    self._open.popitem(last=False)
                self._open[part] = self._opened(part)
            self._open.move_to_end(part)
            return self._open[part]

    def _opened(self, part: int) -> Mapping[str, RowReader]:
        name, layout = self.layout.files[part], self.layout.layouts[part]
        path, rows = data_path(name), int(self.layout.starts[part + 1] - self.layout.starts[part])
        columns: Mapping[str, RowReader]
        columns = open_columns(path, layout.columns) if layout and layout.fits(path) else self._opener(name).columns
        for column, form in self.layout.columns.items():
            shape = form.shape[1:] if form.offsets is None else (None, *form.shape[2:])
            found = columns.get(column)
            if found is None or (found.dtype, found.shape[0], _example_shape(found)) != (form.dtype, rows, shape):
                raise DataError(f"data file {path}: has changed since the start; restore the file and start again")
        return columns


def _most_open(files: int, columns: int) -> int:
    """Return how many files may be open at a time; raise the limit of this process if it is lower than it needs be."""
    each = columns + 2
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SPARE_DESCRIPTORS + 4 * files * each
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        if most > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return files if soft == resource.RLIM_INFINITY else max(4, min(files, soft // 4 // each))  # there may be three sets


class JoinedColumn:
    """A column of several files.

    Args:
        parts: the files.
        name: of the column.
    """

    def __init__(self, parts: OpenParts, name: str):
        self._parts, self._name = parts, name
        self.dtype, self.shape, self.borders = parts.layout.columns[name][:3]

    def read(self, rows: Rows) -> Array:
        """Read rows as they are stored; raise DataError, naming file and rows, if they cannot be read."""
        return read_parts(self._parts, [self._name], rows)[self._name]

    def read_into(self, rows: range, into: Array) -> None:
        """Read consecutive rows into a contiguous array of their shape and type; other threads may read meanwhile."""
        for part, indices, inside in _consecutive(self._parts.layout.starts, rows):
            self._parts[part][self._name].read_into(inside, into[indices])


class JoinedValues:
    """The values of a column of several files whose rows have unequal lengths.

    Args:
        parts: the files.
        name: of the column.
    """

    def __init__(self, parts: OpenParts, name: str):
        form = parts.layout.columns[name]
        assert form.values is not None
        self._parts, self._name, self._starts = parts, name, form.values
        self.dtype, self.shape = form.dtype, (int(form.values[-1]), *form.shape[2:])

    def read(self, indices: Rows) -> Array:
        """Read the values at some indices; raise DataError, naming the file, if they cannot be read."""
        count = range(*indices.indices(self.shape[0])) if isinstance(indices, slice) else indices
        values = np.empty((len(count), *self.shape[1:]), self.dtype)
        for part, at, inside in _by_part(self._starts, count):
            values[at] = self._column(part).read_values(inside)
        return values

    def read_into(self, indices: range, into: Array) -> None:
        """Read the values of consecutive indices into an array; other threads may read meanwhile."""
        for part, at, inside in _consecutive(self._starts, indices):
            self._column(part).read_values_into(inside, into[at])

    def _column(self, part: int) -> Ragged:
        column = self._parts[part][self._name]
        assert isinstance(column, Ragged)
        return column


def _joined(parts: OpenParts, name: str) -> JoinedColumn | Ragged:
    form = parts.layout.columns[name]
    if form.offsets is None:
        return JoinedColumn(parts, name)
    return Ragged(JoinedValues(parts, name), form.offsets, name, form.borders)


class JoinedDataset(FileDataset):
    """Examples in several files.

    Args:
        name: for messages.
        layout: of the files.
        opener: opens a file through HDF5.
        warnings: what the user should know of the data before they are used.
    """

    def __init__(self, name: str, layout: JoinedLayout, opener: Opener, warnings: Sequence[str] = ()):
        self.joined, self._parts = layout, OpenParts(layout, opener)
        columns: dict[str, RowReader] = {column: _joined(self._parts, column) for column in layout.columns}
        super().__init__(name, columns, layout.meaning, warnings)
        if layout.row_names:
            from dbp.data.row_names import JoinedRowNames  # which imports HDF5

            self.row_names = JoinedRowNames(layout.row_names, layout.starts)

    def paths(self) -> list[Path]:
        """Return its files."""
        return [data_path(name) for name in self.joined.files]

    def read(self, rows: Rows) -> Examples:
        """Read rows as they are stored; raise DataError, naming file and rows, if they cannot be read."""
        ragged = {name: column.read(rows) for name, column in self.columns.items() if isinstance(column, Ragged)}
        found = read_parts(self._parts, [name for name in self.columns if name not in ragged], rows)
        in_order = {name: ragged[name] if name in ragged else found[name] for name in self.columns}
        return Examples(with_masks(self.columns, in_order, rows))

    def pieces(self, rows: range) -> Iterator[tuple[str, int, slice]]:
        """Yield each file that consecutive rows lie in, as pieces_of() returns them."""
        for part, indices, inside in _consecutive(self.joined.starts, rows):
            yield self.joined.files[part], inside.start, indices


def _consecutive(starts: Array, rows: range) -> Iterator[tuple[int, slice, range]]:
    """Yield each file that consecutive rows lie in, with their indices among the rows and their numbers in the file."""
    at = rows.start
    while at < rows.stop:
        part = int(np.searchsorted(starts, at, side="right")) - 1
        start, stop = int(starts[part]), min(rows.stop, int(starts[part + 1]))
        yield part, slice(at - rows.start, stop - rows.start), range(at - start, stop - start)
        at = stop


def read_parts(parts: OpenParts, names: Sequence[str], rows: Rows) -> dict[str, Array]:
    """Return rows of some columns of several files, each of which is opened once."""
    starts, forms = parts.layout.starts, parts.layout.columns
    count = range(*rows.indices(int(starts[-1]))) if isinstance(rows, slice) else rows
    values = {name: np.empty((len(count), *forms[name].shape[1:]), forms[name].dtype) for name in names}
    for part, indices, inside in _by_part(starts, count):
        for name in names:
            values[name][indices] = parts[part][name].read(inside)
    return values


def _by_part(starts: Array, rows: range | Array) -> Iterator[tuple[int, Rows, Rows]]:
    """Yield each file that rows lie in, with their indices among the rows and their numbers in the file."""
    if isinstance(rows, range):
        yield from (
            (part, indices, slice(inside.start, inside.stop)) for part, indices, inside in _consecutive(starts, rows)
        )
        return
    found = np.searchsorted(starts, rows, side="right") - 1
    order = np.argsort(found, kind="stable")
    for indices in np.split(order, np.flatnonzero(np.diff(found[order])) + 1) if len(rows) else ():
        part = int(found[indices[0]])
        yield part, indices, rows[indices] - starts[part]
