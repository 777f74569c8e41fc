"""The content of a checkpoint, the state of a run, and its layout in an HDF5 file.

    /model/<layer>/<parameter>                  weights
    /best/<layer>/<parameter>                   weights for inference of the best epoch, where it is an earlier one
    /optimizer/<vector>/<layer>/<parameter>     vectors of the optimizer; `average` replaces the weights for inference
    /method/<name>                              scalars of the optimizer
    /history/<column>                           one number per epoch
    /tables/<data>/<metric>                     arrays of metrics from the last evaluation; `epoch`: sums of the epoch
    /progress, /provenance                      attributes: counters of the run; versions, processor, host
    attributes of the root                      format, version, config (TOML), meaning of the data (JSON), contents

`contents` lists all arrays, each with its type, its shape, its position in the file and a SHA-256 of its values. The
first bytes of the file, which HDF5 leaves to its users, are a seal: a SHA-256 of all bytes that follow but those of the
arrays. So a changed byte is always noticed, array by array, and no array needs to be looked up through HDF5, which
takes long where there are thousands.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from dbp.files import PIECE_BYTES, Action, no_pause, pieces, reading_from
from dbp.sparse_file import SparseFile
from dbp.types import Array

Scalar = int | float | str | bool
FORMAT = "dbp checkpoint"
FORMAT_VERSION = 4  # rises whenever files of the version before cannot be read any more
SEAL_BYTES = 4096  # before the part of the file that is HDF5's
BEST_GROUP = "best"  # the group of the weights of the best epoch
GROUPS = ("model", BEST_GROUP, "optimizer", "method", "history", "tables")
LAST_EPOCH = "last_epoch"  # in the progress of weights of the best epoch: how many epochs the run had come to


@dataclass(frozen=True)
class StoredCheckpoint:
    """The state of a run, in memory as it is stored in a file.

    Args:
        model: weights and running moments by the names of the parameters.
        optimizer: vectors of the optimizer, each with one array per parameter.
        method: scalars of the optimizer.
        history: a column of numbers, one per epoch, for each cost and metric.
        progress: counters of the run.
        provenance: what the run ran on.
        config: the settings as TOML.
        meaning: kinds, scale and names of the training data as JSON; empty if nothing is known of it.
        best: weights for inference and running moments of the best epoch by name; empty if the run keeps none, or if it
            is the present one.
        tables: arrays of metrics, such as "validation/confusion_matrix" of the last evaluation, and under "epoch/" the
            sums of the current epoch.
    """

    model: Mapping[str, Array]
    optimizer: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    method: Mapping[str, Array] = field(default_factory=dict)
    history: Mapping[str, Array] = field(default_factory=dict)
    progress: Mapping[str, Scalar] = field(default_factory=dict)
    provenance: Mapping[str, Scalar] = field(default_factory=dict)
    config: str = ""
    meaning: str = "{}"
    best: Mapping[str, Array] = field(default_factory=dict)
    tables: Mapping[str, Array] = field(default_factory=dict)

    def inference_weights(self) -> dict[str, Array]:
        """Return the weights for inference and running moments: averaged weights if the optimizer keeps an average."""
        return {**self.model, **self.optimizer.get("average", {})}

    def at_best_epoch(self) -> StoredCheckpoint:
        """Return a checkpoint of the weights of the best epoch alone, or of the present ones if that is the present."""
        progress = progress_of_best(self.progress) if self.best else self.progress
        model = {**self.model, **self.best} if self.best else self.inference_weights()  # best has no frozen ones
        return replace(self, model=model, best={}, optimizer={}, method={}, progress=progress)

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Yield the name in the file and the values of every array."""
        for name, array in self.model.items():
            yield f"model/{name}", array
        for name, array in self.best.items():
            yield f"{BEST_GROUP}/{name}", array
        for vector, parameters in self.optimizer.items():
            for name, array in parameters.items():
                yield f"optimizer/{vector}/{name}", array
        for name, array in self.method.items():
            yield f"method/{name}", array
        for name, array in self.history.items():
            yield f"history/{name}", array
        for name, array in self.tables.items():
            yield f"tables/{name}", array

    @classmethod
    def from_arrays(
        cls, arrays: Iterable[tuple[str, Array]], progress: Any, provenance: Any, config: str, meaning: str
    ) -> Self:
        """Return the checkpoint that has these arrays, given by their names in the file; the inverse of arrays()."""
        groups: dict[str, dict[str, Array]] = {group: {} for group in GROUPS}
        optimizer: dict[str, dict[str, Array]] = {}
        for name, array in arrays:
            group, _, rest = name.partition("/")
            groups[group][rest] = array
            if group == "optimizer":
                vector, _, parameter = rest.partition("/")
                optimizer.setdefault(vector, {})[parameter] = array
        return cls(
            model=groups["model"],
            best=groups[BEST_GROUP],
            optimizer=optimizer,
            method=groups["method"],
            history=groups["history"],
            tables=groups["tables"],
            progress=progress,
            provenance=provenance,
            config=config,
            meaning=meaning,
        )


def progress_of_best(progress: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the counters of a run as they stand for the weights of its best epoch."""
    epoch, step = progress.get("best_epoch", 0), progress.get("best_step", 0)
    counts = {"epoch": epoch, "step": step, "step_in_epoch": 0, LAST_EPOCH: progress.get("epoch", 0)}
    return {**progress, **counts}


def epoch_words(progress: Mapping[str, Scalar]) -> str:
    """Return which epoch's weights a checkpoint holds if they are not the last ones, such as "best epoch 7 of 12"."""
    return f"best epoch {progress['epoch']} of {progress[LAST_EPOCH]}" if LAST_EPOCH in progress else ""


@dataclass(frozen=True)
class Entry:
    """An array in the file.

    Args:
        name: in the file.
        dtype: in NumPy's notation, such as <f4.
        shape: of the array.
        offset: position of its first byte in the file.
        digest: SHA-256 of its values.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    digest: str

    @cached_property
    def size(self) -> int:
        """Return the number of bytes."""
        return size_of(self.dtype, self.shape)


def size_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the number of bytes of an array."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def raw(array: Array) -> memoryview:
    """Return the bytes of an array; a copy only if it is not contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def digest_of(data: memoryview, pause: Action = no_pause) -> str:
    """Return the SHA-256 of bytes; `pause` is called before each piece of them."""
    digest = hashlib.sha256()
    for piece in pieces(data, pause):
        digest.update(piece)
    return digest.hexdigest()


def contents_of(entries: Iterable[Entry]) -> str:
    """Return the list of all arrays as JSON."""
    return json.dumps({entry.name: [entry.dtype, list(entry.shape), entry.offset, entry.digest] for entry in entries})


def digest_of_structure(file: BinaryIO | SparseFile, entries: Iterable[Entry]) -> str:
    """Return the SHA-256 of all bytes of a file behind its seal but those of its arrays."""
    digest = hashlib.sha256()
    start, size = SEAL_BYTES, file.seek(0, os.SEEK_END)
    for offset, length in [*sorted((entry.offset, entry.size) for entry in entries if entry.size), (size, 0)]:
        file.seek(start)
        while start < offset and (piece := file.read(min(offset - start, PIECE_BYTES))):
            digest.update(piece)
            start += len(piece)
        start = offset + length
    return digest.hexdigest()


def seal_of(digest: str) -> bytes:
    """Return the first bytes of a file, whose structure has this digest."""
    return f"{FORMAT} {FORMAT_VERSION}\nsha256 {digest}\n".encode().ljust(SEAL_BYTES, b"\0")


def begins_as_checkpoint(path: Path) -> bool:
    """Return True if a file begins as checkpoints do; raise UserError or StorageError if it cannot be read."""
    with reading_from(path), path.open("rb") as file:
        return file.read(len(FORMAT)) == FORMAT.encode()


def digest_arrays(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 of named arrays: their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        for piece in pieces(raw(array)):
            digest.update(piece)
    return digest.hexdigest()
