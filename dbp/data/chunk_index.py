"""The table of a column's chunks, taken from HDF5's index of them."""

from __future__ import annotations

import contextlib
import functools
import io
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dbp.data.chunks import UNWRITTEN, ChunkTable
from dbp.data.completeness import HDF5_FAILURES
from dbp.data.filters import SHUFFLE, DamagedChunkError, Filter, can_undo, unpack
from dbp.errors import DataError

MAX_CHUNKS = 1 << 26  # of a table; their positions and sizes take a gigabyte
ALL_FILTERS = (1 << 32) - 1  # as bits of those that a chunk has not gone through
LARGE_CHUNK_BYTES = 1 << 32  # from here on sizes do not fit the table


def chunk_table(column: h5py.Dataset, what: str) -> ChunkTable | None:
    """Return the table of a column's chunks; None if they must be read through HDF5.

    That is so for filters that dbp does not undo, and for more chunks than a table holds.

    Args:
        column: the column, in chunks.
        what: its file and name, for messages.

    Raises:
        DataError: a chunk lies behind the end of the file.
    """
    properties = column.id.get_create_plist()
    filters = tuple(_filter(properties, number) for number in range(properties.get_nfilters()))
    grid = tuple(-(-size // chunk) for size, chunk in zip(column.shape, column.chunks, strict=True))
    count, chunk_bytes = math.prod(grid), column.dtype.itemsize * math.prod(column.chunks)
    if not can_undo(filters) or not 0 < count <= MAX_CHUNKS or chunk_bytes >= LARGE_CHUNK_BYTES:
        return None
    offsets = np.full(count, UNWRITTEN, np.int64)
    sizes, skipped = np.zeros(count, np.uint32), np.zeros(count, np.uint32)
    base = _base(column.file.userblock_size)

    def note(found: Any) -> None:
        number = np.ravel_multi_index([o // c for o, c in zip(found.chunk_offset, column.chunks, strict=True)], grid)
        offsets[number], sizes[number] = base + found.byte_offset, found.size
        skipped[number] = found.filter_mask

    _for_each_chunk(column, note)
    table = ChunkTable(
        column.dtype, column.shape, column.chunks, filters, offsets, sizes, skipped, np.array(column.fillvalue)
    )
    _check_positions(Path(column.file.filename).stat().st_size, table, what)
    _note_unfiltered_ends(column, table)
    return table


def _filter(properties: Any, number: int) -> Filter:
    code, _, values, _ = properties.get_filter(number)
    return Filter(code, values[0] if code == SHUFFLE and values else 1)


def _for_each_chunk(column: h5py.Dataset, note: Any) -> None:
    """Call a function with each stored chunk: one pass over the index where the library has that."""
    if hasattr(column.id, "chunk_iter"):
        column.id.chunk_iter(note)
        return
    for number in range(column.id.get_num_chunks()):
        note(column.id.get_chunk_info(number))


@functools.cache
def _base(user_block: int) -> int:
    """Return what is to be added to positions of chunks in files with a user block of some bytes.

    Some versions of HDF5 count positions from the end of the user block, others from the beginning of the file. A file
    in memory shows which this one is.
    """
    if user_block == 0:
        return 0
    memory = io.BytesIO()
    with h5py.File(memory, "w", userblock_size=512) as file:
        content = np.frombuffer(b"A chunk that is found in the file", np.uint8)
        found = file.create_dataset("x", data=content, chunks=content.shape).id.get_chunk_info(0).byte_offset
    return 0 if memory.getvalue().find(content.tobytes()) == found else user_block


def _check_positions(end: int, table: ChunkTable, what: str) -> None:
    """Raise DataError if a chunk does not lie in the file, of `end` bytes."""
    ends = table.offsets + table.sizes
    if (outside := np.flatnonzero(ends > end)).size:
        rows = table.rows_of(int(outside[0]) // table.chunks_in_unit)
        raise DataError(
            f"{what} of examples from {rows[0]} to {rows[-1]} cannot be read: their chunk ends at byte "
            f"{ends[outside[0]]:,} of a file of {end:,} bytes, so the file is damaged; write it anew"
        )


def _note_unfiltered_ends(column: h5py.Dataset, table: ChunkTable) -> None:
    """Note the chunks at the ends of the column that have gone through no filter.

    HDF5 can leave the filters out for all chunks that reach beyond the column, which h5py does not show. Such a chunk
    has exactly the bytes of its numbers; the first one that would be another without filters decides, as HDF5 reads it.
    """
    reaching = np.zeros(table.grid, bool)
    for axis, (size, chunk) in enumerate(zip(table.shape, table.chunk, strict=True)):
        if size % chunk:
            reaching[(slice(None),) * axis + (-1,)] = True
    suspects = np.flatnonzero(reaching.ravel() & (table.sizes == table.chunk_bytes) & (table.skipped == 0))
    for number in suspects if table.filters else ():
        at = np.unravel_index(number, table.grid)
        corner = [int(index) * size for index, size in zip(at, table.chunk, strict=True)]
        stored = np.frombuffer(column.id.read_direct_chunk(tuple(corner))[1], np.uint8)
        unpacked = np.empty(table.chunk_bytes, np.uint8)
        with contextlib.suppress(DamagedChunkError):
            unpack(stored, table.filters, 0, unpacked)
            if np.array_equal(unpacked, stored):
                continue
        lengths = [min(n, end - begin) for begin, n, end in zip(corner, table.chunk, table.shape, strict=True)]
        part = tuple(slice(begin, begin + length) for begin, length in zip(corner, lengths, strict=True))
        inside = tuple(slice(0, length) for length in lengths)
        found = stored.view(table.dtype).reshape(table.chunk)[inside]
        with contextlib.suppress(*HDF5_FAILURES):  # a damaged chunk, which is named when it is read
            if column[part].tobytes() == found.tobytes():
                table.skipped[suspects] = ALL_FILTERS
        return
