"""The kernels that NumPy computes with in this process, on which the bits of results depend."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from dbp.blas import blas_text


class Kernels(NamedTuple):
    """What decides on the bits of this process's NumPy.

    Args:
        numpy: its version.
        blas: name, version and kernel of its BLAS; empty if unknown.
        cpu_features: the features of the processor that it uses.
        c_library: name and version of the C library, which computes some functions; empty if unknown.
    """

    numpy: str
    blas: str
    cpu_features: str
    c_library: str

    @classmethod
    def in_force(cls) -> Kernels:
        """Return those of this process."""
        return cls(np.__version__, blas_text(), " ".join(_cpu_features()), _c_library())


def _cpu_features() -> list[str]:
    from numpy._core import _multiarray_umath as umath  # type: ignore[attr-defined]

    names = [*umath.__cpu_baseline__, *umath.__cpu_dispatch__]
    return [name for name in names if umath.__cpu_features__.get(name)]


def _c_library() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):  # another C library
        return ""
