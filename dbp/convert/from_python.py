"""Write a data file from blocks of rows that a program makes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dbp.convert.content import Block, Content
from dbp.convert.ragged import RaggedBlock, write_ragged
from dbp.convert.writing import GZIP_LEVEL, Chunks, write_hdf5
from dbp.data.dataset import role_of
from dbp.data.ragged import Ragged
from dbp.data.scaling import check_scale
from dbp.errors import UserError
from dbp.text import brief

SOURCE = "written by dbp.convert.write_blocks"


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
            with one row per example, or a mapping from the name of each column to its rows. Rows of unequal length are
            given as dbp.data.Ragged; the file gets their values and a data set `offsets`.
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
    rest = map(_block, blocks)
    first = next(rest, {})
    given_blocks = itertools.chain([first] if first else [], rest)
    if any(isinstance(column, Ragged) for column in first.values()):
        if compress:
            raise UserError("rows of unequal length are written in one piece; leave out compress")
        return write_ragged(Path(path), given_blocks, attributes, SOURCE, overwrite)
    content = Content(map(_rectangular, given_blocks), count, attributes)
    chunks = Chunks(level=GZIP_LEVEL) if compress else None
    shapes = write_hdf5(Path(path), content, SOURCE, overwrite, chunks)
    return next(iter(shapes.values())).shape[0]


def _block(given: Any) -> RaggedBlock:
    """Return some examples by the names of columns; raise UserError if they are given in another form."""
    if isinstance(given, tuple) and 2 <= len(given) <= 3:
        given = dict(zip(("inputs", "targets", "weights"), given, strict=False))
    if not isinstance(given, Mapping) or not any(role_of(str(name)) == "inputs" for name in given):
        raise UserError(
            "a block must be a tuple (inputs, targets), (inputs, targets, weights) or a mapping with inputs, but is "
            f"{brief(given)}"
        )
    return {str(name): rows if isinstance(rows, Ragged) else np.asarray(rows) for name, rows in given.items()}


def _rectangular(block: RaggedBlock) -> Block:
    """Return a block whose rows all have one length; raise UserError if some have not."""
    found = {name: column for name, column in block.items() if not isinstance(column, Ragged)}
    if len(found) < len(block):
        raise UserError("all blocks need the same columns, but some have rows of unequal length and others have not")
    return found
