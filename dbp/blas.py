"""NumPy's BLAS in this process: its name, the number of its threads, and whether it prefers small products.

The number of threads changes the bits of a matrix product, so a run fixes it.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SMALL_PRODUCT = 10**6  # multiplications of a small matrix product, at most
# The kernels of OpenBLAS that read the matrices of a small product where they are, and do not copy them.
SMALL_PRODUCT_KERNELS = {"SkylakeX", "Cooperlake", "SapphireRapids"}
_open: list[tuple[int, object]] = []  # the number of threads of each open blas_threads() context, the newest last
_before: list[int] = []  # the number of each library when none was open
_lock = threading.Lock()  # as several threads of a program may predict at once


@contextlib.contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Set the number of BLAS threads of this process within a with statement.

    Statements of several threads of the program may overlap: the last of them to end restores what was there before.
    """
    libraries, context = _libraries(), (count, object())  # which equals no other
    with _lock:
        if not _open:
            _before[:] = [library.get_num_threads() for library in libraries]
        _open.append(context)
        _set_threads(libraries)
    try:
        yield
    finally:
        with _lock:
            _open.remove(context)
            _set_threads(libraries)


def _set_threads(libraries: Sequence[Any]) -> None:
    """Set the number of threads of each library to that of the newest open context, else to what it was before."""
    counts = [_open[-1][0]] * len(libraries) if _open else _before
    for library, count in zip(libraries, counts, strict=True):
        if library.get_num_threads() != count:
            library.set_num_threads(count)


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
    return [count for count, _ in _open[-1:]] == [1] and _kernel() in SMALL_PRODUCT_KERNELS


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
