"""The vectors that dbp, MPI and Gloo sum over ranks, and their expected sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
PATTERN = 251  # a prime number, so that pieces of equal length differ
ENOUGH = 1 << 20  # bytes summed in one repetition, so that the barriers around it cost little of its time


@dataclass(frozen=True)
class Vector:
    """A vector of float32 with a number of bytes."""

    bytes: int

    @classmethod
    def of(cls, text: str) -> Vector:
        """Return the vector of a size such as 4KiB; raise ValueError for other text."""
        count, unit = text[:-3], text[-3:]
        if unit not in UNITS or not count.isdecimal() or int(count) < 1:
            raise ValueError(f"a size is a whole number and one of {', '.join(UNITS)}, such as 4KiB, but not {text!r}")
        return cls(int(count) * UNITS[unit])

    @property
    def steps(self) -> int:
        """Return the number of sums in one repetition."""
        return max(1, min(100, ENOUGH // self.bytes))

    def values(self, factor: int) -> NDArray[np.float32]:
        """Return whole numbers, so small that they are summed without rounding."""
        return np.resize(np.arange(1, PATTERN + 1, dtype=np.float32) * np.float32(factor), self.bytes // 4)

    def of_rank(self, rank: int) -> NDArray[np.float32]:
        """Return the vector that a rank adds."""
        return self.values(rank + 1)

    def check(self, total: Any, ranks: int, name: str) -> None:
        """Raise RuntimeError unless a total is the sum of the vectors of all ranks."""
        if not np.array_equal(total, self.values(ranks * (ranks + 1) // 2)):
            raise RuntimeError(f"{name} has summed {self.bytes:,} bytes of {ranks} ranks wrongly")
