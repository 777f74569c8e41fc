"""What a checkpoint holds, and how it lies in an HDF5 file: the state of a run, whole or not at all.

    /model/<layer>/<parameter>                  weights
    /optimizer/<vector>/<layer>/<parameter>     the optimizer's vectors; `average` holds the weights to be used
    /method/<name>                              and its numbers
    /history/<column>                           one number an epoch
    /progress, /provenance                      attributes: where the run stands, what it ran on
    attributes of the root                      format, version, config (TOML), contents, digest

`contents` lists all arrays, each with its type, its shape and a SHA-256 of its values; `digest` is a SHA-256 over
that list, the config and all other attributes. So a file is either known to be whole, array by array, or refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbp.files import pieces
from dbp.types import Array

Scalar = int | float | str | bool
FORMAT, VERSION = "dbp checkpoint", 2
GROUPS = ("model", "optimizer", "method", "history")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run."""

    model: Mapping[str, Array]
    optimizer: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    method: Mapping[str, Array] = field(default_factory=dict)
    history: Mapping[str, Array] = field(default_factory=dict)
    progress: Mapping[str, Scalar] = field(default_factory=dict)
    provenance: Mapping[str, Scalar] = field(default_factory=dict)
    config: str = ""

    @property
    def trained(self) -> dict[str, Array]:
        """The weights to be used, and running moments: averaged weights, where the optimizer keeps an average."""
        return {**self.model, **self.optimizer.get("average", {})}

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """All arrays with their names in the file."""
        for name, array in self.model.items():
            yield f"model/{name}", array
        for vector, parameters in self.optimizer.items():
            for name, array in parameters.items():
                yield f"optimizer/{vector}/{name}", array
        for name, array in self.method.items():
            yield f"method/{name}", array
        for name, array in self.history.items():
            yield f"history/{name}", array


def assembled(arrays: Iterable[tuple[str, Array]], progress: Any, provenance: Any, config: str) -> Checkpoint:
    """The checkpoint that has these arrays, by their names in the file."""
    groups: dict[str, dict[str, Array]] = {group: {} for group in GROUPS}
    optimizer: dict[str, dict[str, Array]] = {}
    for name, array in arrays:
        group, _, rest = name.partition("/")
        groups[group][rest] = array
        if group == "optimizer":
            vector, _, parameter = rest.partition("/")
            optimizer.setdefault(vector, {})[parameter] = array
    return Checkpoint(groups["model"], optimizer, groups["method"], groups["history"], progress, provenance, config)


@dataclass(frozen=True)
class Entry:
    """An array of the file.

    Args:
        name: in the file.
        dtype: as NumPy writes it, such as <f4.
        shape: of the array.
        digest: SHA-256 of its values.
        offset: of its first byte in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: str
    offset: int = 0

    @property
    def size(self) -> int:
        """In bytes."""
        return size_of(self.dtype, self.shape)


def size_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Of an array, in bytes."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def raw(array: Array) -> memoryview:
    """The bytes of an array."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def digest_of(data: memoryview) -> str:
    """A SHA-256 of bytes."""
    digest = hashlib.sha256()
    for piece in pieces(data):
        digest.update(piece)
    return digest.hexdigest()


def entry_of(name: str, array: Array) -> Entry:
    """An array that is to be written."""
    return Entry(name, array.dtype.str, array.shape, digest_of(raw(array)))


def contents_of(entries: Iterable[Entry]) -> str:
    """The list of all arrays, as text."""
    return json.dumps({entry.name: [entry.dtype, list(entry.shape), entry.digest] for entry in entries})


def digest_of_all(version: int, contents: str, config: str, progress: Any, provenance: Any) -> str:
    """A SHA-256 over everything, as the list has those of the arrays."""
    words = json.dumps([FORMAT, version, contents, config, dict(progress), dict(provenance)], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def digest_arrays(arrays: Mapping[str, Array]) -> str:
    """A SHA-256 over arrays by name: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        for piece in pieces(raw(array)):
            digest.update(piece)
    return digest.hexdigest()
