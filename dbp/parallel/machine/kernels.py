"""The kernels that NumPy computes with in this process, on which the bits of results depend."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


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


def blas_text() -> str:
    """Return name, version and kernel of NumPy's BLAS; empty if unknown."""
    import threadpoolctl

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return ", ".join(
        f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip() for pool in _of_numpy(pools)
    )


def _of_numpy(pools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return NumPy's own BLAS among those in this process: the one in its wheel, or else one that is in no wheel.

    SciPy and scikit-learn bring libraries of their own.
    """
    numpy = Path(np.__file__).parent
    folders = {str(numpy / ".dylibs"), str(numpy.with_name("numpy.libs"))}
    of_folder = {id(pool): str(Path(pool["filepath"]).parent) for pool in pools}
    own = [pool for pool in pools if of_folder[id(pool)] in folders]
    return own or [pool for pool in pools if not of_folder[id(pool)].endswith((".libs", ".dylibs"))]


def _cpu_features() -> list[str]:
    from numpy._core import _multiarray_umath as umath  # type: ignore[attr-defined]

    names = [*umath.__cpu_baseline__, *umath.__cpu_dispatch__]
    return [name for name in names if umath.__cpu_features__.get(name)]


def _c_library() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):  # another C library
        return ""
