"""What nodes have left unsent of their gradients, to be added to the next: nothing of it is ever lost.

It is state of a run: it changes with each step that is taken, and checkpoints hold it.
"""

from __future__ import annotations

import numpy as np

from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.collecting import collect, disperse
from dbp.parallel.vectors.deal import Deal
from dbp.types import Array


class Unsent:
    """A number for each element of the gradient on each node, of which each rank keeps the parts that it deals with.

    Where another node finishes the sum it is what was not sent to that node, and where this one does, what of the sum
    was not sent to the others. As gradients are sums over the examples of a mini-batch until they are divided by these
    examples' weight, so is this, of the last mini-batch: it counts as much in one of another weight.

    A run that goes on from what nodes had not sent, but has nothing to send now, adds it to its next gradient.

    Args:
        arena: in which gradients are dealt to the ranks.
    """

    def __init__(self, arena: Arena):
        self._arena = arena
        self._before = self._after = self._rows = np.zeros((0, 0), arena.dtype)
        self._rest: Array | None = None  # that of all nodes, where none of them sends anything
        self._factor, self._next = np.float32(1), 1.0
        self._parts: dict[tuple[int, int], list[slice]] = {}
        self.used = False  # whether nodes leave anything unsent
        self.weight = 1.0  # of the mini-batch that it is of

    def start(self) -> None:
        """From now on nodes leave something unsent; at first there is nothing."""
        self.used = True  # vectors are whole, but only the pages in use take memory
        self._before, self._after = (np.zeros(self._arena.size, self._arena.dtype) for _ in range(2))

    @property
    def pending(self) -> bool:
        """Whether something is to be added to the next gradient though nodes leave nothing unsent."""
        return self._rest is not None

    @property
    def count(self) -> int:
        """How many vectors it takes to hold it: one for each node, if there may be any."""
        return self._arena.nodes.count if self.used else int(self.pending)

    # --- a step -----------------------------------------------------------------------------------------

    def begin(self, weight: float) -> None:
        """A new gradient is about to be summed, of a mini-batch of this weight, the same on all ranks."""
        self._next = weight or 1.0
        self._factor = np.float32(self._next / self.weight)

    def added(self, vector: Array, part: slice) -> Array:
        """A part of a vector with what was left before added to it: of that, what is not zeroed is what is left now."""
        before, after = self._before[part], self._after[part]
        if self._factor == 1:
            return np.add(vector[part], before, out=after)
        np.multiply(before, self._factor, out=after)
        return np.add(vector[part], after, out=after)

    def complete(self, gradient: Array) -> None:
        """Add what is left to a gradient, which is divided by its weight already, where nodes send nothing."""
        if self._rest is not None:
            for part in self._arena.owned:
                gradient[part] += self._rest[part] / gradient.dtype.type(self.weight)

    def accept(self) -> None:
        """The gradient is used; until then what is left is what was left before, as if there had been none."""
        self._rest = None
        if self.used:
            self._before, self._after, self.weight = self._after, self._before, self._next

    # --- checkpoints ------------------------------------------------------------------------------------

    def collected(self) -> Array:
        """That of all nodes, a row each, on rank 0, until it is collected again; no rows elsewhere; collective."""
        comm, nodes = self._arena.comm, self._arena.nodes
        if self._rest is not None and comm.rank == 0:
            return self._rest[None]
        if self.used and comm.rank == 0 and not self._rows.size:
            self._rows = np.zeros((nodes.count, self._arena.size), self._arena.dtype)
        for node in range(nodes.count if self.used else 0):
            collect(comm, self._owners(node), self._before, self._rows[node] if comm.rank == 0 else self._before)
        return self._rows

    def clear(self, weight: float) -> None:
        """Nothing is left; what is given next is of a mini-batch of this weight."""
        self.weight, self._rest = weight, None
        for part in self._mine if self.used else ():
            self._before[part] = 0

    def give(self, number: int, whole: Array) -> None:
        """Take up what a node had left, of as many as there were; collective.

        It goes to the node of that number, or of those that there are now to one that has another's already.

        Args:
            number: of the node.
            whole: what it was, on rank 0.
        """
        if not self.used:
            self._give_to_all(whole)
            return
        nodes = self._arena.nodes
        node = number % nodes.count
        disperse(self._arena.comm, self._owners(node), whole, self._after)
        for part in self._mine if node == nodes.mine else ():
            if number >= nodes.count:
                self._after[part] += self._before[part]
            self._before[part] = self._after[part]  # not added to zeros, which have a sign

    def _give_to_all(self, whole: Array) -> None:
        comm = self._arena.comm
        vector = whole.copy() if comm.rank == 0 else np.empty(self._arena.size, self._arena.dtype)
        comm.broadcast_array(vector)
        self._rest = vector if self._rest is None else self._rest + vector

    @property
    def _mine(self) -> list[slice]:
        return self._parts_of(self._arena.comm.rank, self._arena.nodes.runs[self._arena.nodes.mine])

    def _owners(self, node: int) -> dict[int, list[slice]]:
        run = self._arena.nodes.runs[node]
        return {rank: self._parts_of(rank, run) for rank in run}

    def _parts_of(self, rank: int, run: range) -> list[slice]:
        """What a rank of a node deals with, which is the same on all nodes of as many ranks."""
        key = len(run), rank - run.start
        if key not in self._parts:
            deal = Deal(self._arena.size, Nodes(self._arena.nodes.sizes, rank))
            self._parts[key] = deal.updated(divided=False)
        return self._parts[key]
