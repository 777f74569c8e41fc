"""Write a data file from blocks of rows that a program makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dbp.convert.content import Block, Content
from dbp.convert.writing import GZIP_LEVEL, Chunks, write_hdf5
from dbp.data.dataset import role_of
from dbp.data.scaling import check_scale
from dbp.errors import UserError
from dbp.text import brief


def write_blocks(
    path: str | Path,
    blocks: Iterable[Any],
    count: int | None = None,
    *,
    scale: float | None = None,
    input_names: Sequence[str] | None = None,
    target_names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    compress: bool = False,
    overwrite: bool = False,
) -> int:
    """Write a data set block by block, so that it never needs to be in memory whole; return the number of examples.

    The file appears when it is complete. Call this in one process: several ranks would write several files.

    Args:
        path: the HDF5 file to write.
        blocks: what yields some examples at a time: a tuple (inputs, targets) or (inputs, targets, weights) of arrays
            with one row per example, or a mapping from the name of each column to its rows.
        count: the number of all examples, if it is known; else the rows wait in the file's folder for the last one.
        scale: factor by which inputs are multiplied when they are used; 1/255 for bytes by default.
        input_names: the names of the elements along the last axis of the inputs.
        target_names: likewise of the targets.
        classes: the name of each class number.
        compress: pack the rows, in chunks, with gzip.
        overwrite: whether a file of that name may be replaced.

    Raises:
        UserError: the blocks do not fit together, or the file exists.
        StorageError: the file cannot be written.
    """
    attributes: dict[str, dict[str, Any]] = {"inputs": {}, "targets": {}}
    if scale is not None:
        attributes["inputs"]["scale"] = check_scale("scale", scale)
    for column, name, given in (
        ("inputs", "names", input_names),
        ("targets", "names", target_names),
        ("targets", "classes", classes),
    ):
        if given is not None:
            attributes[column][name] = tuple(map(str, given))
    content = Content(map(_block, blocks), count, attributes)
    chunks = Chunks(level=GZIP_LEVEL) if compress else None
    shapes = write_hdf5(Path(path), content, "written by dbp.convert.write_blocks", overwrite, chunks)
    return next(iter(shapes.values())).shape[0]


def _block(given: Any) -> Block:
    """Return some examples by the names of columns; raise UserError if they are given in another form."""
    if isinstance(given, tuple) and 2 <= len(given) <= 3:
        given = dict(zip(("inputs", "targets", "weights"), given, strict=False))
    if not isinstance(given, Mapping) or not any(role_of(str(name)) == "inputs" for name in given):
        raise UserError(
            "a block must be a tuple (inputs, targets), (inputs, targets, weights) or a mapping with inputs, but is "
            f"{brief(given)}"
        )
    return {str(name): np.asarray(rows) for name, rows in given.items()}
