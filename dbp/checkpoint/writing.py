"""Write checkpoints to HDF5 files.

HDF5 never writes to the disk here: it lays out the file without the values of the arrays in memory, a few kilobytes.
Then that and the arrays go to the disk by plain writes. So HDF5 cannot fail in the middle of writing, no array is
copied, and training that reads HDF5 files meanwhile does not wait for a lock of the library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from dbp.checkpoint.format import (
    FORMAT,
    FORMAT_VERSION,
    Entry,
    Scalar,
    StoredCheckpoint,
    contents_of,
    entry_of,
    file_digest,
    raw,
)
from dbp.checkpoint.reading import opened
from dbp.errors import UserError
from dbp.files import SparseFile, new_file, write_at

ALIGNMENT_BYTES = 4096  # larger objects begin at multiples of it


def write(path: Path, checkpoint: StoredCheckpoint) -> None:
    """Write a checkpoint to a file, which gets its name after it was read again and verified.

    Raises:
        StorageError: it could not be written or read again; an older file of that name is unchanged.
    """
    arrays = dict(checkpoint.arrays())
    entries = [entry_of(name, array) for name, array in arrays.items()]
    contents = contents_of(entries)
    digest = file_digest(contents, checkpoint.config, checkpoint.progress, checkpoint.provenance)
    layout, offsets = _lay_out(entries, checkpoint, {"contents": contents, "digest": digest})
    with new_file(path, lambda partial: _verify(partial, digest)) as file:
        layout.copy_to(file)
        for name, array in arrays.items():
            if array.size:
                write_at(file, offsets[name], raw(array))


def _verify(path: Path, digest: str) -> None:
    try:
        with opened(path) as found:
            found.verify()
            if found.digest != digest:
                raise OSError(None, "it holds another checkpoint")
    except UserError as error:
        raise OSError(None, f"it was not read as it was written ({error})") from None


def _lay_out(
    entries: Sequence[Entry], checkpoint: StoredCheckpoint, more: Mapping[str, str]
) -> tuple[SparseFile, dict[str, int]]:
    """Lay out the file without the values of its arrays; return it and the position of each array."""
    layout = SparseFile()
    with h5py.File(
        layout, "w", libver=("v108", "v110"), alignment_threshold=ALIGNMENT_BYTES, alignment_interval=ALIGNMENT_BYTES
    ) as file:
        for entry in entries:
            _reserve(file, entry)
        for group in ("progress", "provenance"):
            attributes = file.require_group(group).attrs
            for key, value in getattr(checkpoint, group).items():
                _set(attributes, key, value)
        root: dict[str, Scalar] = {"format": FORMAT, "version": FORMAT_VERSION, "config": checkpoint.config, **more}
        for key, value in root.items():
            _set(file.attrs, key, value)
        offsets = {entry.name: file[entry.name].id.get_offset() for entry in entries}
    return layout, offsets


def _reserve(file: h5py.File, entry: Entry) -> None:
    """Allocate the contiguous space of an array."""
    storage = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    storage.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    storage.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5py.h5s.create_simple(entry.shape) if entry.shape else h5py.h5s.create(h5py.h5s.SCALAR)
    kind = h5py.h5t.py_create(np.dtype(entry.dtype))
    h5py.h5d.create(file.id, entry.name.encode(), kind, space, dcpl=storage, lcpl=links)


def _set(attributes: h5py.AttributeManager, name: str, value: Scalar) -> None:
    if isinstance(value, str):  # of fixed length, which every HDF5 tool shows
        data = value.encode()
        attributes.create(name, np.bytes_(data), dtype=h5py.string_dtype("utf-8", max(1, len(data))))
    else:
        attributes[name] = value
