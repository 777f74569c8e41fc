"""Data sets in Parquet files, read as they are: row groups are the units of rows that are stored together."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dbp.data.columns import ColumnNames, RowReader, plain_meaning
from dbp.data.dataset import Rows, role_of
from dbp.data.mapped import FileDataset, as_boolean
from dbp.data.meaning import listed
from dbp.data.open_file import rows_text
from dbp.errors import DataError, UserError
from dbp.files import reading_from
from dbp.library import library
from dbp.plain_files import check_is_file
from dbp.text import count_text, size
from dbp.types import Array

MOST_GROUP_BYTES = 1 << 28  # of the numbers of a column in a row group, which are in memory at a time


@contextmanager
def reading_parquet(path: Path, kind: type[UserError] = UserError, what: str = "") -> Iterator[None]:
    """Raise an error of one kind in place of all that pyarrow raises for damaged files, and others for odd ones.

    Args:
        path: the file.
        kind: of the error.
        what: what of the file is read, in words; nothing for all of it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # one without a number is of damage
            with reading_from(path):
                raise
        reason = " ".join(str(error).split())[:200]
        raise kind(f"{path}{what and f': {what}'} cannot be read as a Parquet file: {reason}") from None


def open_parquet(path: Path) -> Any:
    """Return the pyarrow.parquet.ParquetFile; raise UserError if it is missing or damaged, or without pyarrow."""
    parquet = library("pyarrow.parquet", "a Parquet file")
    with reading_from(path):
        check_is_file(path, str(path))
    with reading_parquet(path):
        return parquet.ParquetFile(path, memory_map=False, pre_buffer=False)


class ParquetSource:
    """A Parquet file of which columns are read, a row group at a time. Several threads may read.

    Args:
        path: the file.

    Raises:
        UserError: it is missing or damaged, or pyarrow is not installed.
    """

    def __init__(self, path: Path):
        self.path = path
        self.types = library("pyarrow", "a Parquet file").types
        self._file, self._lock = open_parquet(path), threading.Lock()
        with reading_parquet(path):
            self.schema, metadata = self._file.schema_arrow, self._file.metadata
            counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        if min(counts, default=0) < 0:
            raise DataError(f"{path}: damaged: a row group would have {min(counts):,} rows")
        self.groups = np.flatnonzero(counts)  # those that have rows
        self.borders = np.cumsum([0, *np.array(counts, np.int64)[self.groups]])

    @property
    def names(self) -> list[str]:
        """Return the names of its columns."""
        return list(self.schema.names)

    def type_of(self, name: str, role: str) -> Any:
        """Return the type of a column; raise UserError unless there is one of this name."""
        if self.names.count(name) != 1:
            found = "no column" if name not in self.names else count_text(self.names.count(name), "column")
            raise UserError(
                f"{self.path}: has {found} {name!r} for the {role}; it has {listed(self.names)}: name the right ones "
                'in [data], such as inputs = ["age", "size"] and targets = "kind"'
            )
        return self.schema.field(name).type

    @cached_property
    def _missing(self) -> Mapping[str, int]:
        """Return the number of missing values by the path of each column, as far as the file says so."""
        found: Counter[str] = Counter()
        with reading_parquet(self.path):
            for group in map(self._file.metadata.row_group, self.groups.tolist()):
                for column in map(group.column, range(group.num_columns)):
                    statistics = column.statistics if column.is_stats_set else None
                    if statistics is not None and statistics.has_null_count:
                        found[column.path_in_schema] += statistics.null_count
        return found

    def missing(self, name: str) -> int:
        """Return the number of missing values of a column, as far as the file says so; lists without values count."""
        inside = f"{name}."  # the beginning of the path of the values in lists
        return sum(
            count
            for path, count in self._missing.items()
            if path == name or (path.startswith(inside) and path not in self.names)
        )

    def first_row(self, name: str) -> Any:
        """Return the first row of a column, as an array of pyarrow."""
        with reading_parquet(self.path, DataError, repr(name)), self._lock:
            batches = self._file.iter_batches(1, row_groups=[int(self.groups[0])], columns=[name], use_threads=False)
            return next(batches).column(name)

    def read_group(self, number: int, name: str) -> Any:
        """Return a column of one of the row groups that have rows, as an array of pyarrow."""
        rows = rows_text(range(int(self.borders[number]), int(self.borders[number + 1])))
        with reading_parquet(self.path, DataError, f"{name!r} of {rows}"), self._lock:
            found = self._file.read_row_group(int(self.groups[number]), columns=[name], use_threads=False)
            column = found.column(name).combine_chunks()
        if len(column) != (expected := int(self.borders[number + 1] - self.borders[number])):
            raise DataError(
                f"{self.path}: damaged: {name!r} of {rows} has {count_text(len(column), 'row')}, not {expected:,}"
            )
        return column

    def read_column(self, name: str) -> Array:
        """Return all of a column of numbers or texts."""
        kind = self.type_of(name, "groups or the weights for drawing")
        with reading_parquet(self.path, DataError, repr(name)), self._lock:
            found = self._file.read(columns=[name], use_threads=False).column(name)
            if self.types.is_dictionary(kind):
                found, kind = found.cast(kind.value_type), kind.value_type
            if found.null_count:
                raise UserError(f"{self.path}: {name!r} has {found.null_count:,} missing values; write them")
            are_texts = self.types.is_string(kind) or self.types.is_large_string(kind)
            return np.array(found.to_pylist(), np.str_) if are_texts else np.asarray(found.to_numpy())


class ParquetColumn:
    """Columns of a Parquet file, side by side: one for each number, or lists of one length.

    It keeps the row group that it has read last, as rows in order share it, until the last of them is read.

    Args:
        source: the file.
        role: what the column is, such as "inputs".
        names: of the columns in the file.
        is_vector: whether one column of numbers is a vector of length 1 rather than a number.

    Raises:
        UserError: a column is missing or of a type that is no number.
    """

    def __init__(self, source: ParquetSource, role: str, names: Sequence[str], is_vector: bool):
        self._source, self._role, self._names = source, role, names
        self._shapes = [_shape_of(source, name, role) for name in names]
        dtypes = [_dtype_of(source, name, role) for name in names]
        self.dtype = np.result_type(*dtypes)
        joined = _joined_shape(source, role, dict(zip(names, self._shapes, strict=True)))
        is_number = joined == (1,) and self._shapes == [()] and not is_vector
        self.shape = (int(source.borders[-1]), *(() if is_number else joined))
        self.borders: Array | None = source.borders
        self._kept: tuple[int, Array] | None = None
        self._lock = threading.Lock()
        self._check_groups()

    def _check_groups(self) -> None:
        """Raise UserError if values are missing, or if a row group is too large to be read at once."""
        for name, shape in zip(self._names, self._shapes, strict=True):
            if count := self._source.missing(name):
                convert = f"{_how_to_convert(self._source.path)} --missing mean, or with another rule"
                raise UserError(
                    f"{self._source.path}: {self._role} {name!r} has {count_text(count, 'missing value')}; "
                    f"{'write numbers, or leave the column out' if shape else convert}"
                )
        largest = int(np.diff(self._source.borders).max())
        needed = largest * self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=int))
        if needed > MOST_GROUP_BYTES:
            raise UserError(
                f"{self._source.path}: a row group of {self._role} takes {size(needed)}, and at most "
                f"{size(MOST_GROUP_BYTES)} are read at once; write smaller ones, such as with the argument "
                f"row_group_size of pyarrow and pandas, or {_how_to_convert(self._source.path)}"
            )

    @property
    def element_names(self) -> tuple[str, ...] | None:
        """Return the names of the elements along the last axis; None for those of a list alone."""
        if len(self._names) == 1 and self._shapes[0]:
            return None
        return tuple(
            f"{name}.{index}" if shape else name
            for name, shape in zip(self._names, self._shapes, strict=True)
            for index in range(shape[0] if shape else 1)
        )

    def read(self, rows: Rows) -> Array:
        """Read rows as they are stored; raise DataError, naming file and rows, if they cannot be read."""
        chosen = np.arange(*rows.indices(self.shape[0])) if isinstance(rows, slice) else np.asarray(rows)
        borders = self._source.borders
        groups = np.searchsorted(borders, chosen, side="right") - 1
        values = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        for group in np.unique(groups).tolist():
            indices = np.flatnonzero(groups == group)
            is_last = isinstance(rows, slice) and int(chosen[indices[-1]]) + 1 == int(borders[group + 1])
            values[indices] = self._group(group, is_last)[chosen[indices] - borders[group]]
        return values

    def read_into(self, rows: range, into: Array) -> None:
        """Read consecutive rows into a contiguous array of their shape and type; other threads may read meanwhile."""
        group = int(np.searchsorted(self._source.borders, rows.start, side="right")) - 1
        if (rows.start, rows.stop) != tuple(self._source.borders[group : group + 2]):
            into[...] = self.read(slice(rows.start, rows.stop))
            return
        with self._lock:
            self._kept = None  # those that read whole row groups read no single rows
        self._fill(group, into)

    def _group(self, group: int, is_last: bool) -> Array:
        """Return the rows of a row group, read now or before.

        Args:
            group: its number.
            is_last: whether its last row is read, after which it is not kept.
        """
        with self._lock:
            kept = self._kept
        if kept is None or kept[0] != group:
            rows = int(self._source.borders[group + 1] - self._source.borders[group])
            kept = group, np.empty((rows, *self.shape[1:]), self.dtype)
            self._fill(*kept)
        with self._lock:
            self._kept = None if is_last else kept
        return kept[1]

    def _fill(self, group: int, into: Array) -> None:
        """Read a row group into an array of its shape."""
        first = int(self._source.borders[group])
        start = 0
        for name, shape in zip(self._names, self._shapes, strict=True):
            numbers = self._numbers(self._source.read_group(group, name), name, shape, first)
            if len(self._names) == 1:
                into[...] = numbers.reshape(into.shape)
                return
            width = shape[0] if shape else 1
            into[:, start : start + width] = numbers.reshape(len(into), width)
            start += width

    def _numbers(self, array: Any, name: str, shape: tuple[int, ...], first: int) -> Array:
        """Return an array of pyarrow as one of NumPy; raise DataError for missing values and lists of other lengths."""
        rows, per_row = len(array), 1
        for width in (*shape, None):
            if array.null_count:
                row = first + array.is_null().to_pylist().index(True) // per_row
                raise DataError(f"{self._source.path}: {self._role} {name!r} of example {row} has a missing value")
            if width is None:
                break
            lengths = _lengths(array, self._source.types)
            if (wrong := lengths != width).any():
                index = int(wrong.argmax())
                raise DataError(
                    f"{self._source.path}: {self._role} {name!r} of example {first + index // per_row} has "
                    f"{count_text(int(lengths[index]), 'number')} in a list, but that of example 0 has {width}; write "
                    "rows of unequal length with dbp.convert.write_blocks"
                )
            array, per_row = array.flatten(), per_row * width
        return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(rows, *shape)


def open_parquet_data(path: str, names: ColumnNames, scale: Any, shift: Any) -> FileDataset:
    """Return the data set in a Parquet file.

    Args:
        path: the file.
        names: of its columns; those of inputs and of targets may be several. Those that are None are left out, but for
            weights, which are taken if there are any.
        scale: factor on the inputs, if any.
        shift: what is added to them then, if anything.

    Raises:
        UserError: the file is damaged, or a column is missing or breaks a rule.
    """
    source = ParquetSource(Path(path))
    if names.offsets is not None:
        raise UserError(f"{path}: data.offsets needs HDF5 files; write one with dbp.convert.write_blocks")
    wanted = names.by_column()
    if not any(role_of(column) == "weights" for column in wanted) and "weights" in source.names:
        wanted["weights"] = "weights"
    if not source.borders[-1]:
        raise UserError(f"{path}: has no examples")
    several = {role: [name] if isinstance(name, str) else name for role, name in wanted.items()}
    found = {
        role: ParquetColumn(source, role, given, role_of(role) == "inputs" or not isinstance(wanted[role], str))
        for role, given in several.items()
    }
    columns: dict[str, RowReader] = {role: as_boolean(role, column, path) for role, column in found.items()}
    meaning = plain_meaning(path, columns, scale, shift)
    named = {role: what._replace(names=found[role].element_names) for role, what in meaning.items() if role in found}
    return FileDataset(path, columns, {**meaning, **named})


def read_column(path: str, name: str) -> Array:
    """Return a column of a Parquet file, of numbers or texts."""
    return ParquetSource(Path(path)).read_column(name)


def _how_to_convert(path: Path) -> str:
    return f"make a data file of it with: dbp convert parquet {path} {path.with_suffix('.h5')}"


def _inner(kind: Any, types: Any) -> Any:
    """Return the type of the elements of a list, or None for what is no list."""
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return kind.value_type if is_list else None


def _dtype_of(source: ParquetSource, name: str, role: str) -> np.dtype[Any]:
    """Return the type of the numbers of a column; raise UserError if it has none."""
    kind, types = source.type_of(name, role), source.types
    whole = kind
    while (inner := _inner(kind, types)) is not None:
        kind = inner
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        found: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        return found
    is_coded = types.is_dictionary(kind) or types.is_string(kind) or types.is_large_string(kind)
    is_date = types.is_date(kind) or types.is_timestamp(kind) or types.is_decimal(kind)
    remedy = _how_to_convert(source.path) if whole is kind and (is_coded or is_date) else "leave the column out"
    raise UserError(f"{source.path}: {role} {name!r} has values of type {whole}, but needs numbers; {remedy}")


def _shape_of(source: ParquetSource, name: str, role: str) -> tuple[int, ...]:
    """Return the shape of a row of a column, as its first row has it: () for numbers."""
    kind, shape = source.type_of(name, role), []
    array: Any = source.first_row(name) if _inner(kind, source.types) is not None else None
    while (inner := _inner(kind, source.types)) is not None:
        if not len(array) or array.null_count:
            raise UserError(f"{source.path}: {role} {name!r} of example 0 has a missing value; leave the column out")
        shape.append(int(_lengths(array[:1], source.types)[0]))
        kind, array = inner, array.flatten()
    return tuple(shape)


def _lengths(array: Any, types: Any) -> Array:
    """Return the lengths of the lists in an array, of which none is missing."""
    if types.is_fixed_size_list(array.type):
        return np.full(len(array), array.type.list_size)
    return np.asarray(array.value_lengths().to_numpy(zero_copy_only=False))


def _joined_shape(source: ParquetSource, role: str, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of a row of columns side by side; raise UserError for lists of lists beside others."""
    if len(shapes) == 1:
        return next(iter(shapes.values())) or (1,)
    for name, shape in shapes.items():
        if len(shape) > 1:
            raise UserError(
                f"{source.path}: {role} {name!r} has lists of shape {shape}, which no other column can stand beside; "
                "name it alone"
            )
    return (sum(shape[0] if shape else 1 for shape in shapes.values()),)
