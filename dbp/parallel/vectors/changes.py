"""Counters of updates in shared memory: they outlive a rank that dies while it changes shared vectors."""

from __future__ import annotations

import numpy as np

from dbp.parallel.machine.shared_memory import Bytes

LINE_BYTES = 64  # of a cache line: each rank writes to a line of its own


class Changes:
    """A context in which a rank changes vectors; it counts how often each rank has entered and left it.

    Args:
        memory: LINE_BYTES zeros for each rank that changes the same vectors.
        position: of this rank among them.
    """

    def __init__(self, memory: Bytes, position: int):
        self._counts = memory.view(np.int64).reshape(-1, LINE_BYTES // 8)[:, :2]
        self._mine = self._counts[position].data  # with less overhead than an array, for single numbers

    def __enter__(self) -> None:
        self._mine[0] += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self._mine[1] += 1

    @property
    def is_complete(self) -> bool:
        """Return True if all ranks have left the context as often as any has entered it.

        Call only while all other ranks wait or have died.
        """
        return bool((self._counts == self._counts[0, 0]).all())
