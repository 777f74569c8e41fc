"""Read data sets of HDF5 files, one after the other, in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dbp.convert.content import Block, Content, row_bytes, rows_per_block
from dbp.data.aligned import aligned, meaning_of
from dbp.data.columns import ColumnNames
from dbp.data.completeness import reading_hdf5
from dbp.data.dataset import Dataset
from dbp.data.file_names import data_path, expand, split_group
from dbp.data.hdf5 import HDF5Dataset, open_hdf5
from dbp.data.hdf5_column import names_of_data_sets
from dbp.data.meaning import Meaning
from dbp.data.ragged import Ragged
from dbp.errors import UserError
from dbp.types import Array

KEPT = ("scale", "shift", "names", "classes", "units")  # attributes of columns


class Source(NamedTuple):
    """A file, or a group in it.

    Args:
        name: as the user gave it.
        columns: the names of its columns; None for those that it does not have.
    """

    name: str
    columns: ColumnNames

    def open(self, reference: Meaning | None) -> Dataset:
        """Return the data set, in the order of the names of the first source."""
        inputs, targets, weights, mask, _ = self.columns
        data = HDF5Dataset(self.name, inputs or "inputs", targets, weights, mask=mask)
        if ragged := [name for name, column in data.columns.items() if isinstance(column, Ragged)]:
            raise UserError(
                f"{self.name}: rows of {ragged[0]} have unequal lengths, which cannot be converted; name the files in "
                "the config, where a part may have several"
            )
        if reference is None:
            return data
        return aligned(data, reference, lambda *_: "give all files the same kind of numbers and the same scale")


def from_hdf5(names: Sequence[str], columns: ColumnNames) -> Content:
    """Return the data set in files or groups of files, one after the other.

    Columns and classes are brought into the order of the first one by their names.

    Args:
        names: files, groups such as all.h5:/train, and patterns such as part-*.h5.
        columns: the names of the columns; None for targets, weights and mask that are called so, if there are any.

    Raises:
        UserError: a file is missing, or the columns do not fit together.
        DataError: a file is damaged.
    """
    sources = [_source(name, columns) for name in expand(names)]
    reference: Meaning | None = None
    heads: list[Block] = []
    warnings: list[str] = []
    count = 0
    for source in sources:
        data = source.open(reference)
        reference = reference or meaning_of(data)
        heads.append(_read(data, slice(0, 1)))
        warnings += getattr(data, "warnings", ())
        count += len(data)
        _check_like(source.name, heads[-1], sources[0].name, heads[0])
    assert reference is not None
    dtypes = {column: np.result_type(*(head[column].dtype for head in heads)) for column in heads[0]}
    notes, files = list(dict.fromkeys(warnings)), [data_path(source.name) for source in sources]
    return Content(_blocks(sources, reference, dtypes), count, _attributes(sources[0], reference), notes, files)


def _source(name: str, columns: ColumnNames) -> Source:
    """Return a source, with those columns that it has; raise UserError if one is missing that was named."""
    group = split_group(name)[1].strip("/")
    with open_hdf5(data_path(name)) as file, reading_hdf5(name):
        found = {}
        for role, given in columns._asdict().items():
            place = "/".join(filter(None, [group, given or role]))
            if role == "offsets":  # rows of unequal length are refused
                continue
            if place in file:
                found[role] = given or role
            elif given is not None:
                raise UserError(
                    f"{name}: has no data set {place!r}; it has {names_of_data_sets(file)}: name the right {role} with "
                    f"--{role}"
                )
    return Source(name, ColumnNames(**{role: found.get(role) for role in columns._fields}))


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
        found = {key: value for key, value in what._asdict().items() if key in KEPT and value is not None}
        attributes[column] = {key: _attribute(value) for key, value in found.items()}
    return attributes


def _attribute(value: Any) -> Any:
    """Return a value as an attribute: texts as they are, numbers as an array."""
    is_numbers = isinstance(value, tuple) and value and not isinstance(value[0], str)
    return np.array(value) if is_numbers else value


def _blocks(sources: Sequence[Source], reference: Meaning, dtypes: dict[str, Any]) -> Iterator[Block]:
    for number, source in enumerate(sources):
        data = source.open(reference if number else None)
        head = _read(data, slice(0, 1))
        rows = rows_per_block(*(row_bytes(values.shape, values.dtype) for values in head.values()))
        for first in range(0, len(data), rows):
            block = _read(data, slice(first, min(first + rows, len(data))))
            yield {column: values.astype(dtypes[column], copy=False) for column, values in block.items()}


def _read(data: Dataset, rows: slice) -> dict[str, Array]:
    """Return rows of all columns, and the names of the examples, if there are any."""
    columns = {column: np.asarray(values) for column, values in data.read(rows).items()}
    names = getattr(data, "row_names", None)
    return columns if names is None else {**columns, names.label: names.read(rows)}
