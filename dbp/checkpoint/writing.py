"""A checkpoint to an HDF5 file.

HDF5 never writes to the disk here: it lays out a file without its arrays in memory, a few kilobytes. Then that and the
arrays go to their places by plain writes. So HDF5 cannot fail in the middle of writing, nothing is copied, and
training that reads HDF5 files meanwhile does not wait for a lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

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
    raw,
)
from dbp.checkpoint.reading import opened
from dbp.errors import UserError
from dbp.files import SparseFile, new_file, write_at

ALIGNED = 4096  # bytes: larger objects begin at multiples of it


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Commit a checkpoint to a file: it is read again and verified before it bears the name.

    Raises:
        StorageError: it could not be written, or not read again; a file of that name is as it was before.
    """
    arrays = dict(checkpoint.arrays())
    entries = [entry_of(name, array) for name, array in arrays.items()]
    contents = contents_of(entries)
    digest = digest_of_all(VERSION, contents, checkpoint.config, checkpoint.progress, checkpoint.provenance)
    frame, offsets = _frame(entries, checkpoint, {"contents": contents, "digest": digest})
    with new_file(path, lambda partial: _verify(partial, digest)) as file:
        frame.copy_to(file)
        for name, array in arrays.items():
            if array.size:
                write_at(file, offsets[name], raw(array))


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
) -> tuple[SparseFile, dict[str, int]]:
    """The file without its arrays, and where each of these goes."""
    frame = SparseFile()
    with h5py.File(
        frame, "w", libver=("v108", "v110"), alignment_threshold=ALIGNED, alignment_interval=ALIGNED
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
    return frame, offsets


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
