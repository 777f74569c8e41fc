"""The number of BLAS threads. It changes the bits of a matrix product, so a run fixes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def blas_threads(count: int) -> Iterator[str]:
    """Set the number of BLAS threads of this process within a with statement; yield the kernel that BLAS chose."""
    import threadpoolctl

    with threadpoolctl.threadpool_limits(count, user_api="blas"):
        pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        yield ", ".join(f"{p['internal_api']} {p['version']} {p.get('architecture', '')}".strip() for p in pools)
