"""Read data sets of HDF5 files, one after the other, in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dbp.convert.content import Block, Content, row_bytes, rows_per_block
from dbp.data.aligned import aligned, meaning_of
from dbp.data.completeness import reading_hdf5
from dbp.data.dataset import Dataset
from dbp.data.hdf5 import HDF5Dataset, names_of_data_sets, open_hdf5
from dbp.data.meaning import Meaning
from dbp.errors import UserError
from dbp.types import Array

KEPT = ("scale", "shift", "units")  # attributes of a column that are kept besides its names


class ColumnNames(NamedTuple):
    """The names of columns in a file.

    Args:
        inputs: that of inputs.
        targets: that of targets; None for "targets" if there are any.
        weights: that of weights; None for "weights" if there are any.
    """

    inputs: str = "inputs"
    targets: str | None = None
    weights: str | None = None


class Source(NamedTuple):
    """A file, or a group in it, with the names of its columns.

    Args:
        name: as the user gave it.
        path: the file.
        names: of its columns by their role, with that of the group.
    """

    name: str
    path: Path
    names: dict[str, str]

    def open(self) -> HDF5Dataset:
        """Return the data set."""
        names = self.names
        return HDF5Dataset(self.path, names["inputs"], names.get("targets"), names.get("weights"))


def file_of(source: str) -> Path:
    """Return the file of a source such as all.h5:/train."""
    name, colon, _ = source.rpartition(":/")
    return Path(name) if colon and not Path(source).exists() else Path(source)


def from_hdf5(sources: Sequence[str], names: ColumnNames) -> Content:
    """Return the data set in files or groups of files, one after the other.

    Columns and classes are brought into the order of the first one by their names.

    Args:
        sources: files, or groups such as all.h5:/train.
        names: those of the columns.

    Raises:
        UserError: a file is missing, or the columns do not fit together.
        DataError: a file is damaged.
    """
    found = [_source(source, names) for source in sources]
    reference: Meaning | None = None
    heads: list[dict[str, Any]] = []
    warnings: list[str] = []
    count = 0
    for source in found:
        data = _aligned(source, reference)
        reference = reference or meaning_of(data)
        heads.append(_read(data, slice(0, 1)))
        warnings += getattr(data, "warnings", ())
        count += len(data)
        _check_like(source.name, heads[-1], found[0].name, heads[0])
    assert reference is not None
    dtypes = {column: np.result_type(*(head[column].dtype for head in heads)) for column in heads[0]}
    attributes = _attributes(found[0], reference)
    notes, files = list(dict.fromkeys(warnings)), [source.path for source in found]
    return Content(_blocks(found, reference, dtypes), count, attributes, notes, files)


def _source(source: str, names: ColumnNames) -> Source:
    path = file_of(source)
    group = source[len(str(path)) + 2 :].strip("/") if str(path) != source else ""
    at = {role: f"{group}/{name}".lstrip("/") for role, name in zip(names._fields, names, strict=True) if name}
    with open_hdf5(path) as file, reading_hdf5(source):
        for role, name in at.items():
            if name not in file:
                raise UserError(
                    f"{source}: has no data set {name!r}; it has {names_of_data_sets(file)}: name the right {role} "
                    f"with --{role}"
                )
        for role in ("targets", "weights"):
            if role not in at and (default := f"{group}/{role}".lstrip("/")) in file:
                at[role] = default
    return Source(source, path, at)


def _aligned(source: Source, reference: Meaning | None) -> Dataset:
    data = source.open()
    if reference is None:
        return data
    return aligned(data, reference, lambda *_: "give all files the same kind of numbers and the same scale")


def _check_like(name: str, head: dict[str, Any], first_name: str, first: dict[str, Any]) -> None:
    for column in {**first, **head}:
        shapes = [found[column].shape[1:] if column in found else "missing" for found in (head, first)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{name}: an example of {column} has shape {shapes[0]}, but in {first_name} it has {shapes[1]}; files "
                "that become one need the same columns"
            )


def _attributes(source: Source, meaning: Meaning) -> dict[str, dict[str, Any]]:
    attributes: dict[str, dict[str, Any]] = {"/": {}}
    with open_hdf5(source.path) as file, reading_hdf5(source.name):
        if isinstance(text := file.attrs.get("table"), str):
            attributes["/"]["table"] = text
        for column, name in source.names.items():
            kept = {key: file[name].attrs[key] for key in KEPT if key in file[name].attrs}
            attributes[column] = {key: value for key, value in kept.items() if np.size(value)}
    for column, what in meaning.items():
        names = {"names": what.names, "classes": what.classes}
        attributes[column].update({key: value for key, value in names.items() if value is not None})
    return attributes


def _blocks(sources: Sequence[Source], reference: Meaning, dtypes: dict[str, Any]) -> Iterator[Block]:
    for number, source in enumerate(sources):
        data = _aligned(source, reference if number else None)
        head = _read(data, slice(0, 1))
        rows = rows_per_block(*(row_bytes(values.shape, values.dtype) for values in head.values()))
        for first in range(0, len(data), rows):
            block = _read(data, slice(first, min(first + rows, len(data))))
            yield {column: values.astype(dtypes[column], copy=False) for column, values in block.items()}


def _read(data: Dataset, rows: slice) -> dict[str, Array]:
    """Return rows of all columns, and the names of the files that the examples come from, if there are any."""
    columns = {column: np.asarray(values) for column, values in data.read(rows).items()}
    names = getattr(data, "row_names", None)
    return columns if names is None else {**columns, names.label: names.read(rows)}
