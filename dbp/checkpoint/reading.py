"""Read checkpoints from HDF5 files that may be damaged or malicious: nothing in a file is trusted.

Only names in the list of contents are looked up, through hard links, and only plain arrays are accepted: numbers,
without filters, contiguous in this very file. They are read by plain reads and compared with their digests.
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
    FORMAT_VERSION,
    GROUPS,
    Entry,
    StoredCheckpoint,
    file_digest,
)
from dbp.errors import DataError, UserError
from dbp.files import PIECE_BYTES, pieces, reading_from
from dbp.types import Array

MAX_NAME_PARTS = 64  # of an array, separated by slashes
MAX_ATTRIBUTES, MAX_ARRAYS = 1000, 1 << 15
MAX_CONFIG_BYTES = 1 << 20
MAX_ATTRIBUTE_BYTES = 1 << 16  # of each attribute outside of the root
NUMBERS = re.compile(r"[<>|][fiu][0-9]{1,2}")  # types that arrays may have
# The exceptions of h5py and NumPy for files that are not as they should be.
DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError, OverflowError)


@dataclass(frozen=True)
class Opened:
    """A checkpoint file whose structure is verified; each array is read and verified when it is asked for."""

    path: Path
    config: str
    progress: dict[str, Any]
    provenance: dict[str, Any]
    entries: dict[str, Entry]
    digest: str
    file: io.FileIO

    @property
    def size(self) -> int:
        """Return the number of bytes of all arrays."""
        return sum(entry.size for entry in self.entries.values())

    def array(self, name: str) -> Array:
        """Read an array by its name in the file."""
        return self.read_into(name, np.empty(self.entries[name].shape, self.entries[name].dtype))

    def read_into(self, name: str, target: Array) -> Array:
        """Read an array into another, contiguous one of its type and shape.

        Raises:
            DataError: the array is damaged; the values in the target are then undefined.
        """
        self._check(self.entries[name], pieces(target.reshape(-1).view(np.uint8).data))
        return target

    def _check(self, entry: Entry, targets: Iterable[memoryview]) -> None:
        """Read an array piece by piece and compare it with its digest."""
        digest = hashlib.sha256()
        for piece in self._read(entry, targets):
            digest.update(piece)
        if digest.hexdigest() != entry.digest:
            raise self._damaged(entry.name, "does not match its digest")

    def _read(self, entry: Entry, targets: Iterable[memoryview]) -> Iterator[memoryview]:
        """Read an array piece by piece; yield each piece when it is full, as one read may return less."""
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
        """Raise DataError if an array is damaged; takes the memory of one piece."""
        buffer = memoryview(bytearray(min(PIECE_BYTES, max(1, self.size))))
        for entry in self.entries.values():
            lengths = (min(entry.size - start, len(buffer)) for start in range(0, entry.size, len(buffer)))
            self._check(entry, (buffer[:length] for length in lengths))

    def load(self) -> StoredCheckpoint:
        """Read the whole checkpoint.

        Raises:
            DataError: it is damaged, or larger than this machine's memory.
        """
        if reason := too_large(self):
            raise DataError(f"checkpoint {self.path} cannot be used: {reason}")
        arrays = ((name, self.array(name)) for name in self.entries)
        return StoredCheckpoint.from_arrays(arrays, self.progress, self.provenance, self.config)

    def inference_weights(self) -> dict[str, Array]:
        """Read what StoredCheckpoint.inference_weights() returns, and no other array.

        Raises:
            DataError: they are damaged.
        """
        groups = ("model/", "optimizer/average/")
        used = {name.removeprefix(group): name for group in groups for name in self.entries if name.startswith(group)}
        return {name: self.array(entry) for name, entry in used.items()}


def too_large(found: Opened) -> str | None:
    """Return why the arrays of a checkpoint cannot be loaded together, or None if they can."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"its arrays take {found.size:,} bytes, but this machine has {memory:,}" if found.size > memory else None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a checkpoint after verifying all of it but the values of its arrays.

    Raises:
        UserError: the file is missing.
        DataError: it is not a checkpoint, of another format, damaged, or not made by dbp.
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
        with contextlib.suppress(OSError):  # the file was only read
            file.close()


def read(path: Path) -> StoredCheckpoint:
    """Read and verify the checkpoint in a file; raises the errors of opened() and Opened.load()."""
    with opened(path) as found:
        return found.load()


def _short(error: object) -> str:
    """Return a text in one line of at most 300 characters."""
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:300] + " ..."


def _opened(path: Path, file: io.FileIO, structure: h5py.File) -> Opened:
    size = os.fstat(file.fileno()).st_size
    root = _attributes(structure, size)
    if root.get("format") != FORMAT:
        raise DataError("is not a checkpoint of dbp")
    _check_version(root["version"])
    progress = _attributes(_group(structure, "progress"), MAX_ATTRIBUTE_BYTES)
    provenance = _attributes(_group(structure, "provenance"), MAX_ATTRIBUTE_BYTES)
    contents, config = root["contents"], root["config"]
    if not all(isinstance(text, str) for text in (contents, config, root["digest"])) or len(config) > MAX_CONFIG_BYTES:
        raise DataError("is not made by dbp: its contents, config and digest are not texts of a permitted length")
    if file_digest(contents, config, progress, provenance) != root["digest"]:
        raise DataError("is damaged: its list of contents or its attributes do not match their digest")
    entries, room, listed = {}, size, json.loads(contents)
    if len(listed) > MAX_ARRAYS:
        raise DataError(f"is not made by dbp: it has more than {MAX_ARRAYS:,} arrays")
    for name, description in listed.items():
        entry = _entry_in_list(name, description)
        room -= entry.size
        if room < 0:
            raise DataError(f"is damaged or not made by dbp: {_short(name)!r} is larger than the file")
        entries[name] = _located(structure, entry, size)
    spans = sorted((entry.offset, entry.size) for entry in entries.values() if entry.size)
    if any(offset + length > after for (offset, length), (after, _) in itertools.pairwise(spans)):
        raise DataError("is not made by dbp: its arrays overlap")
    return Opened(path, config, progress, provenance, entries, root["digest"], file)


def _check_version(version: Any) -> None:
    if not isinstance(version, int) or version < 1:
        raise DataError(f"is damaged: it has the format {version!r}")
    if version != FORMAT_VERSION:
        older = "export its weights with the dbp that wrote it, and import them with this one"
        remedy = "update dbp" if version > FORMAT_VERSION else older
        raise DataError(f"has format {version}, but this dbp reads format {FORMAT_VERSION}; {remedy}")


def _entry_in_list(name: str, description: Any) -> Entry:
    """Return an entry from the list of contents, if it describes a plain array."""
    dtype, shape, digest = description
    plain = isinstance(dtype, str) and NUMBERS.fullmatch(dtype) and isinstance(digest, str) and isinstance(shape, list)
    if not plain or not all(type(length) is int and length >= 0 for length in shape):
        raise DataError(f"is damaged or not made by dbp: its list of contents describes no array at {_short(name)!r}")
    return Entry(name, dtype, tuple(shape), digest)


def _attributes(item: Any, most: int) -> dict[str, Any]:
    """Return the attributes of a group, each of which must be one number or one text of at most `most` bytes."""
    if len(item.attrs) > MAX_ATTRIBUTES:
        raise DataError(f"is not made by dbp: it has more than {MAX_ATTRIBUTES} attributes")
    values = {}
    for key in item.attrs:
        stored = item.attrs.get_id(key)
        if stored.shape != () or stored.dtype.kind not in "Siufb" or stored.get_storage_size() > most:
            raise DataError(f"is not made by dbp: its attribute {key[:60]!r} is not a plain number or text")
        value = item.attrs[key]
        values[key] = value.decode() if isinstance(value, bytes) else value.item()
    return values


def _item(structure: h5py.File, name: str) -> Any:
    """Return the object of a name, reached through hard links only."""
    parts, item = name.split("/"), structure
    if len(parts) > MAX_NAME_PARTS:
        raise DataError(f"is not made by dbp: {name[:60]!r} ... has more than {MAX_NAME_PARTS} parts")
    for part in parts:
        plain = isinstance(item, h5py.Group) and part not in ("", ".", "..") and "\0" not in part
        if not plain or not isinstance(item.get(part, getlink=True), h5py.HardLink):
            raise DataError(f"is damaged or not made by dbp: {_short(name)!r} is missing or a link")
        item = item[part]
    return item


def _group(structure: h5py.File, name: str) -> h5py.Group:
    group = _item(structure, name)
    if not isinstance(group, h5py.Group):
        raise DataError(f"is not made by dbp: {name!r} is not a group")
    return group


def _located(structure: h5py.File, entry: Entry, size: int) -> Entry:
    """Return the entry with its position, if it is a plain array in this very file, as the list says."""
    item = _item(structure, entry.name)
    if not isinstance(item, h5py.Dataset) or entry.name.partition("/")[0] not in GROUPS:
        raise DataError(f"is not made by dbp: {_short(entry.name)!r} is not an array in one of its groups")
    stored = item.id.get_create_plist()
    in_one_piece = stored.get_layout() == h5py.h5d.CONTIGUOUS and stored.get_nfilters() == 0
    if not in_one_piece or stored.get_external_count() or item.dtype.str != entry.dtype or item.dtype.kind not in "fiu":
        raise DataError(f"is not made by dbp: {_short(entry.name)!r} is not a plain array of type {entry.dtype}")
    if item.shape != entry.shape:
        raise DataError(f"is damaged or not made by dbp: {_short(entry.name)!r} has another shape than listed")
    offset = item.id.get_offset() if entry.size else 0
    if offset is None or offset + entry.size > size:
        raise DataError(f"is damaged or not made by dbp: {_short(entry.name)!r} is cut off")
    return replace(entry, offset=offset)
