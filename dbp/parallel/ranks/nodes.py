"""How the ranks are dealt to nodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True)
class Nodes:
    """The ranks, node by node, and where this one is.

    Args:
        sizes: ranks of each node; they are numbered one node after the other.
        rank: of this process.
    """

    sizes: tuple[int, ...]
    rank: int = 0

    @classmethod
    def alone(cls, ranks: int, rank: int) -> Nodes:
        """As if every rank had a node of its own."""
        return cls((1,) * ranks, rank)

    @property
    def count(self) -> int:
        """The number of nodes."""
        return len(self.sizes)

    @cached_property
    def runs(self) -> list[range]:
        """The ranks of each node."""
        ends = list(accumulate(self.sizes))
        return [range(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]

    @cached_property
    def mine(self) -> int:
        """The number of this rank's node."""
        return next(node for node, run in enumerate(self.runs) if self.rank in run)
