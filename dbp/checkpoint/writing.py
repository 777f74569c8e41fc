"""Write checkpoints to HDF5 files.

HDF5 never writes to the disk here: it lays out the file without the values of the arrays in memory, a few kilobytes.
Then that and the arrays go to the disk by plain writes. So HDF5 cannot fail in the middle of writing, no array is
copied, and training that reads HDF5 files meanwhile does not wait for a lock of the library.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from dbp.checkpoint.format import (
    FORMAT,
    FORMAT_VERSION,
    SEAL_BYTES,
    Entry,
    Scalar,
    StoredCheckpoint,
    contents_of,
    digest_of,
    digest_of_structure,
    raw,
    seal_of,
)
from dbp.checkpoint.reading import opened
from dbp.errors import UserError
from dbp.files import Action, new_file, no_pause, write_at
from dbp.sparse_file import SparseFile
from dbp.types import Array

ALIGNMENT_BYTES = 4096  # larger objects begin at multiples of it


def write(path: Path, checkpoint: StoredCheckpoint, replaces: bool = True, pause: Action = no_pause) -> None:
    """Write a checkpoint to a file, which gets its name after it was read again and verified.

    Args:
        path: the name.
        checkpoint: the state to write.
        replaces: whether a file of that name is replaced.
        pause: called again and again, between pieces of work that take a few milliseconds each.

    Raises:
        StorageError: it could not be written or read again; an older file of that name is unchanged.
    """
    arrays = dict(checkpoint.arrays())
    layout, entries = _lay_out(arrays, checkpoint, pause)
    digest = digest_of_structure(layout, entries)
    write_at(layout, 0, memoryview(seal_of(digest)))
    is_small = {entry.name: entry.size < ALIGNMENT_BYTES for entry in entries}  # so the disk gets few writes
    for entry in entries:
        if is_small[entry.name]:
            write_at(layout, entry.offset, raw(arrays[entry.name]))
    with new_file(path, partial(_verify, digest=digest, pause=pause), replaces=replaces) as file:
        layout.copy_to(file)
        for entry in entries:
            if not is_small[entry.name]:
                write_at(file, entry.offset, raw(arrays[entry.name]), pause)


def _verify(path: Path, digest: str, pause: Action) -> None:
    try:
        with opened(path) as found:
            replace(found, check=pause).verify()
            if found.digest != digest:
                raise OSError(None, "it holds another checkpoint")
    except UserError as error:
        raise OSError(None, f"it was not read as it was written ({error})") from None


def _lay_out(arrays: dict[str, Array], checkpoint: StoredCheckpoint, pause: Action) -> tuple[SparseFile, list[Entry]]:
    """Lay out the file without the values of its arrays; return it and the entries of the arrays."""
    layout = SparseFile()
    with h5py.File(
        layout,
        "w",
        libver=("v108", "v110"),
        userblock_size=SEAL_BYTES,
        alignment_threshold=ALIGNMENT_BYTES,
        alignment_interval=ALIGNMENT_BYTES,
    ) as file:
        entries = _reserved(file, arrays, pause)
        for group in ("progress", "provenance"):
            attributes = file.require_group(group).attrs
            for key, value in getattr(checkpoint, group).items():
                _set(attributes, key, value)
        texts = {"config": checkpoint.config, "meaning": checkpoint.meaning}
        root: dict[str, Scalar] = {"format": FORMAT, "version": FORMAT_VERSION, **texts}
        for key, value in {**root, "contents": contents_of(entries)}.items():
            _set(file.attrs, key, value)
    return layout, entries


def _reserved(file: h5py.File, arrays: dict[str, Array], pause: Action) -> list[Entry]:
    """Allocate the contiguous space of each array and return their entries."""
    storage = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    storage.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    storage.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    storage.set_obj_track_times(False)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    entries = []
    for name, array in arrays.items():
        space = h5py.h5s.create_simple(array.shape) if array.shape else h5py.h5s.create(h5py.h5s.SCALAR)
        kind = h5py.h5t.py_create(array.dtype)
        offset = h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=storage, lcpl=links).get_offset()
        digest = digest_of(raw(array), pause)
        entries.append(Entry(name, array.dtype.str, array.shape, offset if array.size else 0, digest))
    return entries


def _set(attributes: h5py.AttributeManager, name: str, value: Scalar) -> None:
    if isinstance(value, str):  # of fixed length, which every HDF5 tool shows
        data = value.encode()
        attributes.create(name, np.bytes_(data), dtype=h5py.string_dtype("utf-8", max(1, len(data))))
    else:
        attributes[name] = value
