"""Whether vectors that ranks share are whole: told in memory that outlives the rank that was changing them."""

from __future__ import annotations

import numpy as np

from dbp.parallel.machine.shared_memory import Bytes

LINE = 64  # bytes of a line of the cache, so that ranks do not take it from each other


class Changes:
    """Counts how often each rank has begun to change vectors, and how often it was done, in a with statement.

    Args:
        memory: LINE bytes of zeros for each rank that changes the same vectors.
        mine: this rank's place among them.
    """

    def __init__(self, memory: Bytes, mine: int):
        self._counts = memory.view(np.int64).reshape(-1, LINE // 8)[:, :2]
        self._mine = self._counts[mine]

    def __enter__(self) -> None:
        self._mine[0] += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self._mine[1] += 1

    @property
    def complete(self) -> bool:
        """Whether all have made the same changes, and none had begun another; to be asked when the others rest."""
        return bool((self._counts == self._counts[0, 0]).all())
