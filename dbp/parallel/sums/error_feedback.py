"""Error feedback for top-k messages: per node, the part of the gradient that has not been sent yet.

It is added to the next gradient, so that nothing is ever lost. It is state of a run: it changes with each step that is
taken, and checkpoints hold it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dbp.parallel.ranks.nodes import Nodes
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.deal import Deal
from dbp.parallel.vectors.gather import gather_parts, scatter_parts
from dbp.types import Array


class Residuals(NamedTuple):
    """The residuals that nodes have not sent yet, as a checkpoint holds them.

    Args:
        rows: one vector per node, on rank 0; no rows elsewhere.
        example_weight: the sum of the example weights of the mini-batch whose gradient it is part of.
    """

    rows: Array
    example_weight: float


class ErrorFeedback:
    """The residual of each node: one number for each element of the gradient, dealt to the node's ranks.

    For elements that another node sums up, it is what was not sent to that node; for elements that this node sums up,
    it is what of the sum was not sent to the others. A gradient is a sum over examples until it is divided by the
    example weight of its mini-batch, and so is the residual: in a mini-batch of another one it counts as much.

    A run that is resumed with residuals, but sends whole gradients now, adds them to its next gradient.

    Args:
        arena: in which gradients are dealt to the ranks.
    """

    def __init__(self, arena: Arena):
        self._arena = arena
        self._before = self._after = self._rows = np.zeros((0, 0), arena.dtype)
        self._pending: Array | None = None  # the residuals of all nodes, if none of them sends top-k messages now
        self._factor, self._next_example_weight = np.float32(1), 1.0
        self._parts: dict[tuple[int, int], list[slice]] = {}
        self.is_active = False  # True if nodes send top-k messages
        self.example_weight = 1.0  # the sum of the mini-batch that the residual is of

    def activate(self) -> None:
        """Keep residuals from now on, which are zero at first."""
        self.is_active = True  # vectors are of full length, but only the pages in use take memory
        self._before, self._after = (np.zeros(self._arena.size, self._arena.dtype) for _ in range(2))

    @property
    def is_pending(self) -> bool:
        """Return True if residuals of an earlier run must be added to the next gradient."""
        return self._pending is not None

    @property
    def count(self) -> int:
        """Return how many vectors a checkpoint needs to hold the residuals."""
        return self._arena.nodes.count if self.is_active else int(self.is_pending)

    # --- a step -----------------------------------------------------------------------------------------

    def begin(self, example_weight: float) -> None:
        """Prepare for the next gradient, of a mini-batch with this sum of example weights, the same on all ranks."""
        self._next_example_weight = example_weight or 1.0
        self._factor = np.float32(self._next_example_weight / self.example_weight)

    def add_to(self, vector: Array, part: slice) -> Array:
        """Return a part of a vector plus its residual, in memory that becomes the next residual.

        The caller sets to zero what it sends.
        """
        before, after = self._before[part], self._after[part]
        if self._factor == 1:
            return np.add(vector[part], before, out=after)
        np.multiply(before, self._factor, out=after)
        return np.add(vector[part], after, out=after)

    def add_pending(self, gradient: Array) -> None:
        """Add residuals of an earlier run to a gradient that is divided by its example weight already."""
        if self._pending is not None:
            for part in self._arena.owned:
                gradient[part] += self._pending[part] / gradient.dtype.type(self.example_weight)

    def accept(self) -> None:
        """Take over the new residual, as the gradient is used; without this call the one before remains."""
        self._pending = None
        if self.is_active:
            self._before, self._after, self.example_weight = self._after, self._before, self._next_example_weight

    # --- checkpoints ------------------------------------------------------------------------------------

    def snapshot(self) -> Residuals:
        """Return the residuals of all nodes, on rank 0, valid until the next snapshot; collective."""
        return Residuals(self._collected(), self.example_weight)

    def restore(self, example_weight: float, residuals: Iterable[Array]) -> None:
        """Take over the residuals of a snapshot, of as many nodes as it was made on; collective.

        Each goes to the node of its number. If there are fewer nodes now, some take over several.

        Args:
            example_weight: the sum of the example weights of the mini-batch whose gradient they are part of.
            residuals: one vector at a time, filled on rank 0.
        """
        self.example_weight, self._pending = example_weight, None
        for part in self._mine if self.is_active else ():
            self._before[part] = 0
        for number, residual in enumerate(residuals):
            if self.is_active:
                self._give_to_node(number, residual)
            else:
                self._give_to_all(residual)

    def _collected(self) -> Array:
        comm, nodes = self._arena.comm, self._arena.nodes
        if self._pending is not None and comm.rank == 0:
            return self._pending[None]
        if self.is_active and comm.rank == 0 and not self._rows.size:
            self._rows = np.zeros((nodes.count, self._arena.size), self._arena.dtype)
        for node in range(nodes.count if self.is_active else 0):
            gather_parts(comm, self._owners(node), self._before, self._rows[node] if comm.rank == 0 else self._before)
        return self._rows

    def _give_to_node(self, number: int, residual: Array) -> None:
        nodes = self._arena.nodes
        node = number % nodes.count
        scatter_parts(self._arena.comm, self._owners(node), residual, self._after)
        for part in self._mine if node == nodes.mine else ():
            if number >= nodes.count:
                self._after[part] += self._before[part]
            self._before[part] = self._after[part]  # not added to zeros: that would change the sign of -0.0

    def _give_to_all(self, residual: Array) -> None:
        comm = self._arena.comm
        vector = residual.copy() if comm.rank == 0 else np.empty(self._arena.size, self._arena.dtype)
        comm.broadcast_array(vector)
        self._pending = vector if self._pending is None else self._pending + vector

    @property
    def _mine(self) -> list[slice]:
        return self._parts_of(self._arena.comm.rank, self._arena.nodes.runs[self._arena.nodes.mine])

    def _owners(self, node: int) -> dict[int, list[slice]]:
        ranks = self._arena.nodes.runs[node]
        return {rank: self._parts_of(rank, ranks) for rank in ranks}

    def _parts_of(self, rank: int, ranks: range) -> list[slice]:
        """Return the parts of the residual that a rank keeps, equal on all nodes of as many ranks."""
        key = len(ranks), rank - ranks.start
        if key not in self._parts:
            deal = Deal(self._arena.size, Nodes(self._arena.nodes.sizes, rank))
            self._parts[key] = deal.updated(divided=False)
        return self._parts[key]
