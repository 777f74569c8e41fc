"""A checkpoint from an HDF5 file that may be damaged, or made to do harm: nothing in it is trusted.

Only the names that its list of contents holds are looked up, through plain links, and only plain arrays are taken: of
numbers, without filters, in one piece inside this very file. They are read by plain reads, and compared with their
digests.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dbp.checkpoint.format import (
    FORMAT,
    GROUPS,
    VERSION,
    Checkpoint,
    Entry,
    assembled,
    digest_arrays,
    digest_of_all,
)
from dbp.errors import DataError, UserError
from dbp.files import PIECE_BYTES, pieces, reading_from
from dbp.types import Array

DEEPEST = 64  # parts of an array's name
MOST_ATTRIBUTES, MOST_ARRAYS = 1000, 1 << 15
MOST_CONFIG, MOST_TEXT = 1 << 20, 1 << 16  # in bytes: of the config, and of other attributes than those of the root
PLAIN = re.compile(r"[<>|][fiu][0-9]{1,2}")  # types of arrays
# What the library raises at files that are not as they should be.
DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError, OverflowError)


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose structure is known to be sound; its arrays are read and verified when they are asked for."""

    path: Path
    version: int
    config: str
    progress: dict[str, Any]
    provenance: dict[str, Any]
    entries: dict[str, Entry]
    digest: str
    file: io.FileIO

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(entry.size for entry in self.entries.values())

    def array(self, name: str) -> Array:
        """An array, by its name in the file."""
        return self.read_into(name, np.empty(self.entries[name].shape, self.entries[name].dtype))

    def read_into(self, name: str, target: Array) -> Array:
        """An array, written to another of its type and shape, which must be in one piece; DataError if it is damaged.

        What is in the target then is of no use.
        """
        self._check(self.entries[name], pieces(target.reshape(-1).view(np.uint8).data))
        return target

    def _check(self, entry: Entry, targets: Iterable[memoryview]) -> None:
        """Read an array piece by piece, and compare it with its digest, if it has one."""
        digest = hashlib.sha256()
        for piece in self._read(entry, targets):
            digest.update(piece)
        if entry.digest and digest.hexdigest() != entry.digest:
            raise self._damaged(entry.name, "does not match its digest")

    def _read(self, entry: Entry, targets: Iterable[memoryview]) -> Iterator[memoryview]:
        """Read an array piece by piece; gives each piece when it is full, as the system may give a part only."""
        with reading_from(self.path):
            self.file.seek(entry.offset)
        for target in targets:
            done = 0
            while done < len(target):
                with reading_from(self.path):
                    count = self.file.readinto(target[done:])
                if not count:
                    raise self._damaged(entry.name, "is cut off")
                done += count
            yield target

    def _damaged(self, name: str, how: str) -> DataError:
        return DataError(f"checkpoint {self.path} is damaged: {name} {how}")

    def verify(self) -> None:
        """DataError if an array is damaged; in little memory."""
        if self.version == 1:
            self.load()
            return
        buffer = memoryview(bytearray(min(PIECE_BYTES, max(1, self.size))))
        for entry in self.entries.values():
            lengths = (min(entry.size - start, len(buffer)) for start in range(0, entry.size, len(buffer)))
            self._check(entry, (buffer[:length] for length in lengths))

    def load(self) -> Checkpoint:
        """All of it.

        Raises:
            DataError: it is damaged, or larger than this machine's memory.
        """
        if reason := too_large(self):
            raise DataError(f"checkpoint {self.path} cannot be used: {reason}")
        arrays = {name: self.array(name) for name in self.entries}
        if self.version == 1 and _digest_1(arrays, self) != self.digest:
            raise DataError(f"checkpoint {self.path} is damaged: its contents do not match their digest")
        return assembled(arrays.items(), self.progress, self.provenance, self.config)

    def trained(self) -> dict[str, Array]:
        """The weights to be used, and running moments, by name: see Checkpoint.trained; no other array is read.

        Raises:
            DataError: they are damaged.
        """
        if self.version == 1:  # whose only digest is that of all arrays
            return self.load().trained
        groups = ("model/", "optimizer/average/")
        used = {name.removeprefix(group): name for group in groups for name in self.entries if name.startswith(group)}
        return {name: self.array(entry) for name, entry in used.items()}


def too_large(found: Opened) -> str | None:
    """Why the arrays of a checkpoint cannot all be loaded; None if they can."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"its arrays take {found.size:,} bytes, but this machine has {memory:,}" if found.size > memory else None


def _digest_1(arrays: dict[str, Array], found: Opened) -> str:
    """That of files of version 1, whose list has no digests of arrays."""
    words = json.dumps([FORMAT, 1, found.config, found.progress, found.provenance], sort_keys=True)
    return hashlib.sha256((words + digest_arrays(arrays)).encode()).hexdigest()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """A checkpoint, of which all but the values of its arrays is verified.

    Raises:
        UserError: the file is missing.
        DataError: it is not a checkpoint, of a newer version, damaged, or not made by dbp.
        StorageError: it cannot be read.
    """
    with reading_from(path):
        if not path.is_file():
            raise UserError(f"checkpoint {path} " + ("is not a file" if os.path.lexists(path) else "does not exist"))
    try:
        # HDF5 asks for no lock: the file is never changed, and others may be reading it, or the system has none.
        with path.open("rb", buffering=0) as file, h5py.File(path, "r", locking=False) as structure:
            found = _opened(path, file, structure)
    except DataError as error:
        raise DataError(f"checkpoint {path} {error}") from None
    except DAMAGE as error:
        raise DataError(f"checkpoint {path} is damaged or not a checkpoint: {_short(error)}") from None
    with reading_from(path):
        file = path.open("rb", buffering=0)
    try:
        yield replace(found, file=file)
    finally:
        with contextlib.suppress(OSError):  # nothing was written
            file.close()


def read(path: Path) -> Checkpoint:
    """The checkpoint in a file, verified; see opened()."""
    with opened(path) as found:
        return found.load()


def _short(error: object) -> str:
    """In one line."""
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:300] + " ..."


def _opened(path: Path, file: io.FileIO, structure: h5py.File) -> Opened:
    size = os.fstat(file.fileno()).st_size
    root = _attributes(structure, size)
    if root.get("format") != FORMAT:
        raise DataError("is not a checkpoint of dbp")
    version = root["version"]
    if not isinstance(version, int) or version < 1:
        raise DataError(f"is damaged: it has the format {version!r}")
    if version > VERSION:
        raise DataError(f"has format {version}, but this dbp reads up to {VERSION}; update dbp")
    progress = _attributes(_group(structure, "progress"), MOST_TEXT)
    provenance = _attributes(_group(structure, "provenance"), MOST_TEXT)
    contents, config = root["contents"], root["config"]
    if not all(isinstance(text, str) for text in (contents, config, root["digest"])) or len(config) > MOST_CONFIG:
        raise DataError("is not made by dbp: its contents, config and digest are not such texts")
    if version > 1 and digest_of_all(version, contents, config, progress, provenance) != root["digest"]:
        raise DataError("is damaged: its list of contents or its attributes do not match their digest")
    entries, room, listed = {}, size, json.loads(contents)
    if len(listed) > MOST_ARRAYS:
        raise DataError(f"is not made by dbp: it has more than {MOST_ARRAYS:,} arrays")
    for name, told in listed.items():
        entry = _listed(name, told if version > 1 else [*told, ""])
        room -= entry.size
        if room < 0:
            raise DataError(f"is damaged or not made by dbp: {_short(name)!r} is larger than the file")
        entries[name] = _found(structure, entry, size)
    places = sorted((entry.offset, entry.size) for entry in entries.values() if entry.size)
    if any(offset + length > after for (offset, length), (after, _) in itertools.pairwise(places)):
        raise DataError("is not made by dbp: its arrays lie in one another")
    return Opened(path, version, config, progress, provenance, entries, root["digest"], file)


def _listed(name: str, told: Any) -> Entry:
    """A line of the list of contents."""
    dtype, shape, digest = told
    plain = isinstance(dtype, str) and PLAIN.fullmatch(dtype) and isinstance(digest, str) and isinstance(shape, list)
    if not plain or not all(type(length) is int and length >= 0 for length in shape):
        raise DataError(f"is damaged or not made by dbp: its list of contents describes no array at {_short(name)!r}")
    return Entry(name, dtype, tuple(shape), digest)


def _attributes(item: Any, most: int) -> dict[str, Any]:
    """The attributes of a group, of which each must be one number or one text of fixed length, of so many bytes."""
    if len(item.attrs) > MOST_ATTRIBUTES:
        raise DataError(f"is not made by dbp: it has more than {MOST_ATTRIBUTES} attributes")
    values = {}
    for key in item.attrs:
        stored = item.attrs.get_id(key)
        if stored.shape != () or stored.dtype.kind not in "Siufb" or stored.get_storage_size() > most:
            raise DataError(f"is not made by dbp: its attribute {key[:60]!r} is not a plain number or text")
        value = item.attrs[key]
        values[key] = value.decode() if isinstance(value, bytes) else value.item()
    return values


def _item(structure: h5py.File, name: str) -> Any:
    """What bears a name, reached by plain links only."""
    parts, place = name.split("/"), structure
    if len(parts) > DEEPEST:
        raise DataError(f"is not made by dbp: {name[:60]!r} ... lies deeper than {DEEPEST} groups")
    for part in parts:
        plain = isinstance(place, h5py.Group) and part not in ("", ".", "..") and "\0" not in part
        if not plain or not isinstance(place.get(part, getlink=True), h5py.HardLink):
            raise DataError(f"is damaged or not made by dbp: {_short(name)!r} is missing or a link")
        place = place[part]
    return place


def _group(structure: h5py.File, name: str) -> h5py.Group:
    group = _item(structure, name)
    if not isinstance(group, h5py.Group):
        raise DataError(f"is not made by dbp: {name!r} is no group")
    return group


def _found(structure: h5py.File, entry: Entry, size: int) -> Entry:
    """The entry with its place, if it is a plain array in this very file, as the list says."""
    item = _item(structure, entry.name)
    if not isinstance(item, h5py.Dataset) or entry.name.partition("/")[0] not in GROUPS:
        raise DataError(f"is not made by dbp: {_short(entry.name)!r} is not an array of one")
    stored = item.id.get_create_plist()
    in_one_piece = stored.get_layout() == h5py.h5d.CONTIGUOUS and stored.get_nfilters() == 0
    if not in_one_piece or stored.get_external_count() or item.dtype.str != entry.dtype or item.dtype.kind not in "fiu":
        raise DataError(f"is not made by dbp: {_short(entry.name)!r} is not a plain array of type {entry.dtype}")
    if item.shape != entry.shape:
        raise DataError(f"is damaged or not made by dbp: {_short(entry.name)!r} has not the shape that it says")
    offset = item.id.get_offset() if entry.size else 0
    if offset is None or offset + entry.size > size:
        raise DataError(f"is damaged or not made by dbp: {_short(entry.name)!r} is not all there")
    return replace(entry, offset=offset)
