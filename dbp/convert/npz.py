"""Read arrays of a NumPy archive in blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from dbp.convert.content import Block, Content, rows_per_block
from dbp.data.columns import ColumnNames
from dbp.data.meaning import listed
from dbp.data.npz import Archive
from dbp.errors import UserError


def from_npz(path: Path, columns: ColumnNames) -> Content:
    """Return the data set in an archive.

    Args:
        path: the archive.
        columns: the names of its arrays; None for targets, weights and mask that are called so, if there are any.

    Raises:
        UserError: the archive is damaged, or an array is missing or does not fit.
    """
    archive = Archive(path, str(path), "fiub")
    names = {}
    for column, given in columns._asdict().items():
        if column == "offsets":  # of rows of unequal length, which archives do not have
            continue
        if (given or column) in archive.names:
            names[column] = given or column
        elif given is not None:
            raise UserError(
                f"{path} has no array {given!r}; it has {listed(archive.names)}: "
                "name the right ones with --inputs, --targets and --weights"
            )
    shapes = {column: archive.shape(name) for column, name in names.items()}
    for shape in shapes.values():
        if shape[:1] != shapes["inputs"][:1] or not shape:
            found = ", ".join(f"{column} have shape {shape}" for column, shape in shapes.items())
            raise UserError(f"{path}: every column needs one row per example, but {found}")
    return Content(_blocks(archive, names), shapes["inputs"][0], files=(path,))


def _blocks(archive: Archive, names: Mapping[str, str]) -> Iterator[Block]:
    sizes = [math.prod(archive.shape(name)[1:]) * archive.dtype(name).itemsize for name in names.values()]
    rows = rows_per_block(*sizes)
    columns = {column: archive.blocks(name, rows) for column, name in names.items()}
    for blocks in zip(*columns.values(), strict=True):
        yield dict(zip(columns, blocks, strict=True))
