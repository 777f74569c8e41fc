"""The division of the ranks among nodes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True)
class Nodes:
    """The ranks of each node.

    Args:
        sizes: number of ranks on each node; ranks are numbered node after node.
        rank: of this process.
    """

    sizes: tuple[int, ...]
    rank: int = 0

    @classmethod
    def alone(cls, ranks: int, rank: int) -> Nodes:
        """Return a division in which every rank has a node of its own."""
        return cls((1,) * ranks, rank)

    @property
    def count(self) -> int:
        """Return the number of nodes."""
        return len(self.sizes)

    @cached_property
    def runs(self) -> list[range]:
        """Return the ranks of each node."""
        ends = list(accumulate(self.sizes))
        return [range(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]

    @cached_property
    def _starts(self) -> list[int]:
        return [run.start for run in self.runs]

    def of_rank(self, rank: int) -> int:
        """Return the index of a rank's node."""
        return bisect_right(self._starts, rank) - 1

    @cached_property
    def mine(self) -> int:
        """Return the index of this rank's node."""
        return self.of_rank(self.rank)
