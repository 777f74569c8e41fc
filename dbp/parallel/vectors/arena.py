"""Vectors as long as all parameters: one copy for all ranks of a node where they can share memory.

Each rank then updates its own part of them, between two fences; else every rank has and updates a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from dbp.parallel.machine.shared_memory import Bytes, SharedMemory
from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.messages import Spread
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.vectors.changes import LINE, Changes
from dbp.parallel.vectors.collecting import collect, disperse
from dbp.parallel.vectors.deal import Deal, shares, spread_jobs
from dbp.parallel.vectors.layout import Layout
from dbp.types import Array

PAGE = 4096  # bytes; what different ranks write lies in different pages, so that each page is near its writer
DIVIDED_FROM = 8192  # elements; a shorter vector is updated by every rank in less time than two barriers take


def pages(length: int) -> int:
    """The length in bytes of the whole pages that hold so many bytes."""
    return -(-length // PAGE) * PAGE


def cut(memory: Bytes, lengths: list[int]) -> list[Bytes]:
    """Pieces of these lengths, one after the other, each beginning with a page."""
    starts = np.cumsum([0, *map(pages, lengths)])
    return [memory[start : start + length] for start, length in zip(starts, lengths, strict=False)]


class Arena:
    """Hands out vectors of zeros for the weights and the state of an optimizer.

    Args:
        comm: the ranks.
        size: length of a vector.
        dtype: type of a vector.
        vectors: how many will be asked for; all of them are shared, or none.
        share: whether ranks may share memory and divide work; the same bits come out of both ways.
        divide: whether each vector is divided among the ranks of all nodes, not only among those of each
            (Rajbhandari et al. 2020, ZeRO, stage 1): its parts are complete only after fence().
    """

    def __init__(
        self, comm: Communicator, size: int, dtype: Any, vectors: int = 1, share: bool = True, divide: bool = False
    ):
        self.comm, self.size, self.dtype, self.may_share = comm, size, np.dtype(dtype), share
        self.dealt = share and comm.size > 1 and size >= DIVIDED_FROM
        told = pages(LINE * max(comm.nodes.sizes))
        length = vectors * pages(size * self.dtype.itemsize) + told
        self._memory = comm.shared_memory(length) if self.dealt and max(comm.nodes.sizes) > 1 else None
        self._used = 0  # bytes of it
        together = self.shared or max(comm.nodes.sizes) == 1
        self.nodes = comm.nodes if together else Nodes.alone(comm.size, comm.rank)
        self.deal = Deal(size, self.nodes)
        self.divided = divide and self.dealt and self.nodes.count > 1
        self.owned = self.deal.updated(self.divided) if self.dealt else [slice(0, size)]
        self._spreads: dict[Hashable, Spread] = {}
        memory = self._memory.bytes[-told:] if self._memory is not None else np.zeros(LINE, np.uint8)
        self.changes = Changes(memory[: LINE * len(self.holders)], comm.rank - self.holders.start)

    @property
    def whole(self) -> bool:
        """Whether this copy of the vectors is that of a moment between two changes, when the others rest or are dead.

        It is not where a part is with each node, as those of the dead are lost.
        """
        return not self.divided and self.changes.complete

    @property
    def shared(self) -> bool:
        """Whether there is one copy for all ranks of a node, of which each updates the parts that it owns."""
        return self._memory is not None

    @property
    def holders(self) -> range:
        """The ranks that have one copy of the vectors with this one."""
        return self.nodes.runs[self.nodes.mine] if self.shared else range(self.comm.rank, self.comm.rank + 1)

    @property
    def description(self) -> str:
        """How many copies there are, and why."""
        ranks, nodes = self.comm.size, self.comm.nodes.count
        if ranks == 1:
            return "one copy"
        if self.shared:
            return f"one copy for {ranks} ranks" if nodes == 1 else f"a copy a node, for {ranks} ranks on {nodes} nodes"
        if nodes == ranks:
            return "a copy a rank, as each has a node of its own"
        reason = "it is small" if self.size < DIVIDED_FROM else self.comm.refused
        return f"a copy a rank, as {reason if self.may_share else 'asked for'}"

    @property
    def lacks_memory(self) -> bool:
        """Whether ranks of one node have copies of their own only because they could not share memory."""
        return self.dealt and not self.shared and max(self.comm.nodes.sizes) > 1

    def memory(self, length: int) -> SharedMemory | None:
        """More memory for the ranks that share a copy; collective. None, on all ranks, if it cannot be had."""
        if self.dealt and not self.shared:
            return SharedMemory(np.zeros(length, np.uint8))
        return self.comm.shared_memory(length)

    def vector(self) -> Array:
        """A new vector of zeros; collective."""
        vector: Array = self.vectors(1)[0]
        return vector

    def vectors(self, count: int) -> Array:
        """New vectors of zeros, the rows of one array; collective."""
        if not self.shared:
            return np.zeros((count, self.size), self.dtype)
        assert self._memory is not None
        length, start, ranks = pages(self.size * self.dtype.itemsize), self._used, self.holders
        self._used += count * length
        memory = self._memory.bytes[start : self._used]
        rows: Array = memory.view(self.dtype).reshape(count, length // self.dtype.itemsize)[:, : self.size]
        for part in self.owned:
            rows[:, part] = 0  # the first to write to a page has it in the memory of its own socket
        self.comm.node_barrier()
        self._memory.use_huge_pages(start, self._used, len(ranks), self.comm.rank - ranks.start)
        return rows

    def fill(self, vector: Array, layout: Layout, write: Callable[[str, Array], object]) -> None:
        """Have the whole of a vector written, each parameter by one of the ranks that have one copy; collective.

        Every copy is written, without a word between nodes.

        Args:
            vector: of this arena.
            layout: of the parameters in it.
            write: takes a parameter's name, and its place in the vector.
        """
        places = list(layout.views(vector, writable=True).items())
        dealt = shares([place.size for _, place in places], len(self.holders))
        for number in dealt[self.comm.rank - self.holders.start]:
            write(*places[number])
        if self.shared:
            self.comm.node_barrier()

    def settle(self, vector: Array) -> None:
        """Give what rank 0 knows of a vector to all, in case that others have come to other bits; collective."""
        self.fence(vector)
        self.give(vector)

    def give(self, vector: Array) -> None:
        """What rank 0 has written to the whole of a vector, for all; collective."""
        if self.shared:
            self.comm.between_nodes(vector)
            self.comm.node_barrier()
        else:
            self.comm.broadcast_array(vector)

    def fence(self, vector: Array) -> None:
        """After it all ranks see what the owners have written to a vector; collective."""
        if self.divided:
            if id(vector) not in self._spreads:
                self._spreads[id(vector)] = Spread(self.comm, vector, *self.deal.spread(self.deal.buckets))
            self._spreads[id(vector)]()
        if self.shared:
            self.comm.node_barrier()

    def jobs(self, count: int) -> range:
        """Which of so many pieces of work, whose results go into vectors, this rank does for those that see them."""
        if not self.dealt:
            return range(count)
        ranks = range(self.comm.size) if self.divided else self.nodes.runs[self.nodes.mine]
        return range(self.comm.rank - ranks.start, count, len(ranks))

    def fence_jobs(self, vector: Array, parts: Sequence[slice]) -> None:
        """After it all ranks see these parts of a vector, each written by who had its number in jobs(); collective."""
        if self.divided:
            key = id(vector), tuple((part.start, part.stop) for part in parts)
            if key not in self._spreads:
                self._spreads[key] = Spread(self.comm, vector, *spread_jobs(self.nodes, parts))
            self._spreads[key]()
        if self.shared:
            self.comm.node_barrier()

    def owned_in(self, bucket: slice) -> list[slice]:
        """The parts of a bucket that this rank updates."""
        return self.deal.updated_in(bucket, self.divided)

    def owned_by(self, rank: int) -> list[slice]:
        """What a rank updates of a vector that is divided among all ranks."""
        return Deal(self.size, Nodes(self.nodes.sizes, rank)).updated(divided=True)

    def collected(self, vector: Array, whole: Array | None = None) -> Array:
        """The whole of a vector on rank 0, whoever owns which part of it; elsewhere what there is of it; collective.

        Args:
            vector: of this arena.
            whole: where rank 0 wants it; by default in new memory.
        """
        if not self.divided:
            return vector
        if whole is None or self.comm.rank > 0:
            whole = np.empty_like(vector) if self.comm.rank == 0 else vector
        collect(self.comm, self._owners, vector, whole)
        return whole

    def dispersed(self, whole: Array, vector: Array) -> None:
        """What rank 0 has of a vector, for all who own or see parts of it; collective.

        Args:
            whole: on rank 0; it may be the vector itself.
            vector: of this arena.
        """
        if not self.divided:
            if self.comm.rank == 0 and whole is not vector:
                vector[:] = whole
            self.give(vector)
            return
        disperse(self.comm, self._owners, whole, vector)
        if self.shared:
            self.comm.node_barrier()

    @property
    def _owners(self) -> dict[int, list[slice]]:
        """What each rank has of a vector that is divided among all; what those near rank 0 have, it sees itself."""
        near, ranks = self.nodes.runs[0], range(self.comm.size)
        there = {0: [part for rank in near for part in self.owned_by(rank)]}
        return there | {rank: self.owned_by(rank) for rank in ranks if rank not in near}

    def free(self) -> None:
        """Give shared memory back; collective. Its vectors must not be used any more."""
        for spread in self._spreads.values():
            spread.free()
        if self._memory is not None:
            self._memory.free()
