"""NumPy's BLAS in this process: its name, the number of its threads, and whether it prefers small products.

The number of threads changes the bits of a matrix product, so a run fixes it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SMALL_PRODUCT = 10**6  # multiplications of a small matrix product, at most
# The kernels of OpenBLAS that read the matrices of a small product where they are, and do not copy them.
SMALL_PRODUCT_KERNELS = {"SkylakeX", "Cooperlake", "SapphireRapids"}
_thread_counts: list[int] = []  # of the blas_threads() contexts that are open, the innermost last


@contextlib.contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Set the number of BLAS threads of this process within a with statement."""
    libraries = _libraries()
    before = [library.get_num_threads() for library in libraries]
    _set_threads(libraries, before, [count] * len(libraries))
    _thread_counts.append(count)
    try:
        yield
    finally:
        _thread_counts.pop()
        _set_threads(libraries, [count] * len(libraries), before)


def _set_threads(libraries: Sequence[Any], before: Sequence[int], after: Sequence[int]) -> None:
    """Set the number of threads of each library whose number is another."""
    for library, now, then in zip(libraries, before, after, strict=True):
        if now != then:
            library.set_num_threads(then)


@functools.cache
def _libraries() -> Sequence[Any]:
    """Return the BLAS libraries of this process; looking for them takes longer than a small prediction."""
    import threadpoolctl

    found: Sequence[Any] = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
    return found


def prefers_small_products() -> bool:
    """Return True if a large product takes less time as many small ones.

    OpenBLAS copies the matrices of a large product into an order of its own, which takes as long as the product itself
    if one of them has few rows. In one thread some of its kernels read those of a small product where they are.
    """
    return _thread_counts[-1:] == [1] and _kernel() in SMALL_PRODUCT_KERNELS


@functools.cache
def _kernel() -> str:
    """Return the name of the kernel that NumPy's BLAS has chosen for the processor."""
    return blas_text().rpartition(" ")[2]


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
