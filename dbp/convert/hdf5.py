"""Read data sets of HDF5 files, one after the other, in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.convert.content import Block, Content, row_bytes, rows_per_block
from dbp.data.aligned import aligned, meaning_of
from dbp.data.columns import ColumnNames
from dbp.data.completeness import reading_hdf5
from dbp.data.dataset import Dataset, role_of
from dbp.data.file_names import data_path, expand, split_group
from dbp.data.hdf5 import HDF5Dataset, kept_column, open_hdf5
from dbp.data.hdf5_column import HDF5Column, names_of_data_sets
from dbp.data.meaning import Meaning
from dbp.data.ragged import Ragged
from dbp.data.row_names import SINGULAR, RowNames
from dbp.errors import UserError
from dbp.types import Array

ATTRIBUTES = ("scale", "shift", "names", "classes", "units")  # attributes of columns


class Source(NamedTuple):
    """A file, or a group in it.

    Args:
        name: as the user gave it.
        columns: the names of its columns; None for those that it does not have.
        kept: the names of columns that no model sees.
    """

    name: str
    columns: ColumnNames
    kept: tuple[str, ...] = ()

    def open(self, reference: Meaning | None) -> Dataset:
        """Return the data set, in the order of the names of the first source."""
        columns: dict[str, Any] = {"targets": None, **self.columns.single(self.name)}
        data = HDF5Dataset(self.name, **columns)
        if ragged := [name for name, column in data.columns.items() if isinstance(column, Ragged)]:
            raise UserError(
                f"{self.name}: rows of {ragged[0]} have unequal lengths, which cannot be converted; name the files in "
                "the config, where a part may have several"
            )
        if reference is None:
            return data
        return aligned(data, reference, lambda *_: "give all files the same kind of numbers and the same scale")


def from_hdf5(names: Sequence[str], columns: ColumnNames, keep: Sequence[str] = ()) -> Content:
    """Return the data set in files or groups of files, one after the other.

    Columns and classes are brought into the order of the first one by their names.

    Args:
        names: files, groups such as all.h5:/train, and patterns such as part-*.h5.
        columns: the names of the columns; None for targets, weights and mask that are called so, if there are any.
        keep: the names of columns that no model sees, such as groups, which are copied as they are.

    Raises:
        UserError: a file is missing, or the columns do not fit together.
        DataError: a file is damaged.
    """
    sources = [_source(name, columns, tuple(keep)) for name in expand(names)]
    reference: Meaning | None = None
    heads: list[Block] = []
    warnings: list[str] = []
    count = 0
    for source in sources:
        data = source.open(reference)
        reference = reference or meaning_of(data)
        heads.append(_read(data, _kept(source, len(data)), slice(0, 1)))
        warnings += getattr(data, "warnings", ())
        count += len(data)
        _check_like(source.name, heads[-1], sources[0].name, heads[0])
    assert reference is not None
    dtypes = {column: np.result_type(*(head[column].dtype for head in heads)) for column in heads[0]}
    notes, files = list(dict.fromkeys(warnings)), [data_path(source.name) for source in sources]
    return Content(_blocks(sources, reference, dtypes), count, _attributes(sources[0], reference), notes, files)


def _source(name: str, columns: ColumnNames, keep: tuple[str, ...]) -> Source:
    """Return a source, with those columns that it has; raise UserError if one is missing that was named."""
    group = split_group(name)[1].strip("/")
    with open_hdf5(data_path(name)) as file, reading_hdf5(name):
        found = {}
        for role, given in columns._asdict().items():
            path = "/".join(filter(None, [group, given or role]))
            if role == "offsets":  # rows of unequal length are refused
                continue
            if path in file:
                found[role] = given or role
            elif given is not None:
                raise UserError(
                    f"{name}: has no data set {path!r}; it has {names_of_data_sets(file)}: name the right {role} with "
                    f"--{role}"
                )
    return Source(name, ColumnNames(**{role: found.get(role) for role in columns._fields}), keep)


def _kept(source: Source, count: int) -> Mapping[str, HDF5Column | RowNames]:
    """Return the columns of a source that no model sees; raise UserError unless they have one row per example."""
    found = {name: kept_column(source.name, name) for name in source.kept}
    for name, column in found.items():
        if role_of(name) in {*ColumnNames._fields, *SINGULAR} or "/" in name:
            raise UserError(f"{source.name}: no data set can be called {name!r} beside the inputs; rename it")
        if (rows := len(column) if isinstance(column, RowNames) else column.shape[:1] and column.shape[0]) != count:
            raise UserError(f"{source.name}: {name!r} must have one row per example, {count:,}, but has {rows or 0:,}")
    return found


def _check_like(name: str, head: Block, first_name: str, first: Block) -> None:
    for column in {**first, **head}:
        shapes = [found[column].shape[1:] if column in found else "missing" for found in (head, first)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{name}: an example of {column} has shape {shapes[0]}, but in {first_name} it has {shapes[1]}; files "
                "that become one need the same columns"
            )


def _attributes(source: Source, meaning: Meaning) -> dict[str, dict[str, Any]]:
    """Return the attributes of the new file: what its columns mean, and the coding of the table that they come from."""
    attributes: dict[str, dict[str, Any]] = {"/": {}}
    with open_hdf5(data_path(source.name)) as file, reading_hdf5(source.name):
        if isinstance(text := file.attrs.get("table"), str):
            attributes["/"]["table"] = text
    for column, what in meaning.items():
        found = {key: value for key, value in what._asdict().items() if key in ATTRIBUTES and value is not None}
        attributes[column] = {key: _attribute(value) for key, value in found.items()}
    return attributes


def _attribute(value: Any) -> Any:
    """Return a value as an attribute: texts as they are, numbers as an array."""
    is_numbers = isinstance(value, tuple) and value and not isinstance(value[0], str)
    return np.array(value) if is_numbers else value


def _blocks(sources: Sequence[Source], reference: Meaning, dtypes: dict[str, Any]) -> Iterator[Block]:
    for number, source in enumerate(sources):
        data = source.open(reference if number else None)
        kept = _kept(source, len(data))
        head = _read(data, kept, slice(0, 1))
        rows = rows_per_block(*(row_bytes(values.shape, values.dtype) for values in head.values()))
        for first in range(0, len(data), rows):
            block = _read(data, kept, slice(first, min(first + rows, len(data))))
            yield {column: values.astype(dtypes[column], copy=False) for column, values in block.items()}


def _read(data: Dataset, kept: Mapping[str, HDF5Column | RowNames], rows: slice) -> dict[str, Array]:
    """Return rows of all columns, of those that are kept, and the names of the examples, if there are any."""
    columns = {column: np.asarray(values) for column, values in data.read(rows).items()}
    columns |= {name: column.read(rows) for name, column in kept.items()}
    names = getattr(data, "row_names", None)
    return columns if names is None else {**columns, names.label: names.read(rows)}
