"""Read and write weights by name in .safetensors and .npz files; nothing in a file is trusted."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from dbp.data import Archive
from dbp.errors import UserError
from dbp.library import library
from dbp.types import Array

Shape = tuple[int, ...]
MAX_HEADER_BYTES = 2**24  # of safetensors, enough for some 100,000 arrays
SAFETENSORS = "a .safetensors file"
PICKLED = (".pt", ".pth", ".bin")  # endings of PyTorch's files, whose pickles could run code


class Weights(Protocol):
    """The arrays of a file by name, each of which is read when it is asked for."""

    names: tuple[str, ...]

    def shape(self, name: str) -> Shape:
        """Return the shape according to the file."""
        ...

    def read(self, name: str) -> Array:
        """Read the values, in no more memory than the shape needs."""
        ...


@contextmanager
def _reading(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Raise UserError with the name of the file in place of an error while it is read."""
    caught: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, TypeError, RuntimeError, MemoryError, *errors)
    try:
        yield
    except caught as error:
        raise UserError(f"weights {path} are damaged, or of another format than {path.suffix}: {error}") from None


class SafeWeights:
    """The arrays of a safetensors file, whose library checks that they do not overlap."""

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
        if length > min(MAX_HEADER_BYTES, self._path.stat().st_size):
            raise ValueError(f"its header would be of {length:,} bytes")

    def shape(self, name: str) -> Shape:
        """Return the shape in the header of the file."""
        with _reading(self._path, self._error):
            return tuple(self._file.get_slice(name).get_shape())

    def read(self, name: str) -> Array:
        """Read the values."""
        with _reading(self._path, self._error):
            kind = self._file.get_slice(name).get_dtype()
            if kind[0] in "IU" or kind in ("F64", "F32", "F16", "C64"):
                return np.asarray(self._file.get_tensor(name))
        raise UserError(f"weights {self._path}: {name!r} is of type {kind}, which NumPy lacks; save it as float32")


def _safetensors(weights: Mapping[str, Array], properties: Mapping[str, str]) -> bytes:
    arrays = {name: np.asarray(array, order="C") for name, array in weights.items()}
    for name, array in arrays.items():
        if array.dtype == np.complex128:
            raise UserError(
                f"{name!r} is of type {array.dtype}, which .safetensors files do not hold; take .npz or .pt"
            )
    metadata = {"dbp": json.dumps(dict(properties))}  # one entry, as the library writes several in random order
    content: bytes = library("safetensors.numpy", SAFETENSORS).save(arrays, metadata=metadata)
    return content


def _npz(weights: Mapping[str, Array], _properties: Mapping[str, str]) -> bytes:
    """Pack arrays as numpy.savez does, but under any name and without time, so that equal weights give equal bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
        for name, array in weights.items():
            with file.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return content.getvalue()


READERS: dict[str, Callable[[Path], Weights]] = {
    ".safetensors": SafeWeights,
    ".npz": lambda path: Archive(path, f"weights {path}", kinds="fiuc"),
}
WRITERS: dict[str, Callable[[Mapping[str, Array], Mapping[str, str]], bytes]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
}


def open_weights(path: Path) -> Weights:
    """Open a file of weights by its ending; raise UserError if it is missing or damaged."""
    if path.suffix not in READERS:
        pickled = "; in PyTorch, safetensors.torch.save_file(net.state_dict(), ...) writes one"
        remedy = pickled if path.suffix in PICKLED else ""
        raise UserError(f"weights {path} must be a file that ends in {' or '.join(READERS)}{remedy}")
    if not path.is_file():
        raise UserError(f"weights {path} do not exist")
    return READERS[path.suffix](path)
