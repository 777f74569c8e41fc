"""The number of BLAS threads. It changes the bits of a matrix product, so a run fixes it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Set the number of BLAS threads of this process within a with statement."""
    with _libraries().limit(limits=count, user_api="blas"):
        yield


@functools.cache
def _libraries() -> Any:
    """Return the BLAS libraries of this process; looking for them takes longer than a small prediction."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()
