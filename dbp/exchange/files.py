"""Weights by name in the files of others, .safetensors and .npz: written, and read without trust in what they say."""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dbp.errors import UserError
from dbp.exchange.library import library
from dbp.types import Array

Shape = tuple[int, ...]
LONGEST_HEADER = 2**24  # bytes of a safetensors header, enough for some 100,000 arrays
HEAD = 2**16  # bytes at the start of an array of NumPy, among which its header must be
PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as NumPy packs them; others may take any memory to unpack
SAFETENSORS = "a .safetensors file"


class Weights(Protocol):
    """Arrays of a file by name, of which nothing is read but what is asked for."""

    names: tuple[str, ...]

    def shape(self, name: str) -> Shape:
        """What the file says is the shape."""
        ...

    def read(self, name: str) -> Array:
        """The numbers, in memory of the size that the shape says."""
        ...


@contextmanager
def _reading(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turns what goes wrong with a file into a UserError that names it."""
    caught: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, TypeError, RuntimeError, MemoryError, *errors)
    try:
        yield
    except caught as error:
        raise UserError(f"weights {path} are damaged, or of another format than {path.suffix}: {error}") from None


class NumpyWeights:
    """Those of an archive of NumPy; objects, which could be code, are refused."""

    def __init__(self, path: Path):
        self._path = path
        with self._reading():
            self._file = zipfile.ZipFile(path)
        self._members = {info.filename.removesuffix(".npy"): info for info in self._file.infolist()}
        self.names = tuple(self._members)

    def _reading(self) -> Any:
        return _reading(self._path, zipfile.BadZipFile, zlib.error, NotImplementedError)

    def _start(self, name: str) -> tuple[Shape, np.dtype[Any], int]:
        """Shape, type and the number of bytes before the numbers, from no more than the head of an array."""
        info = self._members[name]
        if info.compress_type not in PLAIN:
            raise UserError(f"weights {self._path}: {name!r} is packed as NumPy does not; save it with numpy.savez")
        with self._reading(), self._file.open(info) as member:
            head = io.BytesIO(member.read(HEAD))
            version = np.lib.format.read_magic(head)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(head)
            if min(shape, default=0) < 0:
                raise ValueError(f"{name!r} would be of shape {shape}")
        if dtype.kind not in "fiu":
            raise UserError(f"weights {self._path}: {name!r} must be numbers, but is of type {dtype}")
        return shape, dtype, head.tell()

    def shape(self, name: str) -> Shape:
        """What its header says."""
        return self._start(name)[0]

    def read(self, name: str) -> Array:
        """The numbers."""
        shape, dtype, start = self._start(name)
        with self._reading(), self._file.open(self._members[name]) as member:
            content = member.read(start + math.prod(shape) * dtype.itemsize)
            if member.read(1):
                raise ValueError(f"{name!r} is longer than its shape {shape}")
            return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


class SafeWeights:
    """Those of a safetensors file, whose library checks that arrays lie side by side within it."""

    def __init__(self, path: Path):
        safetensors = library("safetensors", SAFETENSORS)
        self._path, self._error = path, safetensors.SafetensorError
        with _reading(path, self._error):
            self._check_header()
            self._file = safetensors.safe_open(path, framework="numpy")
            self.names = tuple(self._file.keys())

    def _check_header(self) -> None:
        with self._path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > min(LONGEST_HEADER, self._path.stat().st_size):
            raise ValueError(f"its header would be of {length:,} bytes")

    def shape(self, name: str) -> Shape:
        """What the header says."""
        with _reading(self._path, self._error):
            return tuple(self._file.get_slice(name).get_shape())

    def read(self, name: str) -> Array:
        """The numbers."""
        with _reading(self._path, self._error):
            kind = self._file.get_slice(name).get_dtype()
            if kind[0] in "IU" or kind in ("F64", "F32", "F16"):
                return np.asarray(self._file.get_tensor(name))
        raise UserError(f"weights {self._path}: {name!r} is of type {kind}, which NumPy lacks; save it as float32")


def _safetensors(weights: Mapping[str, Array], properties: Mapping[str, str]) -> bytes:
    arrays = {name: np.asarray(array, order="C") for name, array in weights.items()}
    metadata = {"dbp": json.dumps(dict(properties))}  # one entry, as the library writes several in any order
    content: bytes = library("safetensors.numpy", SAFETENSORS).save(arrays, metadata=metadata)
    return content


def _npz(weights: Mapping[str, Array], _properties: Mapping[str, str]) -> bytes:
    """As numpy.savez has it, but of any name, and of no time: the same weights give the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
        for name, array in weights.items():
            with file.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return content.getvalue()


READERS: dict[str, Callable[[Path], Weights]] = {".safetensors": SafeWeights, ".npz": NumpyWeights}
WRITERS: dict[str, Callable[[Mapping[str, Array], Mapping[str, str]], bytes]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
}


def open_weights(path: Path) -> Weights:
    """The weights in a file, by its ending; UserError if there is none of that name, or it is not what it says."""
    if path.suffix not in READERS:
        raise UserError(f"weights {path} must be a file that ends in {' or '.join(READERS)}")
    if not path.is_file():
        raise UserError(f"weights {path} do not exist")
    return READERS[path.suffix](path)
