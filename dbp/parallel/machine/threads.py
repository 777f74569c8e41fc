"""The number of BLAS threads. It changes the bits of a matrix product, so a run fixes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dbp.parallel.machine.kernels import blas_text


@contextlib.contextmanager
def blas_threads(count: int) -> Iterator[str]:
    """Set the number of BLAS threads of this process within a with statement; yield NumPy's BLAS and its kernel."""
    import threadpoolctl

    with threadpoolctl.threadpool_limits(count, user_api="blas"):
        yield blas_text()
