"""Where the rows of an HDF5 data set lie: in one piece, in chunks, or in parts in other files; found through HDF5."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
from h5py import h5s, h5t

from dbp.data.chunk_index import chunk_table
from dbp.data.chunks import ChunkTable
from dbp.data.columns import Column
from dbp.data.completeness import HDF5_FAILURES, find_linked
from dbp.data.parts import Part, Parts

Location = Column | ChunkTable | Parts


def location_of(stored: h5py.Dataset, file: h5py.File, what: str) -> Location | None:
    """Return where a data set lies; None if it must be read through HDF5.

    That is so for numbers that HDF5 converts to those of NumPy, for chunks that have gone through filters that only
    HDF5 undoes, and for virtual data sets that are not put together from whole rows, one after the other.

    Args:
        stored: the data set.
        file: by which it was found.
        what: its file and name, for messages.

    Raises:
        DataError: a chunk lies behind the end of its file.
    """
    if stored.is_virtual:
        return _of_sources(stored, what)
    location = _own_location(stored, what)
    if location is None or stored.file.filename == file.filename:
        return location
    return Parts(stored.dtype, stored.shape, (_part(stored, location, range(len(stored))),))


def _own_location(stored: h5py.Dataset, what: str) -> Column | ChunkTable | None:
    """Return where a data set lies in its own file; None if it does not, or must be read through HDF5."""
    is_exact = stored.id.get_type().equal(h5t.py_create(stored.dtype, logical=True))
    if not is_exact or stored.is_virtual or stored.external is not None:
        return None
    if stored.chunks is not None:
        return chunk_table(stored, what)
    offset = stored.id.get_offset()
    return None if offset is None or stored.file.userblock_size else Column(stored.dtype, stored.shape, offset)


def _part(stored: h5py.Dataset, location: Column | ChunkTable, rows: range) -> Part:
    path = Path(stored.file.filename).absolute()
    return Part(path, path.stat().st_size, location, rows.start, rows.stop)


def _of_sources(virtual: h5py.Dataset, what: str) -> Parts | None:
    """Return the parts of a virtual data set, if each of its sources shows whole rows."""
    locations: dict[int, Part] = {}
    for mapping in virtual.virtual_sources():
        if "%" in mapping.file_name + mapping.dset_name:  # a source for each of any number of blocks
            return None
        shown = _rows_of(mapping.vspace, virtual.shape)
        part = None if shown is None else _source(virtual, mapping, len(shown), what)
        if shown is None or part is None or shown.start in locations:
            return None
        locations[shown.start] = part
    at = 0
    for start in sorted(locations):
        if start != at:
            return None
        at += locations[start].rows
    if at != virtual.shape[0]:
        return None
    return Parts(virtual.dtype, virtual.shape, tuple(locations[start] for start in sorted(locations)))


def _source(virtual: h5py.Dataset, mapping: Any, count: int, what: str) -> Part | None:
    """Return the rows that a part of a virtual data set shows; None if they must be read through HDF5."""
    if mapping.file_name == ".":
        return _source_in(virtual.file, virtual, mapping, count, what)
    prefix = virtual.id.get_access_plist().get_virtual_prefix().decode(errors="replace")
    path = find_linked(mapping.file_name, virtual.file.filename, "HDF5_VDS_PREFIX", prefix)
    if path is None:
        return None
    with h5py.File(path, "r") as file:
        return _source_in(file, virtual, mapping, count, what)


def _source_in(file: h5py.File, virtual: h5py.Dataset, mapping: Any, count: int, what: str) -> Part | None:
    source = file.get(mapping.dset_name)
    if not isinstance(source, h5py.Dataset) or source.dtype != virtual.dtype or source.shape[1:] != virtual.shape[1:]:
        return None
    rows = _rows_of(mapping.src_space, source.shape)
    location = _own_location(source, f"{what}: its source {mapping.dset_name} in {file.filename}")
    if rows is None or location is None or len(rows) != count:
        return None
    return _part(source, location, rows)


def _rows_of(space: Any, shape: tuple[int, ...]) -> range | None:
    """Return the rows that a selection consists of; None if it is anything else than consecutive whole rows."""
    if space.get_select_type() == h5s.SEL_ALL:
        return range(shape[0])
    if space.get_select_type() != h5s.SEL_HYPERSLABS:
        return None
    try:
        first, last = (tuple(map(int, corner)) for corner in space.get_select_bounds())
    except HDF5_FAILURES:  # it grows without a limit
        return None
    is_box = space.get_select_npoints() == math.prod(end - start + 1 for start, end in zip(first, last, strict=True))
    if not is_box or len(first) != len(shape) or any(first[1:]) or last[1:] != tuple(n - 1 for n in shape[1:]):
        return None
    return range(first[0], last[0] + 1) if last[0] < shape[0] else None
