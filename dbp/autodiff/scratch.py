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
_ones: dict[np.dtype[Any], Array] = {}


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
    return _constants(_zeros, math.prod(shape), dtype, 0).reshape(shape)


def ones(count: int, dtype: np.dtype[Any]) -> Array:
    """Return so many ones, not to be written."""
    return _constants(_ones, count, dtype, 1)


def _constants(kept: dict[np.dtype[Any], Array], count: int, dtype: np.dtype[Any], value: int) -> Array:
    """Return so many times a value, a part of the longest array of it that was asked for."""
    found = kept.get(dtype)
    if found is None or found.size < count:
        found = kept[dtype] = np.full(count, value, dtype)
        found.flags.writeable = False
    return found[:count]
