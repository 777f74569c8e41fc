"""The vectors of all parameters, as optimizers see them: one copy for all ranks of a node if they can share memory.

Each rank then updates its own part of them, between two fences; else every rank has and updates a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from dbp.parallel.machine.shared_memory import SharedMemory
from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.messages import PartBroadcast
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.vectors.changes import LINE_BYTES, Changes
from dbp.parallel.vectors.deal import Deal, job_broadcast_messages, joined, shares
from dbp.parallel.vectors.gather import gather_parts, scatter_parts
from dbp.parallel.vectors.layout import Layout
from dbp.parallel.vectors.pages import page_bytes
from dbp.parallel.vectors.products import Products
from dbp.parallel.vectors.row_deal import RowDeal
from dbp.parallel.vectors.shared_tables import SharedTables
from dbp.types import Array

DIVIDED_FROM = 8192  # elements; every rank updates a shorter vector in less time than two barriers take


class Arena(Products):
    """Vectors for the weights and the state of an optimizer: who owns which parts, and products of vectors.

    It is both the space and the root of the cost that optimizers see; see VectorSpace and Root in optim/protocols.py.

    Args:
        comm: the ranks.
        layout: of the parameters in a vector.
        dtype: type of a vector.
        vectors: how many will be asked for; all of them are shared, or none.
        share: True if ranks may share memory and divide work; the bits are the same both ways.
        divide: True if each vector is divided among the ranks of all nodes, not only among those of each
            (Rajbhandari et al. 2020, ZeRO, stage 1): its parts are complete only after fence().

    Attributes:
        dealt: True if ranks own different parts of a vector.
        divided: True if ranks of different nodes do.
        owned: the parts of each vector that this rank updates; others may update the rest.
        dense: the space of gradients, which are as long as the parameters before the tables: the same arena if there
            are no tables.
        row_deals: who updates which rows of each table.
        changing: a context in which vectors are changed.
    """

    def __init__(
        self, comm: Communicator, layout: Layout, dtype: Any, vectors: int = 1, share: bool = True, divide: bool = False
    ):
        self.comm, self.layout, self.dtype, self.may_share = comm, layout, np.dtype(dtype), share
        self.ranks, self.size = comm.size, layout.size
        self.dealt = share and comm.size > 1 and self.size >= DIVIDED_FROM
        counters = page_bytes(LINE_BYTES * max(comm.nodes.sizes))
        length = vectors * page_bytes(self.size * self.dtype.itemsize) + counters
        self._memory = comm.node.allocate(length) if self.dealt and max(comm.nodes.sizes) > 1 else None
        self._used_bytes = 0
        by_node = self.shared or max(comm.nodes.sizes) == 1
        self.nodes = comm.nodes if by_node else Nodes.alone(comm.size, comm.rank)
        self.deal = Deal(layout.dense.size, self.nodes)
        self.divided = divide and self.dealt and self.nodes.count > 1
        self.tables = SharedTables(comm, self.shared, self.divided)
        self._broadcasts: dict[Hashable, PartBroadcast] = {}
        memory = self._memory.bytes[-counters:] if self._memory is not None else np.zeros(LINE_BYTES, np.uint8)
        self.changing = Changes(memory[: LINE_BYTES * len(self.holders)], comm.rank - self.holders.start)
        self.owned = self.deal.updated(self.divided) if self.dealt else [slice(0, layout.dense.size)]
        self.dense = self if not layout.tables else self._without_tables()
        updaters = self.nodes.runs[self.nodes.mine] if self.dealt else range(comm.rank, comm.rank + 1)
        self.row_deals = [RowDeal(table, len(updaters), comm.rank - updaters.start) for table in layout.row_tables]
        self.owned = joined([*self.owned, *(part for deal in self.row_deals for part in deal.parts)])

    def _without_tables(self) -> Self:
        """Return the same arena for vectors without the tables, of which it makes none."""
        dense = copy.copy(self)
        dense.layout, dense.size = self.layout.dense, self.layout.dense.size
        return dense

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of the parameters, by name, in their order in a vector."""
        return self.layout.shapes

    @property
    def is_consistent(self) -> bool:
        """Return True if no update was in progress, so that a run can resume from this copy.

        Call only while all other ranks wait or have died. A divided copy never is, as the parts of the dead are lost.
        """
        return not self.divided and self.changing.is_complete

    @property
    def shared(self) -> bool:
        """Return True if the ranks of a node share one copy, of which each updates the parts that it owns."""
        return self._memory is not None

    @property
    def holders(self) -> range:
        """Return the ranks that share a copy of the vectors with this one."""
        return self.nodes.runs[self.nodes.mine] if self.shared else range(self.comm.rank, self.comm.rank + 1)

    @property
    def description(self) -> str:
        """Return in words how many copies there are, and why."""
        ranks, nodes = self.comm.size, self.comm.nodes.count
        if ranks == 1:
            return "one copy"
        if self.shared:
            return (
                f"one copy for {ranks} ranks"
                if nodes == 1
                else f"one copy per node, for {ranks} ranks on {nodes} nodes"
            )
        if nodes == ranks:
            return "one copy per rank, as each has a node of its own"
        reason = "vectors are short" if self.size < DIVIDED_FROM else self.comm.node.refusal
        return f"one copy per rank, as {reason if self.may_share else 'requested'}"

    @property
    def lacks_memory(self) -> bool:
        """Return True if ranks of one node have copies of their own only because they could not share memory."""
        return self.dealt and not self.shared and max(self.comm.nodes.sizes) > 1

    def memory(self, length: int) -> SharedMemory | None:
        """Return more memory for the ranks that share a copy, or None if there is too little; collective."""
        if self.dealt and not self.shared:
            return SharedMemory(np.zeros(length, np.uint8))
        return self.comm.node.allocate(length)

    def vector(self) -> Array:
        """Return a new vector of zeros; collective."""
        vector: Array = self.vectors(1)[0]
        return vector

    def vectors(self, count: int) -> Array:
        """Return new vectors of zeros, the rows of one array; collective."""
        if not self.shared:
            return np.zeros((count, self.size), self.dtype)
        assert self._memory is not None
        length, start, ranks = page_bytes(self.size * self.dtype.itemsize), self._used_bytes, self.holders
        self._used_bytes += count * length
        memory = self._memory.bytes[start : self._used_bytes]
        rows: Array = memory.view(self.dtype).reshape(count, length // self.dtype.itemsize)[:, : self.size]
        for part in self.owned:
            rows[:, part] = 0  # the first to write to a page has it in the memory of its own socket
        self.comm.node.barrier()
        self._memory.use_huge_pages(start, self._used_bytes, len(ranks), self.comm.rank - ranks.start)
        return rows

    def fill(self, vector: Array, write: Callable[[str, Array], object]) -> None:
        """Write a whole vector, each parameter by one of the ranks that share a copy; collective.

        Every copy is written, without messages between nodes.

        Args:
            vector: of this arena.
            write: writes the parameter of a name to a view of the vector.
        """
        views = list(self.layout.views(vector, writable=True).items())
        dealt = shares([view.size for _, view in views], len(self.holders))
        for number in dealt[self.comm.rank - self.holders.start]:
            write(*views[number])
        if self.shared:
            self.comm.node.barrier()

    # --- what other ranks have written ------------------------------------------------------------------

    def fence(self, vector: Array) -> None:
        """Return when all ranks can read what the owners have written to a vector; collective."""
        if self.divided:
            if id(vector) not in self._broadcasts:
                self._broadcasts[id(vector)] = PartBroadcast(
                    self.comm, vector, *self.deal.broadcast_messages(self.deal.buckets)
                )
            self._broadcasts[id(vector)]()
        if self.shared:
            self.comm.node.barrier()

    def jobs(self, count: int) -> range:
        """Return which of `count` pieces of work, whose results go into vectors, are to be done by this rank."""
        if not self.dealt:
            return range(count)
        ranks = range(self.comm.size) if self.divided else self.nodes.runs[self.nodes.mine]
        return range(self.comm.rank - ranks.start, count, len(ranks))

    def fence_jobs(self, vector: Array, parts: Sequence[slice]) -> None:
        """Return when all ranks can read these parts of a vector, each written by the rank with its job; collective."""
        if self.divided:
            key = id(vector), tuple((part.start, part.stop) for part in parts)
            if key not in self._broadcasts:
                self._broadcasts[key] = PartBroadcast(self.comm, vector, *job_broadcast_messages(self.nodes, parts))
            self._broadcasts[key]()
        if self.shared:
            self.comm.node.barrier()

    def owned_in(self, bucket: slice) -> list[slice]:
        """Return the parts of a bucket that this rank updates."""
        return self.deal.updated_in(bucket, self.divided)

    def owned_by(self, rank: int) -> list[slice]:
        """Return the parts of a vector that a rank updates, if vectors are divided among all ranks.

        Tables are not divided among nodes.
        """
        return Deal(self.deal.size, Nodes(self.nodes.sizes, rank)).updated(divided=True)

    # --- rank 0, the root, computes or reads for all ------------------------------------------------------

    @property
    def is_root(self) -> bool:
        """Return True on rank 0."""
        return self.comm.rank == 0

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value (any small object) on every rank; collective."""
        return self.comm.broadcast(value)

    def broadcast_vector(self, vector: Array) -> None:
        """Write rank 0's copy of a whole vector to the copies of all ranks; collective."""
        if self.shared:
            self.comm.broadcast_between_nodes(vector)
            self.comm.node.barrier()
        else:
            self.comm.broadcast_array(vector)

    def synchronize(self, vector: Array) -> None:
        """Complete a vector, and write rank 0's copy to all, as others may have computed other bits; collective."""
        self.fence(vector)
        self.broadcast_vector(vector)

    def gather_vector(self, vector: Array, whole: Array | None = None) -> Array:
        """Return a whole vector on rank 0, whoever owns its parts; elsewhere what there is of it; collective.

        Args:
            vector: of this arena.
            whole: memory for it on rank 0; by default new memory.
        """
        if not self.divided:
            return vector
        if whole is None or self.comm.rank > 0:
            whole = np.empty_like(vector) if self.comm.rank == 0 else vector
        gather_parts(self.comm, self._owners, vector, whole)
        return whole

    def scatter_vector(self, whole: Array, vector: Array) -> None:
        """Write rank 0's vector to all ranks that own or read parts of it; collective.

        Args:
            whole: the source, on rank 0; it may be the vector itself.
            vector: the target, of this arena.
        """
        if not self.divided:
            if self.comm.rank == 0 and whole is not vector:
                vector[:] = whole
            self.broadcast_vector(vector)
            return
        scatter_parts(self.comm, self._owners, whole, vector)
        if self.layout.tables:
            self.broadcast_vector(vector[self.deal.size :])
        if self.shared:
            self.comm.node.barrier()

    @property
    def _owners(self) -> dict[int, list[slice]]:
        """Return the parts that each rank owns of a divided vector.

        Rank 0 reads those of its own node itself, and the tables, which each node has whole.
        """
        first_node, ranks = self.nodes.runs[0], range(self.comm.size)
        of_root = {0: [part for rank in first_node for part in self.owned_by(rank)]}
        of_root[0] += [table.part for table in self.layout.row_tables]
        return of_root | {rank: self.owned_by(rank) for rank in ranks if rank not in first_node}

    def free(self) -> None:
        """Give shared memory back; collective. Its vectors must not be used any more."""
        self.tables.free()
        for broadcast in self._broadcasts.values():
            broadcast.free()
        if self._memory is not None:
            self._memory.free()
