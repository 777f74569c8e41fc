"""Files as torch.save writes them for a dictionary of arrays, written without PyTorch.

A zip archive holds a pickle of the dictionary, whose tensors refer to their numbers, and the numbers of each tensor in
a file of their own. The pickle names no more than torch.load(weights_only=True) allows.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

from dbp.errors import UserError
from dbp.types import Array

FOLDER = "archive"
STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage"}
STORAGES |= {"complex64": "ComplexFloatStorage", "complex128": "ComplexDoubleStorage"}


def pt_file(weights: Mapping[str, Array], _properties: Mapping[str, str]) -> bytes:
    """Return the bytes of a file from which torch.load reads these arrays as tensors by name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:

        def add(name: str, data: bytes) -> None:
            file.writestr(zipfile.ZipInfo(f"{FOLDER}/{name}"), data)  # without time: equal weights give equal bytes

        add("data.pkl", _pickled(weights))
        add("byteorder", b"little")
        for number, array in enumerate(weights.values()):
            add(f"data/{number}", np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
        add("version", b"3\n")
    return content.getvalue()


def _pickled(weights: Mapping[str, Array]) -> bytes:
    """Return the pickle of a dictionary of tensors, opcode by opcode, as pickling needs classes of PyTorch."""
    items = b"".join(_text(name) + _tensor(n, name, array) for n, (name, array) in enumerate(weights.items()))
    return pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS + pickle.STOP


def _tensor(number: int, name: str, array: Array) -> bytes:
    """Return the call that makes a tensor of the numbers in a file of the archive."""
    if array.dtype.name not in STORAGES:
        raise UserError(f"{name!r} is of type {array.dtype}, which .pt files of dbp do not hold; take .safetensors")
    strides = np.empty(array.shape, np.int8).strides  # in elements, of an array in order
    kind = _class("torch", STORAGES[array.dtype.name])
    storage = _tuple(_text("storage"), kind, _text(str(number)), _text("cpu"), _integer(array.size))
    arguments = _tuple(
        storage + pickle.BINPERSID,
        _integer(0),
        _tuple(*map(_integer, array.shape)),
        _tuple(*map(_integer, strides)),
        pickle.NEWFALSE,  # requires_grad
        _class("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE,  # hooks
    )
    return _class("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    data = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(data)]) + data


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _class(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()
