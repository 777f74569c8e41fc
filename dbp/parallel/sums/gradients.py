"""The sum of gradients over all shards: where a gradient goes after the backward pass.

Each shard's gradient is written to a buffer and pushed; total() returns the gradient of the cost over all ranks. Only
this module knows in which form gradients travel between nodes: whole, rounded to 16 bits, or their largest elements
with error feedback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dbp.parallel.shards import Shards
from dbp.parallel.sums.error_feedback import ErrorFeedback, Residuals
from dbp.parallel.sums.multi_node_sum import MultiNodeSum
from dbp.parallel.sums.plain_sum import PlainSum
from dbp.parallel.sums.selection import vector_sum_for
from dbp.parallel.sums.summation_tree import TreeSum
from dbp.parallel.sums.top_k import wire_for
from dbp.parallel.sums.vector_sum import Arriving, SumBuffer, Total
from dbp.parallel.vectors.arena import Arena
from dbp.parallel.vectors.layout import Layout
from dbp.types import Array

WEIGHT = 0  # the index of the scalar that is the weight of a shard


class GradientSum:
    """The weighted mean of the shards' gradients, with sums of a few numbers. The first number is a shard's weight.

    Args:
        arena: the vectors that a gradient is as long as, and who owns which part of them.
        shards: who computes which shard.
        scalars: how many numbers are summed with the gradient, the weight included.
        messages: the form in which gradients travel between nodes: "top-k", or a name in wire.FORMS.
        kept: with "top-k", the fraction of a gradient's elements that is sent.

    Attributes:
        vector_sum: sums other vectors, to which no error feedback is added.
    """

    def __init__(self, arena: Arena, shards: Shards, scalars: int, messages: str = "full", kept: float | None = None):
        self._comm, self._shards = arena.comm, shards
        self._feedback = ErrorFeedback(arena)
        self.vector_sum = vector_sum_for(arena, shards, scalars, wire_for(messages, kept, self._feedback))
        self._between_nodes = self.vector_sum if isinstance(self.vector_sum, MultiNodeSum) else None
        self._weights = PlainSum(arena.comm, shards, 0, arena.dtype, 1)
        self._tree: TreeSum[SumBuffer] = TreeSum()
        self._arriving: Arriving | None = None

    # --- one gradient -----------------------------------------------------------------------------------

    def start(self, weights: Iterable[float]) -> None:
        """Start a new sum; collective.

        Args:
            weights: of this rank's shards, in their order; asked for only if error feedback needs them.
        """
        if self._feedback.is_active:
            self._feedback.begin(self._sum_weights(weights))
        self._tree = self.vector_sum.start()

    def buffer(self) -> SumBuffer:
        """Return a buffer for the next shard's gradient and numbers; its content is arbitrary."""
        return self.vector_sum.buffer()

    def on_ready(self, layout: Layout) -> Callable[[int, int], None] | None:
        """Return a callback for the backward pass of the last shard, which sends what is ready to other nodes.

        It is called with the number of a parameter, and the element from which on that parameter's gradient is
        complete. None is returned if no node waits for parts of a gradient.

        Args:
            layout: of the parameters in the vector.
        """
        if self._between_nodes is None:
            return None
        on_written = self._between_nodes.on_written
        waiting, ends = set(range(len(layout.shapes))), layout.ends

        def ready(number: int, start: int) -> None:
            last = max(waiting, default=None)
            if start == 0:
                waiting.discard(number)
            if number == last:
                before = max(waiting - {number}, default=-1)
                on_written((ends[before] if before >= 0 else 0) + start)

        return ready

    def push(self, number: int, sums: SumBuffer) -> None:
        """Add a shard's gradient and numbers, in the order of shards.

        Args:
            number: of the shard.
            sums: the buffer that holds them.
        """
        self._tree.push(0, number, sums)

    def total(self, early: bool = False) -> Total:
        """Return the mean gradient, complete where this rank owns it, and the sums; collective. Valid until start().

        The caller answers with accept() or reject().

        Args:
            early: return before the gradient is complete; the caller waits part by part. Ignored under fault
                tolerance, where a longer update is likelier to be cut by a dying rank.
        """
        if early and self._between_nodes is not None and not (self._feedback.is_pending or self._comm.survival.enabled):
            total = self._between_nodes.early_total(self._tree, divisor=WEIGHT)
        else:
            total = self.vector_sum.total(self._tree, divisor=WEIGHT)
        self._feedback.add_pending(total.vector)
        self._arriving = total.arriving
        return total

    def accept(self) -> None:
        """Note that the total is used, so that its error feedback counts."""
        self._feedback.accept()

    def reject(self) -> None:
        """Note that the total is not used: wait for all of it, and keep the error feedback from before it."""
        if self._arriving is not None:
            self._arriving.complete()

    def _sum_weights(self, weights: Iterable[float]) -> float:
        """Return the weight of the whole mini-batch, on every rank."""
        tree = self._weights.start()
        for number, weight in zip(self._shards.mine, weights, strict=True):
            sums = self._weights.buffer()
            sums.scalars[WEIGHT] = weight
            tree.push(0, number, sums)
        return float(self._weights.total(tree).scalars[WEIGHT])

    # --- error feedback in checkpoints ------------------------------------------------------------------

    @property
    def residual_count(self) -> int:
        """Return how many vectors a snapshot holds; zero if nothing is left unsent."""
        return self._feedback.count

    def snapshot(self) -> Residuals:
        """Return what nodes have not sent yet, on rank 0, valid until the next snapshot; collective."""
        return self._feedback.snapshot()

    def restore(self, weight: float, residuals: Iterable[Array]) -> None:
        """Take over what nodes had not sent; see ErrorFeedback.restore(); collective."""
        self._feedback.restore(weight, residuals)

    def free(self) -> None:
        """Give back the memory that ranks share; collective. Gradients must not be used any more."""
        self.vector_sum.free()
