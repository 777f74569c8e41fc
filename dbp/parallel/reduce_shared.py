"""The sum over all shards for the ranks of one node: each adds up its own part of all ranks' gradients.

The gradients lie in shared memory, written there by the backward pass, so nothing is copied or sent. It is
fast because each element is added once on a node, in pieces that stay in the cache, and it is the sum of
the plain form to the last bit because the tree is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbp.parallel.arena import Arena, Array, cut, pages
from dbp.parallel.comm import SharedMemory
from dbp.parallel.reduce import BLOCK, Division, Reduction, Sums, Total, TreeSum, blocks, subtrees
from dbp.parallel.shards import Shards

Nodes = list[tuple[int, int]]


class _Noted:
    """Stands for a part in the tree, and notes what is added to it."""

    def __init__(self, number: int, notes: list[tuple[int, int]]):
        self.number, self.notes = number, notes

    def __iadd__(self, other: _Noted) -> _Noted:
        self.notes.append((self.number, other.number))
        return self


def additions(nodes: Nodes) -> list[tuple[int, int, int]]:
    """The tree's additions in order, as numbers of the places (left, right, sum) that leave the parts as they are.

    Of n parts, in the places 0 to n - 1, the sum of all comes into place n, sums on the way into those behind.
    """
    notes: list[tuple[int, int]] = []
    tree: TreeSum[Any] = TreeSum()
    for number, node in enumerate(nodes):
        tree.push(*node, _Noted(number, notes))
    tree.total()
    count, free, steps = len(nodes), list(range(2 * len(nodes), len(nodes), -1)), []
    place = list(range(count))  # where the sum that began with a part is now
    for left, right in notes:
        target = place[left] if place[left] >= count else free.pop() if left else count
        steps.append((place[left], place[right], target))
        if place[right] > count:
            free.append(place[right])
        place[left] = target
    return steps


class Adder:
    """Adds up the same piece of all parts along the tree.

    Args:
        steps: as additions() gives them.
        parts: the piece of each part.
        total: where the sum goes.
        spare: memory for the sums on the way, by place; the first piece is the longest.
    """

    def __init__(self, steps: list[tuple[int, int, int]], parts: list[Array], total: Array, spare: dict[int, Array]):
        places = dict(enumerate([*parts, total]))
        for place in {target for _, _, target in steps} - set(places):
            if place not in spare:
                spare[place] = np.empty_like(total)
            places[place] = spare[place][: len(total)]
        self.steps = [(places[left], places[right], places[target]) for left, right, target in steps]
        self.source, self.total = total if steps else parts[0], total

    def add(self) -> Array:
        """Gives the sum, which is the part itself where there is only one."""
        for left, right, target in self.steps:
            np.add(left, right, target)
        return self.source


@dataclass(frozen=True)
class _Turn:
    """One set of buffers, and what is done with them."""

    handed: list[Sums | None]  # for each of this rank's shards, the shared buffer that its node's sum ends up in
    mine: list[Sums]
    scalars: Adder
    pieces: list[tuple[Adder, Array]]  # of the vector, with as many zeros


class SharedReduction:
    """The sums of a run, as Reduction gives them, in shared memory.

    A vector that the arena divides among the ranks is added up by its owners, between two barriers. A short
    one is added up by every rank for itself after one barrier; then there are two sets of buffers that take
    turns, so that a fast rank does not write into what a slow one still reads.

    Args:
        arena: who owns which part of the vector.
        shards: who computes which shard.
        scalars: how many numbers are summed besides.
        memory: of the lengths that lengths() gives.
    """

    def __init__(self, arena: Arena, shards: Shards, scalars: int, memory: SharedMemory):
        self._comm, self._divided, self._memory = arena.comm, arena.shared, memory
        self._shape, self._rank, self._owned = (arena.size, arena.dtype, scalars), shards.rank, arena.owned
        self._runs = [subtrees(shards.of_rank(rank)) for rank in range(shards.ranks)]
        pieces = cut(memory.bytes, lengths(arena, shards, scalars))
        if self._divided:
            self._flags, self._vector = pieces.pop().data, pieces.pop().view(arena.dtype)
            self._vector[arena.owned] = 0  # as in Arena.vector()
        else:
            self._vector = np.zeros(arena.size, arena.dtype)
        self._scalars = np.zeros(scalars)
        count, self._spare = sum(map(len, self._runs)), dict[int, Array]()
        parts = [Sums(*self._shape, memory=piece) for piece in pieces]
        self._turns = [self._turn(parts[i : i + count], shards.mine) for i in range(0, len(parts), count)]
        self._handed: Iterator[Sums | None] = iter(())
        self._free: list[Sums] = []

    def _turn(self, parts: list[Sums], shards: range) -> _Turn:
        before = sum(map(len, self._runs[: self._rank]))
        nodes = self._runs[self._rank]
        mine = parts[before : before + len(nodes)]
        for part in mine:
            part.bytes[:] = 0
        first = {index << level: part for (level, index), part in zip(nodes, mine, strict=True)}
        steps = additions([node for run in self._runs for node in run])
        scalars = Adder(steps, [part.scalars for part in parts], self._scalars, {})
        zeros = np.zeros(BLOCK, self._vector.dtype)
        pieces = [
            (Adder(steps, [part.vector[b] for part in parts], self._vector[b], self._spare), zeros[: b.stop - b.start])
            for b in blocks(self._owned)
        ]
        return _Turn([first.get(number) for number in shards], mine, scalars, pieces)

    def start(self) -> TreeSum[Sums]:
        """The sum over this rank's shards, to which each adds a buffer, in their order."""
        self._handed = iter(self._turns[0].handed)
        return TreeSum(spent=self._free.append)

    def buffer(self) -> Sums:
        """A buffer for the next shard's sums, with whatever was in it before."""
        shared = next(self._handed)
        if shared is not None:
            return shared
        return self._free.pop() if self._free else Sums(*self._shape)

    def total(self, mine: TreeSum[Sums], divisor: int | None = None) -> Total:
        """The sum over the shards of all ranks; see Reduction.total()."""
        turn = self._turns[0]
        assert all(node[2] is part for node, part in zip(mine.nodes, turn.mine, strict=True))
        self._comm.barrier()
        self._scalars[:] = turn.scalars.add()
        divide = Division(self._scalars, divisor, self._vector.dtype)
        finite = True
        for adder, zeros in turn.pieces:
            finite &= divide(adder.add(), adder.total, zeros)
        if self._divided:
            self._flags[self._rank] = finite
            self._comm.barrier()
            finite = 0 not in self._flags
        else:
            self._turns.reverse()
        return Total(self._vector, self._scalars, finite)

    def free(self) -> None:
        """Give the shared memory back; collective. Sums must not be used any more."""
        self._memory.free()


def lengths(arena: Arena, shards: Shards, scalars: int) -> list[int]:
    """The bytes of all ranks' parts, then of the sum of the vectors, and of a flag a rank."""
    part = Sums.length(arena.size, arena.dtype, scalars)
    count = sum(len(subtrees(shards.of_rank(rank))) for rank in range(shards.ranks))
    return [part] * count + [arena.size * arena.dtype.itemsize, shards.ranks] if arena.shared else [part] * (2 * count)


def reduction_for(arena: Arena, shards: Shards, scalars: int) -> Reduction | SharedReduction:
    """What sums vectors as long as the arena's, in shared memory if it may and can be had; collective."""
    if arena.may_share:
        memory = arena.comm.shared_memory(sum(map(pages, lengths(arena, shards, scalars))))
        if memory is not None:
            return SharedReduction(arena, shards, scalars, memory)
    return Reduction(arena.comm, shards, arena.size, arena.dtype, scalars)
