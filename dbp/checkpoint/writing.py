"""A checkpoint to an HDF5 file.

HDF5 never writes to the disk here: it lays out a file without its arrays in memory, a few kilobytes. Then that and the
arrays go to their places by plain writes. So HDF5 cannot fail in the middle of writing, nothing is copied, and
training that reads HDF5 files meanwhile does not wait for a lock.
"""

from __future__ import annotations

import bisect
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from dbp.checkpoint.format import (
    FORMAT,
    VERSION,
    Checkpoint,
    Entry,
    Scalar,
    contents_of,
    digest_of_all,
    entry_of,
    pieces,
    raw,
)
from dbp.checkpoint.reading import opened
from dbp.errors import UserError
from dbp.files import committed

ALIGNED = 4096  # bytes: larger objects begin at multiples of it


class Recorder(io.RawIOBase):
    """A file in memory of which only what was written takes any: most of its length may be left out."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes]] = []  # in the order of writing, as later ones count
        self.length = self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        self._position = offset + (0, self._position, self.length)[whence]
        return self._position

    def tell(self) -> int:
        """Where it is."""
        return self._position

    def write(self, data: Any) -> int:
        """Keep it."""
        piece = bytes(data)
        self.pieces.append((self._position, piece))
        self._position += len(piece)
        self.length = max(self.length, self._position)
        return len(piece)

    def readinto(self, target: Any) -> int:
        """What was written, and zeros where nothing was."""
        view, start = memoryview(target).cast("B"), self._position
        view[:] = bytes(len(view))
        for offset, piece in self.pieces:
            first, last = max(offset, start), min(offset + len(piece), start + len(view))
            if first < last:
                view[first - start : last - start] = piece[first - offset : last - offset]
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Its length."""
        self.length = self._position if size is None else size
        return self.length

    def runs(self) -> dict[int, bytearray]:
        """What was written, by position, without gaps in between: as few pieces as there can be."""
        ends: dict[int, int] = {}
        first = -1
        for start, piece in sorted(self.pieces, key=lambda written: written[0]):
            if first < 0 or start > ends[first]:
                first = start
            ends[first] = max(ends.get(first, 0), start + len(piece))
        starts, runs = list(ends), {start: bytearray(end - start) for start, end in ends.items()}
        for offset, piece in self.pieces:
            start = starts[bisect.bisect(starts, offset) - 1]
            runs[start][offset - start : offset - start + len(piece)] = piece
        return runs


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Commit a checkpoint to a file: it is read again and verified before it bears the name.

    Raises:
        OSError: it could not be written, or not read again; a file of that name is as it was before.
    """
    arrays = dict(checkpoint.arrays())
    entries = [entry_of(name, array) for name, array in arrays.items()]
    contents = contents_of(entries)
    digest = digest_of_all(VERSION, contents, checkpoint.config, checkpoint.progress, checkpoint.provenance)
    frame, offsets = _frame(entries, checkpoint, {"contents": contents, "digest": digest})
    with committed(path, lambda partial: _verify(partial, digest)) as file:
        file.truncate(frame.length)
        for offset, run in frame.runs().items():
            _write_at(file, offset, memoryview(run))
        for name, array in arrays.items():
            if array.size:
                _write_at(file, offsets[name], raw(array))


def _write_at(file: BinaryIO, offset: int, data: memoryview) -> None:
    """All of it, as the system may take a part only."""
    file.seek(offset)
    for piece in pieces(data):
        file.write(piece)


def _verify(path: Path, digest: str) -> None:
    try:
        with opened(path) as found:
            found.verify()
            if found.digest != digest:
                raise OSError(None, "another checkpoint was found in it")
    except UserError as error:
        raise OSError(None, f"it was not read as it was written ({error})") from None


def _frame(
    entries: Sequence[Entry], checkpoint: Checkpoint, more: Mapping[str, str]
) -> tuple[Recorder, dict[str, int]]:
    """The file without its arrays, and where each of these goes."""
    recorder = Recorder()
    with h5py.File(
        recorder, "w", libver=("v108", "v110"), alignment_threshold=ALIGNED, alignment_interval=ALIGNED
    ) as file:
        for entry in entries:
            _reserve(file, entry)
        for group in ("progress", "provenance"):
            attributes = file.require_group(group).attrs
            for key, value in getattr(checkpoint, group).items():
                _set(attributes, key, value)
        root: dict[str, Scalar] = {"format": FORMAT, "version": VERSION, "config": checkpoint.config, **more}
        for key, value in root.items():
            _set(file.attrs, key, value)
        offsets = {entry.name: file[entry.name].id.get_offset() for entry in entries}
    return recorder, offsets


def _reserve(file: h5py.File, entry: Entry) -> None:
    """The place of an array, in one piece."""
    storage = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    storage.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    storage.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5py.h5s.create_simple(entry.shape) if entry.shape else h5py.h5s.create(h5py.h5s.SCALAR)
    kind = h5py.h5t.py_create(np.dtype(entry.dtype))
    h5py.h5d.create(file.id, entry.name.encode(), kind, space, dcpl=storage, lcpl=links)


def _set(attributes: h5py.AttributeManager, name: str, value: Scalar) -> None:
    if isinstance(value, str):  # of fixed length, as h5ls and old readers show them best
        data = value.encode()
        attributes.create(name, np.bytes_(data), dtype=h5py.string_dtype("utf-8", max(1, len(data))))
    else:
        attributes[name] = value
