"""Shards: the S parts of every mini-batch, the spans of them that ranks own, and their summation tree.

A shard is computed by one rank alone and shards are summed along a binary tree over their numbers, so a
sum has the same bits whichever rank computed which shard.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dbp.checks import check_at_least


def parts(total: int, count: int, index: int) -> range:
    """Return the index-th of `count` contiguous parts of range(total), whose sizes differ by at most one."""
    return range(total * index // count, total * (index + 1) // count)


@dataclass(frozen=True)
class Shards:
    """The shards of every mini-batch, dealt to the ranks in contiguous spans.

    Args:
        count: number of shards.
        rank: this rank.
        ranks: number of ranks.
    """

    count: int
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        check_at_least(1, shards=self.count)

    def of_rank(self, rank: int) -> range:
        """Return the numbers of the shards that a rank owns; empty for an idle rank."""
        return parts(self.count, self.ranks, rank)

    @cached_property
    def mine(self) -> range:
        """Return the numbers of this rank's shards."""
        return self.of_rank(self.rank)

    @property
    def idle_ranks(self) -> list[int]:
        """Return the ranks that own no shard."""
        return [rank for rank in range(self.ranks) if not self.of_rank(rank)]

    def of_batch(self, examples: int, shard: int) -> range:
        """Return the positions in a mini-batch (or data set) that belong to a shard; may be empty."""
        return parts(examples, self.count, shard)


def pieces(span: slice, length: int) -> list[slice]:
    """Return a span of elements in pieces of this length, the last of which may be shorter."""
    return [slice(start, min(start + length, span.stop)) for start in range(span.start, span.stop, length)]
