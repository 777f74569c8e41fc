"""The chunks of a column: where each of them lies in its file, and what they have gone through.

HDF5 stores a column in chunks of the same shape, which tile it; those at its end reach beyond it. HDF5 looks each of
them up in an index; a ChunkTable holds the whole index in arrays, so that a process reads chunks without HDF5.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from dbp.data.filters import Filter, can_undo
from dbp.types import Array

UNWRITTEN = -1  # the position of a chunk that is not in the file
Slices = tuple[slice, ...]


class Chunk(NamedTuple):
    """One chunk of a column.

    Args:
        offset: its position in the file in bytes; UNWRITTEN if it is not there.
        size: its bytes in the file.
        skipped: bit i is set if it has not gone through filter i.
        inside: the part of the chunk that lies in the column.
        of_unit: where this part lies among the rows of its unit.
    """

    offset: int
    size: int
    skipped: int
    inside: Slices
    of_unit: Slices


class ChunkTable(NamedTuple):
    """The type, shape and chunks of a column.

    The rows that begin in the same chunks are a unit. It consists of one chunk unless chunks split other axes too.

    Args:
        dtype: of its numbers.
        shape: of the column; rows come first.
        chunk: the shape of a chunk.
        filters: what each chunk has gone through before it was stored.
        offsets: the position of each chunk in the file, in the order of the grid; UNWRITTEN for one that is not there.
        sizes: the bytes of each chunk in the file.
        skipped: the filters that each chunk has not gone through, as bits.
        fill: the number that stands for those of chunks that were never written; an array without axes.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    filters: tuple[Filter, ...]
    offsets: Array
    sizes: Array
    skipped: Array
    fill: Array

    @property
    def can_be_read(self) -> bool:
        """Return True if this process can undo the filters; another one may have other packages."""
        return can_undo(self.filters)

    @property
    def grid(self) -> tuple[int, ...]:
        """Return the number of chunks along each axis."""
        return tuple(-(-size // chunk) for size, chunk in zip(self.shape, self.chunk, strict=True))

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a row once it is unpacked."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def chunk_bytes(self) -> int:
        """Return the bytes of a chunk once it is unpacked."""
        return self.dtype.itemsize * math.prod(self.chunk)

    @property
    def unit_bytes(self) -> int:
        """Return the bytes of the rows of a unit once they are unpacked."""
        return self.chunk[0] * self.row_bytes

    @property
    def chunks_in_unit(self) -> int:
        """Return the number of chunks of a unit."""
        return math.prod(self.grid[1:])

    @property
    def end(self) -> int:
        """Return the position of the first byte behind all chunks; 0 if there are none."""
        return int((self.offsets + self.sizes).max(initial=0))

    @property
    def borders(self) -> Array:
        """Return the first row of each unit, and the number of rows at the end."""
        return np.append(np.arange(0, self.shape[0], self.chunk[0]), self.shape[0])

    def rows_of(self, unit: int) -> range:
        """Return the rows of a unit; the last one may have fewer."""
        first = unit * self.chunk[0]
        return range(first, min(first + self.chunk[0], self.shape[0]))

    def chunks_of(self, unit: int) -> Iterator[Chunk]:
        """Yield the chunks of a unit."""
        count = self.chunks_in_unit
        for number, corner in enumerate(itertools.product(*map(range, self.grid[1:])), unit * count):
            inside, of_unit = [slice(0, len(self.rows_of(unit)))], [slice(0, len(self.rows_of(unit)))]
            for at, whole, chunk in zip(corner, self.shape[1:], self.chunk[1:], strict=True):
                length = min(chunk, whole - at * chunk)
                inside.append(slice(0, length))
                of_unit.append(slice(at * chunk, at * chunk + length))
            offset, size, skipped = (int(array[number]) for array in (self.offsets, self.sizes, self.skipped))
            yield Chunk(offset, size, skipped, tuple(inside), tuple(of_unit))
