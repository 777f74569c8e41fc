"""The sum over all shards of a long vector: each rank adds up its own part of it.

The gradients of a node's ranks lie in memory that they share, written there by the backward pass, so that nothing is
copied or sent within a node. It is fast because each element is added once on a node, in pieces that stay in the
cache, and it is the sum of the plain form to the last bit because the tree is the same. Between nodes, see exchange.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dbp.parallel.machine.shared_memory import SharedMemory
from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.ranks.wire import Wire
from dbp.parallel.shards import Shards, pieces
from dbp.parallel.sums.between_nodes import Exchange
from dbp.parallel.sums.reduce import BLOCK, Division, Reduction, Sums, Total
from dbp.parallel.sums.tree import Adder, Node, TreeSum, additions, subtrees
from dbp.parallel.vectors.arena import Arena, cut, pages
from dbp.types import Array


def parts_of(run: range, nodes: int) -> list[Node]:
    """The parts that a rank's shards leave.

    Of several nodes the last shard is not added to the others, so that others can begin with it while it is computed.
    """
    return subtrees(run, last_apart=nodes > 1)


@dataclass(frozen=True)
class _Turn:
    """One set of buffers, and what is done with them."""

    parts: list[Sums]  # of all ranks of the node
    mine: list[Sums]
    handed: list[Sums | None]  # for each of this rank's shards, the shared buffer that its node's sum ends up in
    scalars: Adder


class SharedReduction:
    """The sums of a run, as Reduction gives them, by the ranks together.

    A vector that the arena deals to the ranks is added up by its owners, between two barriers. A short one is added
    up by every rank for itself after one barrier; then several ranks have two sets of buffers that take turns, so
    that a fast one does not write into what a slow one still reads.

    Args:
        arena: who owns which part of the vector.
        shards: who computes which shard.
        scalars: how many numbers are summed besides.
        memory: of the lengths that lengths() gives.
        wire: how numbers travel between nodes.
    """

    def __init__(self, arena: Arena, shards: Shards, scalars: int, memory: SharedMemory, wire: Wire):
        self._arena, self._comm, self._shards, self._memory = arena, arena.comm, shards, memory
        self._shape, nodes = (arena.size, arena.dtype, scalars), _nodes_of(arena)
        self._runs = [[parts_of(shards.of_rank(rank), nodes.count) for rank in run] for run in nodes.runs]
        self._here = nodes.mine
        flags, progress, *parts = cut(memory.bytes, lengths(arena, shards, scalars))
        count, self._place = sum(map(len, self._runs[self._here])), shards.rank - nodes.runs[self._here].start
        self._flags = flags.reshape(2, -1)  # a row a turn, or for what is finite and what is asked for
        self._flags[:, self._place] = 0
        progress = progress.view(np.int64)
        progress[self._place] = 0
        self._scalars = np.zeros(scalars)
        total = parts.pop().view(arena.dtype) if nodes.count > 1 else None
        sums = [Sums(*self._shape, memory=part) for part in parts]
        self._turns = [self._turn(sums[i : i + count]) for i in range(0, max(len(sums), 1), max(count, 1))]
        self._vector = self._place_of_total(total)
        self._free: list[Sums] = []
        self._handed: Iterator[Sums | None] = iter(())
        self._pieces = [piece for part in arena.owned for piece in pieces(part, BLOCK)]
        self._sums = [self._vector[piece] for piece in self._pieces]
        spare: dict[int, Array] = {}
        self._adders = [self._adders_of(turn, spare) for turn in self._turns] if nodes.count == 1 else []
        self._exchange, self._numbers = None, None
        if nodes.count > 1:
            of_nodes = [[node for run in runs for node in run] for runs in self._runs]
            vectors = [part.vector for part in self._turns[0].parts]
            self._exchange = Exchange(
                arena.comm, arena.deal, vectors, of_nodes, self._vector, not arena.divided, progress, wire
            )
            self._numbers = Reduction(arena.comm, shards, 0, arena.dtype, scalars)
        self._comm.node_barrier()
        memory.use_huge_pages(0, len(memory.bytes), len(nodes.runs[self._here]), self._place)

    def _turn(self, parts: list[Sums]) -> _Turn:
        runs = self._runs[self._here]
        nodes, before = runs[self._place], sum(map(len, runs[: self._place]))
        mine = parts[before : before + len(nodes)]
        for part in mine:
            part.bytes[:] = 0
        first = {index << level: part for (level, index), part in zip(nodes, mine, strict=True)}
        plan = additions([node for run in runs for node in run])
        scalars = Adder(plan, [part.scalars for part in parts], [self._scalars] * len(plan.left), {})
        return _Turn(parts, mine, [first.get(number) for number in self._shards.mine], scalars)

    def _place_of_total(self, received: Array | None) -> Array:
        """Where the sum comes: into what arrives from other nodes, or else over the first part, which is not copied.

        Where every rank adds up everything for itself, others still need that part.
        """
        if received is not None:
            for part in self._arena.owned:
                received[part] = 0  # as in Arena.vector()
            return received
        if self._arena.dealt or self._comm.size == 1:
            first: Array = self._turns[0].parts[0].vector
            return first
        return np.zeros(self._arena.size, self._arena.dtype)

    def holds(self, vector: Array) -> bool:
        """Whether a vector is a sum that the next one is written over from its beginning on, not only at its end."""
        return vector is self._turns[0].parts[0].vector

    def _adders_of(self, turn: _Turn, spare: dict[int, Array]) -> list[Adder]:
        plan = additions([node for run in self._runs[0] for node in run])
        return [
            Adder(plan, [part.vector[piece] for part in turn.parts], [total], spare)
            for piece, total in zip(self._pieces, self._sums, strict=True)
        ]

    @property
    def early(self) -> bool:
        """Whether sums begin before all shards are there."""
        return self._exchange is not None

    def start(self) -> TreeSum[Sums]:
        """The sum over this rank's shards, to which each adds a buffer, in their order."""
        if self._exchange is None and self._arena.dealt:
            self._comm.node_barrier()  # others may still read what the last sum has left in the first part
        self._handed = iter(self._turns[0].handed)
        if self._exchange is not None:
            self._exchange.begin()
        mine = self._shards.mine
        return TreeSum(spent=self._free.append, last=mine[-1] if mine and self.early else None)

    def buffer(self) -> Sums:
        """A buffer for the next shard's sums, with whatever was in it before."""
        shared = next(self._handed)
        if shared is not None:
            return shared
        return self._free.pop() if self._free else Sums(*self._shape)

    def written(self, start: int) -> None:
        """The last shard's vector is complete from this element on."""
        if self._exchange is not None:
            self._exchange.written(start)

    def total(self, mine: TreeSum[Sums], divisor: int | None = None, early: bool = False) -> Total:
        """The sum over the shards of all ranks, where this rank owns it; see Reduction.total()."""
        assert all(part is place for (*_, part), place in zip(mine.nodes, self._turns[0].mine, strict=True))
        if self._exchange is not None:
            return self._total_of_nodes(mine, divisor, early)
        finite, asked = self._total_of_node(divisor)
        if self._arena.dealt:
            finite, asked = self._agreed(finite), bool(self._flags[1].any())
        return Total(self._vector, self._scalars, finite, asked)

    def _total_of_node(self, divisor: int | None) -> tuple[bool, bool]:
        turn, adders, flags = self._turns[0], self._adders[0], self._flags[1]
        flags[self._place] = self._comm.asks()
        self._comm.node_barrier()
        (self._scalars[:],) = turn.scalars.add()
        divide, finite = Division(self._scalars, divisor, self._vector.dtype), True
        for adder, target in zip(adders, self._sums, strict=True):
            finite &= divide(adder.add()[0], target)
        if self._arena.dealt:
            return finite, False  # told after the barrier that follows
        asked = bool(flags.any())
        self._turns.reverse()
        self._adders.reverse()
        self._flags = self._flags[::-1]
        return finite, asked

    def _total_of_nodes(self, mine: TreeSum[Sums], divisor: int | None, early: bool) -> Total:
        assert self._exchange is not None
        assert self._numbers is not None
        tree = self._numbers.start()
        for level, index, part in mine.nodes:
            numbers = self._numbers.buffer()
            numbers.scalars[:] = part.scalars
            tree.push(level, index, numbers)
        if early:
            message = self._numbers.begin_total(tree, doubt=not self._exchange.added())
            self._exchange.wait_for(0, [message])
            of_all = self._numbers.end_total()
        else:
            self._exchange.finish()
            of_all = self._numbers.total(tree)
        self._scalars[:] = of_all.scalars
        division = Division(self._scalars, divisor, self._vector.dtype)
        if early and of_all.finite and division.keeps_small:
            arriving = _SumOfNodes(self._exchange, self._arena, self._vector, division)
            return Total(self._vector, self._scalars, True, of_all.asked, arriving)
        self._exchange.finish()
        finite = True
        for found in self._sums:
            finite &= division(found, found)
        return Total(self._vector, self._scalars, self._agreed(finite), of_all.asked)

    def _agreed(self, finite: bool) -> bool:
        """Whether all owners have found numbers; after it no rank of this node reads what others have summed."""
        self._flags[0, self._place] = finite
        self._comm.node_barrier()
        found = 0 not in self._flags[0]
        return all(self._comm.gather(found)) if self._arena.divided else found

    def free(self) -> None:
        """Give the shared memory back; collective. Sums must not be used any more."""
        if self._exchange is not None:
            self._exchange.free()
        self._memory.free()


class _SumOfNodes:
    """A sum over nodes that arrives bucket by bucket.

    Args:
        exchange: that it comes from.
        arena: who owns which part of it.
        vector: where it comes.
        division: what is done to it.
    """

    def __init__(self, exchange: Exchange, arena: Arena, vector: Array, division: Division):
        self._exchange, self._arena, self._vector, self._division = exchange, arena, vector, division
        self._there, self._start = 0, arena.size  # buckets, and where the last of them begins
        self._complete = False

    def wait_for(self, part: slice) -> None:
        """Return when it is there in this part of the vector; the exchange goes on in any case."""
        if self._complete:
            return
        self._exchange.wait_for(self._there)
        while self._start > part.start:
            bucket = self._arena.deal.buckets[self._there]
            self._there, self._start = self._there + 1, bucket.start
            self._exchange.wait_for(self._there)
            for owned in self._arena.owned_in(bucket):
                self._division.divide(self._vector[owned], self._vector[owned])

    def complete(self) -> None:
        """Wait for all of it, and for the ranks of this node, which may still send what this one has written."""
        if self._complete:
            return
        self.wait_for(slice(0, 0))
        self._exchange.finish()
        self._arena.comm.node_barrier()
        self._complete = True


def _nodes_of(arena: Arena) -> Nodes:
    """The nodes within which memory is shared."""
    return arena.nodes if arena.dealt else arena.comm.nodes


def lengths(arena: Arena, shards: Shards, scalars: int) -> list[int]:
    """The bytes of flags and a number a rank, then of the parts of this node's ranks, and of what all nodes sum."""
    part, nodes = Sums.length(arena.size, arena.dtype, scalars), _nodes_of(arena)
    ranks = nodes.runs[nodes.mine]
    count = sum(len(parts_of(shards.of_rank(rank), nodes.count)) for rank in ranks)
    sets = 1 if arena.dealt or arena.comm.size == 1 else 2
    total = [arena.size * arena.dtype.itemsize] if nodes.count > 1 else []
    return [2 * len(ranks), 8 * len(ranks), *[part] * count * sets, *total]


def reduction_for(arena: Arena, shards: Shards, scalars: int, wire: Wire | None = None) -> Reduction | SharedReduction:
    """What sums vectors as long as the arena's, by all ranks together if it may and can be; collective."""
    if arena.may_share and (arena.dealt or arena.comm.nodes.count == 1):
        memory = arena.memory(sum(map(pages, lengths(arena, shards, scalars))))
        if memory is not None:
            return SharedReduction(arena, shards, scalars, memory, wire or Wire())
    return Reduction(arena.comm, shards, arena.size, arena.dtype, scalars)
