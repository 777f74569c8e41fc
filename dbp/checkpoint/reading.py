"""Read checkpoints from HDF5 files that may be damaged or malicious: nothing in a file is trusted.

Through HDF5 only the attributes of the file and of two groups are read. The list of contents, which is one of them,
says where in the file each array lies; arrays are read by plain reads and compared with their digests.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from dbp.checkpoint.format import (
    BEST_GROUP,
    FORMAT,
    FORMAT_VERSION,
    GROUPS,
    SEAL_BYTES,
    Entry,
    StoredCheckpoint,
    digest_of_structure,
    progress_of_best,
    seal_of,
)
from dbp.errors import DataError, UserError
from dbp.files import PIECE_BYTES, machine_memory, pieces, reading_from
from dbp.types import Array

MAX_NAME_LENGTH, MAX_NAME_PARTS = 1 << 16, 64  # of an array; its parts are separated by slashes
MAX_ATTRIBUTES, MAX_DIMENSIONS, MAX_ELEMENTS = 1000, 32, 1 << 48
MAX_ATTRIBUTE_BYTES = 1 << 16  # of each attribute outside of the root
# All bytes but those of the arrays: so many, as many for each array, and so many times those of the texts.
STRUCTURE_BYTES, STRUCTURE_BYTES_PER_ARRAY, STRUCTURE_FACTOR = 1 << 20, 1 << 13, 4
BEST = f"{BEST_GROUP}/"
OF_LAST_STEP = ("model/", BEST, "optimizer/", "method/")  # what at_best_epoch() replaces, or leaves out
NUMBERS = re.compile(r"[<>|][fiu][0-9]{1,2}")  # types that arrays may have
# The exceptions of h5py and NumPy for files that are not as they should be.
DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError, OverflowError)


@dataclass(frozen=True)
class Opened:
    """A checkpoint file whose structure is verified; each array is read and verified when it is asked for."""

    path: Path
    config: str
    meaning: str
    progress: dict[str, Any]
    provenance: dict[str, Any]
    entries: dict[str, Entry]
    digest: str
    file: BinaryIO
    check: Callable[[], None] = lambda: None  # called before each piece of an array is read; raises what ends that

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
        """Read an array piece by piece; yield each piece when it is full."""
        with reading_from(self.path):
            self.file.seek(entry.offset)
        for target in targets:
            self.check()
            with reading_from(self.path):
                count = self.file.readinto(target)  # type: ignore[attr-defined]  # as all buffered files
            if count < len(target):
                raise self._damaged(entry.name, "is cut off")
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
        return StoredCheckpoint.from_arrays(arrays, self.progress, self.provenance, self.config, self.meaning)

    def at_best_epoch(self) -> Opened:
        """Return this checkpoint with the weights of the best epoch in place of those of its last step.

        Optimizer state is left out, as it is that of the last step. It is this checkpoint itself if the run keeps no
        best weights, or if the best epoch is the last one.
        """
        best = {n.removeprefix(BEST): entry for n, entry in self.entries.items() if n.startswith(BEST)}
        if not best:
            return self
        others = {n: entry for n, entry in self.entries.items() if not n.startswith(OF_LAST_STEP)}
        frozen = {n: entry for n, entry in self.entries.items() if n.startswith("model/")}  # all that best has not
        model = frozen | {f"model/{name}": entry for name, entry in best.items()}
        return replace(self, entries={**model, **others}, progress=progress_of_best(self.progress))

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
    memory = machine_memory()
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
            missing = f"does not exist (looked for {path.absolute()})"
            raise UserError(f"checkpoint {path} {'is not a file' if os.path.lexists(path) else missing}")
    with reading_from(path):
        file = path.open("rb")
    try:
        yield _checked(path, file)
    finally:
        with contextlib.suppress(OSError):  # the file was only read
            file.close()


def _checked(path: Path, file: BinaryIO) -> Opened:
    """Return a file whose structure is verified; raise DataError, which names it, if it is no checkpoint."""
    try:
        # HDF5 asks for no lock: the file is never changed, and others may be reading it, or the system has none.
        with h5py.File(path, "r", locking=False) as structure:
            return _opened(path, file, structure)
    except DataError as error:
        raise DataError(f"checkpoint {path} {error}") from None
    except DAMAGE as error:
        raise DataError(f"checkpoint {path} is damaged or not a checkpoint: {_short(error)}") from None


def read(path: Path) -> StoredCheckpoint:
    """Read and verify the checkpoint in a file; raises the errors of opened() and Opened.load()."""
    with opened(path) as found:
        return found.load()


def _short(error: object) -> str:
    """Return a text in one line of at most 300 characters."""
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:300] + " ..."


def _opened(path: Path, file: BinaryIO, structure: h5py.File) -> Opened:
    size = os.fstat(file.fileno()).st_size
    root = _attributes(structure, size)
    if root.get("format") != FORMAT:
        raise DataError("is not a checkpoint of dbp")
    _check_version(root["version"])
    progress = _attributes(_group(structure, "progress"), MAX_ATTRIBUTE_BYTES)
    provenance = _attributes(_group(structure, "provenance"), MAX_ATTRIBUTE_BYTES)
    contents, config, meaning = texts = root["contents"], root["config"], root["meaning"]
    if not all(isinstance(text, str) for text in texts):
        raise DataError("is not made by dbp: its contents, config and meaning are not texts")
    entries = {name: _entry_in_list(name, description) for name, description in json.loads(contents).items()}
    _check_offsets(entries.values(), size, sum(map(len, texts)))
    digest = digest_of_structure(file, entries.values())
    file.seek(0)
    if file.read(SEAL_BYTES) != seal_of(digest):
        raise DataError("is damaged: its attributes, its list of contents or its structure do not match their digest")
    return Opened(path, config, meaning, progress, provenance, entries, digest, file)


def _check_offsets(entries: Collection[Entry], size: int, texts: int) -> None:
    """Raise DataError unless all arrays lie in the file, none over another, and leave no more than its structure.

    Args:
        entries: of the arrays.
        size: of the file, in bytes.
        texts: characters of the list of contents, the config and the meaning of the data.
    """
    end = SEAL_BYTES
    for entry in sorted((entry for entry in entries if entry.size), key=lambda entry: entry.offset):
        if entry.offset < end:
            raise DataError("is not made by dbp: its arrays overlap")
        end = entry.offset + entry.size
        if end > size:
            raise DataError(f"is damaged or not made by dbp: {_short(entry.name)!r} is cut off")
    structure = size - sum(entry.size for entry in entries)
    if structure > STRUCTURE_BYTES + STRUCTURE_BYTES_PER_ARRAY * len(entries) + STRUCTURE_FACTOR * texts:
        raise DataError(f"is not made by dbp: {structure:,} of its bytes are not those of its arrays")


def _check_version(version: Any) -> None:
    if not isinstance(version, int) or version < 1:
        raise DataError(f"is damaged: it has the format {version!r}")
    if version != FORMAT_VERSION:
        older = "export its weights with the dbp that wrote it, and import them with this one"
        remedy = "update dbp" if version > FORMAT_VERSION else older
        raise DataError(f"has format {version}, but this dbp reads format {FORMAT_VERSION}; {remedy}")


def _entry_in_list(name: str, description: Any) -> Entry:
    """Return an entry from the list of contents, if it describes a plain array."""
    dtype, shape, offset, digest = description
    plain = isinstance(dtype, str) and NUMBERS.fullmatch(dtype) and isinstance(digest, str) and isinstance(shape, list)
    if not plain or len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in (*shape, offset)):
        raise DataError(f"is damaged or not made by dbp: its list of contents describes no array at {_short(name)!r}")
    parts = name.split("/")
    if parts[0] not in GROUPS or not 1 < len(parts) <= MAX_NAME_PARTS or not set(parts).isdisjoint(("", ".", "..")):
        raise DataError(f"is not made by dbp: {_short(name)!r} is not the name of an array in one of its groups")
    if len(name) > MAX_NAME_LENGTH or "\0" in name or math.prod(filter(None, shape)) > MAX_ELEMENTS:
        raise DataError(f"is not made by dbp: {_short(name)!r} has a name or a shape that no array has")
    return Entry(name, dtype, tuple(shape), offset, digest)


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


def _group(structure: h5py.File, name: str) -> h5py.Group:
    """Return a group that is in this very file."""
    if not isinstance(structure.get(name, getlink=True), h5py.HardLink) or not isinstance(structure[name], h5py.Group):
        raise DataError(f"is damaged or not made by dbp: {name!r} is missing, a link or not a group")
    return structure[name]
