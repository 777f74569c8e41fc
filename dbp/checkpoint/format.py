"""The content of a checkpoint, the state of a run, and its layout in an HDF5 file.

    /model/<layer>/<parameter>                  weights
    /optimizer/<vector>/<layer>/<parameter>     vectors of the optimizer; `average` replaces the weights for inference
    /method/<name>                              scalars of the optimizer
    /history/<column>                           one number per epoch
    /progress, /provenance                      attributes: counters of the run; versions, processor, host
    attributes of the root                      format, version, config (TOML), contents, digest

`contents` lists all arrays, each with its type, its shape and a SHA-256 of its values; `digest` is a SHA-256 of
that list, the config and all other attributes. So a damaged file is always noticed, array by array.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from dbp.files import pieces
from dbp.types import Array

Scalar = int | float | str | bool
FORMAT = "dbp checkpoint"
FORMAT_VERSION = 3  # rises whenever files of the version before cannot be read any more
GROUPS = ("model", "optimizer", "method", "history")


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
    """

    model: Mapping[str, Array]
    optimizer: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    method: Mapping[str, Array] = field(default_factory=dict)
    history: Mapping[str, Array] = field(default_factory=dict)
    progress: Mapping[str, Scalar] = field(default_factory=dict)
    provenance: Mapping[str, Scalar] = field(default_factory=dict)
    config: str = ""

    def inference_weights(self) -> dict[str, Array]:
        """Return the weights for inference and running moments: averaged weights if the optimizer keeps an average."""
        return {**self.model, **self.optimizer.get("average", {})}

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Yield the name in the file and the values of every array."""
        for name, array in self.model.items():
            yield f"model/{name}", array
        for vector, parameters in self.optimizer.items():
            for name, array in parameters.items():
                yield f"optimizer/{vector}/{name}", array
        for name, array in self.method.items():
            yield f"method/{name}", array
        for name, array in self.history.items():
            yield f"history/{name}", array

    @classmethod
    def from_arrays(cls, arrays: Iterable[tuple[str, Array]], progress: Any, provenance: Any, config: str) -> Self:
        """Return the checkpoint that has these arrays, given by their names in the file; the inverse of arrays()."""
        groups: dict[str, dict[str, Array]] = {group: {} for group in GROUPS}
        optimizer: dict[str, dict[str, Array]] = {}
        for name, array in arrays:
            group, _, rest = name.partition("/")
            groups[group][rest] = array
            if group == "optimizer":
                vector, _, parameter = rest.partition("/")
                optimizer.setdefault(vector, {})[parameter] = array
        return cls(groups["model"], optimizer, groups["method"], groups["history"], progress, provenance, config)


@dataclass(frozen=True)
class Entry:
    """An array in the file.

    Args:
        name: in the file.
        dtype: in NumPy's notation, such as <f4.
        shape: of the array.
        digest: SHA-256 of its values.
        offset: position of its first byte in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: str
    offset: int = 0

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return size_of(self.dtype, self.shape)


def size_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the number of bytes of an array."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def raw(array: Array) -> memoryview:
    """Return the bytes of an array; a copy only if it is not contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def digest_of(data: memoryview) -> str:
    """Return the SHA-256 of bytes."""
    digest = hashlib.sha256()
    for piece in pieces(data):
        digest.update(piece)
    return digest.hexdigest()


def entry_of(name: str, array: Array) -> Entry:
    """Return the entry of an array that is to be written, its position left open."""
    return Entry(name, array.dtype.str, array.shape, digest_of(raw(array)))


def contents_of(entries: Iterable[Entry]) -> str:
    """Return the list of all arrays as JSON."""
    return json.dumps({entry.name: [entry.dtype, list(entry.shape), entry.digest] for entry in entries})


def file_digest(contents: str, config: str, progress: Any, provenance: Any) -> str:
    """Return the SHA-256 of all of a file: its attributes, and the list of contents with the digests of the arrays."""
    text = json.dumps([FORMAT, FORMAT_VERSION, contents, config, dict(progress), dict(provenance)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_arrays(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 of named arrays: their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        for piece in pieces(raw(array)):
            digest.update(piece)
    return digest.hexdigest()
