"""A column in chunks that is read without HDF5: plain reads of the file, and filters that are undone here."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict

import numpy as np

from dbp.data.chunks import UNWRITTEN, Chunk, ChunkTable
from dbp.data.dataset import Rows
from dbp.data.filters import DamagedChunkError, inflate, is_inflated, unpack
from dbp.data.open_file import OpenFile, rows_text
from dbp.types import Array

KEPT_BYTES = 1 << 20  # of unpacked units that a column keeps; it keeps at least one


class ChunkedColumn:
    """A column in chunks. It keeps the units that it has unpacked last, as rows in order share them.

    Several threads may read it at the same time.

    Args:
        file: the file with the chunks.
        name: of the column, for messages.
        table: its chunks.
    """

    def __init__(self, file: OpenFile, name: str, table: ChunkTable):
        self._file, self._name, self.table = file, name, table
        self.shape, self.dtype = table.shape, table.dtype
        self.borders: Array | None = table.borders
        self._kept: OrderedDict[int, Array] = OrderedDict()  # unpacked units by number, the one used last at the end
        self._lock = threading.Lock()  # of what is kept
        self._is_kept = table.chunks_in_unit == 1 or table.unit_bytes <= KEPT_BYTES
        file.check_end(table.end, name)

    def read(self, rows: Rows) -> Array:
        """Read rows as they are stored; raise DataError, naming file and rows, if they cannot be read."""
        chosen = np.arange(*rows.indices(self.shape[0])) if isinstance(rows, slice) else np.asarray(rows)
        units, within = np.divmod(chosen, self.table.chunk[0])
        values = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        order = np.argsort(units, kind="stable")
        borders = np.flatnonzero(np.diff(units[order], prepend=-1, append=-1))
        for start, stop in itertools.pairwise(borders) if len(chosen) else ():
            indices = order[start:stop]
            self._gather(int(units[indices[0]]), within[indices], values, indices)
        return values

    def _gather(self, unit: int, rows: Array, values: Array, indices: Array) -> None:
        """Write some rows of a unit to some indices among the values."""
        if self._is_kept:
            values[indices] = self._unpacked(unit)[rows]
            return
        for chunk in self.table.chunks_of(unit):  # one at a time, as they may be large together
            numbers = self._numbers(chunk, unit)[chunk.inside]
            values[:, *chunk.of_unit[1:]][indices] = numbers[rows]

    def _unpacked(self, unit: int) -> Array:
        """Return the rows of a unit, unpacked now or before."""
        with self._lock:
            if unit in self._kept:
                self._kept.move_to_end(unit)
                return self._kept[unit]
        into = np.empty((len(self.table.rows_of(unit)), *self.shape[1:]), self.dtype)
        self._read_unit(unit, into)
        with self._lock:
            self._kept[unit] = into
            while len(self._kept) > 1 and len(self._kept) * self.table.unit_bytes > KEPT_BYTES:
                self._kept.popitem(last=False)
        return into

    def read_into(self, rows: range, into: Array) -> None:
        """Read consecutive rows into a contiguous array of their shape and type; those of whole units are not kept."""
        at = rows.start
        while at < rows.stop:
            unit = self.table.rows_of(at // self.table.chunk[0])
            stop = min(unit.stop, rows.stop)
            target = into[at - rows.start : stop - rows.start]
            if range(at, stop) == unit:
                self._read_unit(at // self.table.chunk[0], target)
            else:
                target[...] = self.read(slice(at, stop))
            at = stop

    def _read_unit(self, unit: int, into: Array) -> None:
        """Read the rows of a unit; raise DataError, naming the file and the rows, if they cannot be read."""
        for chunk in self.table.chunks_of(unit):
            is_whole = self.table.chunks_in_unit == 1 and self.table.chunk[1:] == self.shape[1:]
            if is_whole and (len(into) == self.table.chunk[0] or self._is_read_in_part(chunk)):
                self._read_chunk(chunk, unit, into)
            else:
                into[chunk.of_unit] = self._numbers(chunk, unit)[chunk.inside]

    def _numbers(self, chunk: Chunk, unit: int) -> Array:
        """Return all numbers of a chunk, those beyond the end of the column too."""
        numbers = np.empty(self.table.chunk, self.dtype)
        self._read_chunk(chunk, unit, numbers)
        return numbers

    def _is_read_in_part(self, chunk: Chunk) -> bool:
        """Return True if the first rows of a chunk can be read without memory for the others."""
        return chunk.offset == UNWRITTEN or is_inflated(self.table.filters, chunk.skipped)

    def _read_chunk(self, chunk: Chunk, unit: int, into: Array) -> None:
        """Read a chunk into an array of its numbers, or of those of its first rows, if it can be read in part."""
        if chunk.offset == UNWRITTEN:
            into[...] = self.table.fill
            return
        numbers, rows = into.reshape(-1).view(np.uint8), self.table.rows_of(unit)
        if not self.table.filters and chunk.size == len(numbers):
            self._file.read_at(chunk.offset, numbers.data, self._name, rows)
            return
        try:
            if is_inflated(self.table.filters, chunk.skipped):

                def read(start: int, piece: memoryview) -> None:
                    self._file.read_at(chunk.offset + start, piece, self._name, rows)

                inflate(read, chunk.size, self.table.filters, chunk.skipped, numbers, self.table.chunk_bytes)
                return
            stored = np.empty(chunk.size, np.uint8)
            self._file.read_at(chunk.offset, stored.data, self._name, rows)
            unpack(stored, self.table.filters, chunk.skipped, numbers)
        except DamagedChunkError as error:
            raise self._file.error(f"{self._name} of {rows_text(rows)}", str(error)) from None
