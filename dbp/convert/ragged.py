"""Write rows of unequal length, such as sequences: the values of all rows one after the other, and offsets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dbp.convert.content import row_bytes, rows_per_block
from dbp.convert.spool import Spool
from dbp.convert.writing import attributes_of
from dbp.data.meaning import listed
from dbp.data.output import Attributes, OutputFile
from dbp.data.ragged import Ragged
from dbp.errors import UserError
from dbp.files import must_be_free
from dbp.types import Array

OFFSETS = "offsets"  # the data set of them
RaggedBlock = Mapping[str, Array | Ragged]


def write_ragged(
    path: Path, blocks: Iterable[RaggedBlock], attributes: Attributes, source: str, overwrite: bool
) -> int:
    """Write a data set block by block, whole or not at all; return the number of examples.

    Args:
        path: the file to write.
        blocks: columns by name; those whose rows have unequal lengths have the same ones in all columns.
        attributes: those of columns, by name.
        source: what the attribute `source` of the file says.
        overwrite: whether a file of that name may be replaced.

    Raises:
        UserError: the columns do not fit together, or the file exists.
        StorageError: the file cannot be written.
    """
    must_be_free(path, overwrite)
    with ExitStack() as files:
        spools: dict[str, Spool] = {OFFSETS: Spool(path, files)}
        spools[OFFSETS].append(np.zeros(1, np.int64))
        positions = examples = 0
        for block in blocks:
            lengths = _lengths(path, block)
            if not examples:
                spools |= {name: Spool(path, files) for name in block}
            if set(block) != set(spools) - {OFFSETS}:
                raise UserError(f"{path}: all blocks need the same columns, but one has {listed(list(block))}")
            spools[OFFSETS].append(positions + np.cumsum(lengths))
            for name, column in block.items():
                _append(path, spools[name], name, column)
            positions, examples = positions + int(lengths.sum()), examples + len(lengths)
        shapes = {name: spool.shape for name, spool in spools.items()}
        columns = {name: (*shapes[name], _pieces(spool)) for name, spool in spools.items()}
        with OutputFile(path, overwrite) as file:
            file.create()
            file.write_pieces(columns, attributes_of(attributes, shapes, source))
            file.commit()
    return examples


def _lengths(path: Path, block: RaggedBlock) -> Array:
    """Return the lengths of the rows of a block; raise UserError unless its columns agree."""
    ragged = {name: column for name, column in block.items() if isinstance(column, Ragged)}
    if not ragged:
        raise UserError(f"{path}: all blocks need the same columns, but one has no rows of unequal length")
    name, first = next(iter(ragged.items()))
    for other, column in block.items():
        if len(column) != len(first) or (other in ragged and not np.array_equal(ragged[other].lengths, first.lengths)):
            raise UserError(f"{path}: {other} of a block need as many rows as {name}, of the same lengths")
    return first.lengths


def _append(path: Path, spool: Spool, name: str, column: Array | Ragged) -> None:
    values = column.read_values(slice(0, int(column.offsets[-1]))) if isinstance(column, Ragged) else column
    if values.dtype.kind not in "buif":
        raise UserError(f"{path}: {name} must be numbers, but have type {values.dtype}")
    if not spool.is_empty and (spool.shape.shape[1:], spool.shape.dtype) != (values.shape[1:], values.dtype):
        raise UserError(
            f"{path}: all blocks need the same columns, but {name} are {spool.shape.dtype} {spool.shape.shape[1:]} at "
            f"first and {values.dtype} {values.shape[1:]} later"
        )
    spool.append(values)


def _pieces(spool: Spool) -> Iterator[Array]:
    return spool.blocks(rows_per_block(row_bytes(*spool.shape)))
