"""The division of a long vector among the ranks of all nodes: who adds up, finishes and updates which part."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from dbp.parallel.ranks.messages import Message
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.shards import parts

GRAIN = 1024  # elements; parts of a vector begin at multiples of it, but for those of a bucket
NODE_GRAIN = 8 * GRAIN  # for the parts of nodes: with smaller ones many nodes would exchange very many short messages
BUCKET = 1 << 17  # elements that nodes exchange together, while backward computes the buckets before


@dataclass(frozen=True)
class Deal:
    """A vector dealt to the ranks.

    It is cut into buckets, a bucket into a part for each node, which finishes its sum, and such a part into one for
    each rank of a node. So every node, and every rank of a node, has the same share, over as many buckets.

    Args:
        size: of the vector.
        nodes: the ranks.
        bucket: elements of a bucket; one node has only one bucket.
    """

    size: int
    nodes: Nodes
    bucket: int = BUCKET

    @cached_property
    def buckets(self) -> list[slice]:
        """Return the buckets from the end of the vector to its beginning, the order in which backward fills them."""
        if self.nodes.count == 1:
            return [slice(0, self.size)]
        starts = range(0, self.size, self.bucket)
        return [slice(start, min(start + self.bucket, self.size)) for start in reversed(starts)]

    def added(self, bucket: slice, node: int, rank: int) -> slice:
        """Return the part that a rank adds up over the ranks of its own node, of what another node finishes."""
        own = self.nodes.runs[self.nodes.of_rank(rank)]
        return _cut(self._home(bucket, node), len(own), self._turned(bucket, len(own), rank - own.start))

    def _home(self, bucket: slice, node: int) -> slice:
        """Return the part of a bucket that a node finishes."""
        return _cut(bucket, self.nodes.count, self._turned(bucket, self.nodes.count, node), NODE_GRAIN)

    def _turned(self, bucket: slice, count: int, index: int) -> int:
        """Return which of `count` parts the index-th node, or rank, has: in each bucket another.

        Where there are more of them than grains, most have none, and in the next bucket others.
        """
        return (index + int(bucket.start) // self.bucket) % count

    def finished(self, bucket: slice) -> slice:
        """Return the part that this rank adds up over all nodes."""
        return self.added(bucket, self.nodes.mine, self.nodes.rank)

    def exchanged(self, bucket: slice, home: int, node: int) -> list[Message]:
        """Return what this rank and those of another node exchange, of what a node finishes: its home."""
        mine = self.added(bucket, home, self.nodes.rank)
        return _messages((rank, mine, self.added(bucket, home, rank)) for rank in self.nodes.runs[node])

    def homes(self, bucket: slice) -> list[int]:
        """Return the nodes that finish a part of a bucket: all, or as many as it has grains."""
        count, grains = self.nodes.count, -(-(bucket.stop - bucket.start) // NODE_GRAIN)
        if count <= grains:
            return list(range(count))
        indices = (-(-(grain + 1) * count // grains) - 1 for grain in range(grains))  # whose parts hold each grain
        return sorted((index - int(bucket.start) // self.bucket) % count for index in indices)

    @property
    def pieces(self) -> float:
        """Return how many pieces of the vector a rank of a full node adds up for other ranks to finish."""
        ranks, found = max(self.nodes.sizes), 0
        for bucket in self.buckets:
            homes = len(self.homes(bucket))
            found += homes * min(ranks, -(-(bucket.stop - bucket.start) // (max(homes, 1) * GRAIN)))
        return found / ranks

    @property
    def others(self) -> list[int]:
        """Return all nodes but this rank's, beginning with the next, so that not all begin with the same."""
        return [(self.nodes.mine + step) % self.nodes.count for step in range(1, self.nodes.count)]

    def common(self, bucket: slice, node: int) -> list[slice]:
        """Return the part that a node finishes in pieces, each dealt to a single rank on every node."""
        home, sizes = self._home(bucket, node), set(self.nodes.sizes)
        edges = {_cut(home, size, rank).start for size in sizes for rank in range(size)} | {home.start, home.stop}
        return [slice(*pair) for pair in pairwise(sorted(edges))]

    def broadcast_messages(self, buckets: Iterable[slice]) -> tuple[list[Message], list[Message]]:
        """Return what this rank sends and receives so that all nodes have the finished sums of buckets.

        Each message is a common() piece, so that it is the same for all nodes.
        """
        pairs, here = [(bucket, node) for bucket in buckets for node in self.others], self.nodes.mine

        def cut(bucket: slice, home: int, node: int) -> list[Message]:
            return _within(self.exchanged(bucket, home, node), self.common(bucket, home))

        sent = [message for bucket, node in pairs for message in cut(bucket, here, node)]
        return sent, [message for bucket, node in pairs for message in cut(bucket, node, node)]

    def updated(self, divided: bool) -> list[slice]:
        """Return the parts of the vector that this rank updates, from left to right.

        Args:
            divided: True if they are divided among all ranks; else among those of each node.
        """
        found = [part for bucket in self.buckets for part in self.updated_in(bucket, divided)]
        return joined(sorted(found, key=lambda part: part.start))

    def updated_in(self, bucket: slice, divided: bool) -> list[slice]:
        """Return the parts of a bucket that this rank updates."""
        nodes = [self.nodes.mine] if divided else range(self.nodes.count)
        found = (self.added(bucket, node, self.nodes.rank) for node in nodes)
        return [part for part in found if part.start < part.stop]


def job_broadcast_messages(nodes: Nodes, parts: Sequence[slice]) -> tuple[list[Message], list[Message]]:
    """Return what this rank sends and receives so that all nodes have parts that were dealt to all ranks in turn."""
    sent, received, count = [], [], sum(nodes.sizes)
    for number, part in enumerate(parts):
        writer = number % count
        for ranks in nodes.runs:
            reader = ranks[number % len(ranks)]  # receives for all ranks of its node
            if writer in ranks or part.start == part.stop:
                continue
            if nodes.rank == writer:
                sent.append(Message(reader, part))
            if nodes.rank == reader:
                received.append(Message(writer, part))
    return sent, received


def shares(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Return the numbers of the pieces of work that each of `count` ranks does.

    The longest piece goes next, to the rank with the least work so far (longest processing time first, Graham 1969).

    Args:
        lengths: of the pieces.
        count: of the ranks.
    """
    found: list[list[int]] = [[] for _ in range(count)]
    least = [(0, rank) for rank in range(count)]
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        length, rank = least[0]
        found[rank].append(number)
        heapq.heapreplace(least, (length + lengths[number], rank))
    return found


def _cut(span: slice, count: int, index: int, grain: int = GRAIN) -> slice:
    """Return the index-th of `count` parts of a span, which begin at multiples of a number of elements."""
    grains = parts(-(-(span.stop - span.start) // grain), count, index)
    start, stop = (min(span.start + edge * grain, span.stop) for edge in (grains.start, grains.stop))
    return slice(start, stop)


def _messages(pairs: Iterable[tuple[int, slice, slice]]) -> list[Message]:
    found = [Message(rank, slice(max(a.start, b.start), min(a.stop, b.stop))) for rank, a, b in pairs]
    return [message for message in found if message.part.start < message.part.stop]


def _within(messages: Iterable[Message], pieces: Sequence[slice]) -> list[Message]:
    """Return messages cut at the borders of pieces."""
    return _messages((message.rank, message.part, piece) for message in messages for piece in pieces)


def joined(spans: Sequence[slice]) -> list[slice]:
    """Return ordered spans, with those that touch joined."""
    found: list[slice] = []
    for span in spans:
        if found and found[-1].stop == span.start:
            found[-1] = slice(found[-1].start, span.stop)
        else:
            found.append(span)
    return found
