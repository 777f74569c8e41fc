"""Scratch memory that is reused from call to call, because new large arrays cost a page fault every 4 KB.

Each thread has its own. The content of a buffer is undefined when it is returned.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from dbp.types import Array

_CACHE_LINE = 64  # bytes
_kept = threading.local()
_zeros: dict[np.dtype[Any], Array] = {}


def buffer(name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Return an array over the memory kept under `name`, valid until the next call with this name."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    kept: dict[str, npt.NDArray[np.uint8]] = _kept.__dict__
    if name not in kept or kept[name].size < size:
        memory = np.empty(size + _CACHE_LINE, np.uint8)
        start = -memory.ctypes.data % _CACHE_LINE
        kept[name] = memory[start : start + size]
    return kept[name][:size].view(dtype).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros to compare a piece with, for which NumPy is three times slower with a scalar; not to be written."""
    size, found = math.prod(shape), _zeros.get(dtype)
    if found is None or found.size < size:
        found = _zeros[dtype] = np.zeros(size, dtype)
        found.flags.writeable = False
    return found[:size].reshape(shape)
