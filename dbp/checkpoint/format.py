"""Named arrays to an HDF5 file and back: the state of a run, whole or not at all.

    /model/<layer>/<parameter>                  weights
    /optimizer/<vector>/<layer>/<parameter>     the optimizer's vectors; `average` holds the weights to be used
    /method/<name>                              and its numbers
    /history/<column>                           one number an epoch
    /progress, /provenance                      attributes: where the run stands, what it ran on
    attributes of the root                      format, version, config (TOML), contents, digest

`contents` lists all arrays with types and shapes, and `digest` is a SHA-256 over names, types, shapes,
values and attributes, so that a file is either known to be whole or refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dbp.errors import UserError

Array = NDArray[Any]
Scalar = int | float | str | bool
FORMAT, VERSION = "dbp checkpoint", 1


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


def digest_arrays(arrays: Mapping[str, Array]) -> str:
    """A SHA-256 over arrays by name: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _digest(checkpoint: Checkpoint) -> str:
    words = json.dumps(
        [FORMAT, VERSION, checkpoint.config, dict(checkpoint.progress), dict(checkpoint.provenance)],
        sort_keys=True,
    )
    return hashlib.sha256((words + digest_arrays(dict(checkpoint.arrays()))).encode()).hexdigest()


def _set(attributes: h5py.AttributeManager, name: str, value: Scalar) -> None:
    if isinstance(value, str):  # of fixed length, as h5ls and old readers show them best
        data = value.encode()
        attributes.create(name, np.bytes_(data), dtype=h5py.string_dtype("utf-8", max(1, len(data))))
    else:
        attributes[name] = value


def to_image(checkpoint: Checkpoint) -> bytes:
    """The bytes of the HDF5 file, built in memory: a half-written one can never be taken for a whole one."""
    with h5py.File("image", "w", driver="core", backing_store=False, libver=("v108", "v110")) as file:
        contents = {}
        for name, array in checkpoint.arrays():
            file.create_dataset(name, data=array)
            contents[name] = [array.dtype.str, list(array.shape)]
        for group in ("progress", "provenance"):
            attributes = file.require_group(group).attrs
            for key, value in getattr(checkpoint, group).items():
                _set(attributes, key, value)
        root: dict[str, Scalar] = {"format": FORMAT, "version": VERSION, "config": checkpoint.config}
        for key, value in (*root.items(), ("contents", json.dumps(contents)), ("digest", _digest(checkpoint))):
            _set(file.attrs, key, value)
        file.flush()
        return bytes(file.id.get_file_image())


def read(path: Path) -> Checkpoint:
    """The checkpoint in a file, verified.

    Raises:
        UserError: the file is missing, not a checkpoint, of a newer version, damaged, or not made by dbp.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        with h5py.File(path, "r") as file:
            return _read(file, path.stat().st_size)
    except UserError as error:
        raise UserError(f"checkpoint {path} {error}") from None
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError) as error:
        raise UserError(f"checkpoint {path} is damaged or not a checkpoint: {error}") from None


def _read(file: h5py.File, file_size: int) -> Checkpoint:
    root = _attributes(file)
    if root.get("format") != FORMAT:
        raise UserError("is not a checkpoint of dbp")
    if root["version"] > VERSION:
        raise UserError(f"has format {root['version']}, but this dbp reads up to {VERSION}; update dbp")
    arrays: dict[str, dict[str, Array]] = {"model": {}, "optimizer": {}, "method": {}, "history": {}}
    room = file_size
    for name, (dtype, shape) in json.loads(root["contents"]).items():
        room -= math.prod(shape) * np.dtype(dtype).itemsize
        group, _, rest = name.partition("/")
        arrays[group][rest] = _array(file, name, dtype, tuple(shape), room)
    optimizer: dict[str, dict[str, Array]] = {}
    for name, array in arrays["optimizer"].items():
        vector, _, parameter = name.partition("/")
        optimizer.setdefault(vector, {})[parameter] = array
    checkpoint = Checkpoint(
        model=arrays["model"],
        optimizer=optimizer,
        method=arrays["method"],
        history=arrays["history"],
        progress=_attributes(file["progress"]),
        provenance=_attributes(file["provenance"]),
        config=root["config"],
    )
    if _digest(checkpoint) != root["digest"]:
        raise UserError("is damaged: its contents do not match their digest")
    return checkpoint


def _attributes(item: Any) -> dict[str, Any]:
    values = {}
    for key in item.attrs:
        value = item.attrs[key]
        values[key] = value.decode() if isinstance(value, bytes) else getattr(value, "item", lambda v=value: v)()
    return values


def _array(file: h5py.File, name: str, dtype: str, shape: tuple[int, ...], room: int) -> Array:
    """One array, only if it lies in this very file, in one piece, as large as the contents say."""
    place: Any = file
    for part in name.split("/"):
        if not isinstance(place.get(part, getlink=True), h5py.HardLink):
            raise UserError(f"is damaged or not made by dbp: {name!r} is missing or a link")
        place = place[part]
    plain = isinstance(place, h5py.Dataset) and not place.is_virtual and place.external is None
    if not plain or place.chunks is not None or place.dtype.str != dtype or place.dtype.kind not in "fiu":
        raise UserError(f"is not made by dbp: {name!r} is not a plain array of type {dtype}")
    if place.shape != shape or room < 0:
        raise UserError(f"is damaged or not made by dbp: {name!r} is larger than the file or than it says")
    return np.asarray(place[()])
