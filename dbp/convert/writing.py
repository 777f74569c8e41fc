"""Write a data file from blocks of rows: each column in one piece, which ranks can map into memory, or in chunks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dbp.convert.content import Block, ColumnShape, Content, row_bytes, rows_of, rows_per_block, shapes_of
from dbp.convert.progress import with_progress
from dbp.convert.spool import Spool
from dbp.data.chunked_output import ChunkedOutputFile
from dbp.data.columns import ColumnNames
from dbp.data.dataset import check_columns, role_of
from dbp.data.meaning import check_names
from dbp.data.output import Attributes, OutputFile
from dbp.data.row_names import SINGULAR
from dbp.errors import UserError
from dbp.files import must_be_free

Shapes = Mapping[str, ColumnShape]
GZIP_LEVEL = 4
BYTE_SCALE = 1 / 255  # of inputs of bytes, which brings them to 0 ... 1 when they are used


class Chunks(NamedTuple):
    """How columns are cut into chunks.

    Args:
        rows: those in a chunk of the column with the largest rows; None for about 1 MB of them.
        level: how hard chunks are packed, from 1 to 9; 0 to leave them as they are.
    """

    rows: int | None = None
    level: int = 0


def write_hdf5(path: Path, content: Content, source: str, overwrite: bool, chunks: Chunks | None = None) -> Shapes:
    """Write a data set block by block, whole or not at all; return the shapes of its columns.

    Inputs of bytes get the attribute `scale` = 1/255 unless they have one.

    Args:
        path: the file to write.
        content: the data set.
        source: what the attribute `source` of the file says.
        overwrite: whether a file of that name may be replaced.
        chunks: cut columns into chunks; None for one piece, which ranks can map into memory.

    Raises:
        UserError: the columns do not fit together, the file exists, or it is one of those that are read.
        StorageError: the file cannot be written.
    """
    must_be_free(path, overwrite, content.files)  # before anything is written, which may take long
    with ExitStack() as spool_files:
        if content.count is None:
            content = _spooled(path, content, spool_files)
        output = OutputFile(path, overwrite, content.files)
        if chunks is not None:
            output = ChunkedOutputFile(path, overwrite, content.files, *chunks)
        return _write(output, content, ", ".join(map(str, content.files)) or str(path), source)


def _write(output: OutputFile, content: Content, what: str, source: str) -> Shapes:
    assert content.count is not None
    shapes: Shapes = {}
    done = 0
    with output as file:
        file.create()
        for block in with_progress(content.blocks, rows_of, f"writing {output.path.name}", content.count):
            if not (count := _row_count(what, block)):
                continue
            if not shapes:
                shapes = _checked(what, block, content.count)
                attributes = attributes_of(content.attributes, shapes, source)
            _check_like(what, block, shapes, done)
            if done + count > content.count:
                raise _changed(what, content.count)
            file.write_rows(block, done, content.count, attributes)
            done += count
        if not shapes:
            raise UserError(f"{what}: has no examples")
        if done < content.count:
            raise _changed(what, content.count)
        file.commit()
    return shapes


def _changed(what: str, count: int) -> UserError:
    return UserError(f"{what}: does not have the {count:,} examples that were announced; did it change meanwhile?")


def _row_count(what: str, block: Block) -> int:
    """Return the number of rows of a block; raise UserError unless all its columns have as many."""
    counts = {name: len(values) if values.ndim else 0 for name, values in block.items()}
    if len(set(counts.values())) != 1:
        lengths = ", ".join(f"{name} have {count:,}" for name, count in counts.items())
        raise UserError(f"{what}: every column needs one row per example, but {lengths or 'a block has no column'}")
    return next(iter(counts.values()))


def _checked(what: str, block: Block, count: int) -> Shapes:
    shapes = shapes_of(block, count)
    check_columns(what, {name: shape for name, shape in shapes.items() if not _are_texts(name, shape)})
    return shapes


def _are_texts(name: str, shape: ColumnShape) -> bool:
    """Return True for texts beside the columns of numbers: names of the examples, and columns that are kept."""
    return name in SINGULAR or (shape.dtype.kind == "S" and role_of(name) not in ColumnNames._fields)


def _check_like(what: str, block: Block, shapes: Shapes, done: int) -> None:
    """Raise UserError unless a block has the columns, shapes and types of the first one."""
    found = shapes_of(block, next(iter(shapes.values())).shape[0])
    for name in {**shapes, **found}:
        if found.get(name) != shapes.get(name):
            raise UserError(
                f"{what}: all blocks need the same columns, but {name} are {shapes.get(name, 'missing')} at first and "
                f"{found.get(name, 'missing')} from row {done} on"
            )


def attributes_of(given: Attributes, shapes: Shapes, source: str) -> dict[str, dict[str, object]]:
    """Return the attributes of the file and its columns; raise UserError if names do not fit."""
    attributes = {name: dict(given.get(name, {})) for name in ("/", *shapes)}
    for name in shapes:
        for kind in attributes[name].keys() & {"names", "classes"}:
            check_names(name, kind, tuple(attributes[name][kind]), shapes[name].shape)
    attributes["/"]["source"] = os.fsencode(source).decode(errors="replace")
    for name, shape in shapes.items():
        if role_of(name) == "inputs" and shape.dtype == np.uint8:
            attributes[name].setdefault("scale", BYTE_SCALE)
    return attributes


# --- an unknown number of examples --------------------------------------------------------------------


def _spooled(path: Path, content: Content, files: ExitStack) -> Content:
    """Return the same data set with its rows counted; they wait in nameless files in the folder of the new one.

    Args:
        path: the file to write.
        content: the data set.
        files: closes those files.
    """
    spools: dict[str, Spool] = {}
    first: Block = {}
    count = 0
    for block in with_progress(content.blocks, rows_of, f"reading for {path.name}"):
        rows = _row_count(str(path), block)
        if not first:
            first = {name: values[:1] for name, values in block.items()}
            spools = {name: Spool(path, files) for name in block}
        _check_like(str(path), block, shapes_of(first, 1), count)
        for name, values in block.items():
            spools[name].append(values)
        count += rows
    return replace(content, blocks=_read_back(spools), count=count)


def _read_back(spools: Mapping[str, Spool]) -> Iterator[Block]:
    rows = rows_per_block(*(row_bytes(*spool.shape) for spool in spools.values()))
    columns = [spool.blocks(rows) for spool in spools.values()]
    for blocks in zip(*columns, strict=True):
        yield dict(zip(spools, blocks, strict=True))
