"""The sum of gradients over all shards: the way of a gradient from the backward pass to the optimizer.

Backward writes the gradient of each shard to a buffer() of the sum, which may lie in memory that a node's ranks share,
and push() adds it to those of this rank's other shards. total() adds up those of all ranks, and returns the gradient of
the cost. selection.py chooses how: by one message to all ranks, in the shared memory of one node, or between nodes.

Between nodes the last shard's gradient is sent in parts while backward still computes the rest: on_ready() says what is
complete. An early total() returns before all parts of the sum have arrived; the optimizer then waits part by part.
Gradients travel whole, rounded to 16 bits, or as their largest elements; what these leave unsent is error feedback,
which accept() carries on and reject() takes back.
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

EXAMPLE_WEIGHT = 0  # the index of the scalar that is the sum of a shard's example weights


class GradientSum:
    """The gradient of the cost: the sum of the gradients of the shards' loss sums, divided by that of example weights.

    A few scalars are summed with it. The first scalar of a shard is the sum of its example weights.

    Args:
        arena: the vectors that a gradient is as long as, and who owns which part of them.
        shards: who computes which shard.
        scalars: how many are summed with the gradient, the example weight included.
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
        self._example_weights = PlainSum(arena.comm, shards, 0, arena.dtype, 1)
        self._tree: TreeSum[SumBuffer] = TreeSum()
        self._arriving: Arriving | None = None

    # --- one gradient -----------------------------------------------------------------------------------

    def start(self, example_weights: Iterable[float]) -> None:
        """Start a new sum; collective.

        Args:
            example_weights: their sum in each of this rank's shards; read only if error feedback needs it.
        """
        if self._feedback.is_active:
            self._feedback.begin(self._sum_example_weights(example_weights))
        self._tree = self.vector_sum.start()

    def buffer(self) -> SumBuffer:
        """Return a buffer for the next shard's gradient and scalars; its content is arbitrary."""
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
        """Add a shard's gradient and scalars, in the order of shards.

        Args:
            number: of the shard.
            sums: the buffer that holds them.
        """
        self._tree.push(0, number, sums)

    def total(self, early: bool = False) -> Total:
        """Return the gradient of the cost, complete where this rank owns it, and the sums of the scalars; collective.

        It is valid until start(). The caller answers with accept() if it uses the total, or with reject().

        Args:
            early: return before the gradient is complete; the caller waits part by part. Ignored under fault
                tolerance, where a longer update is likelier to be cut by a dying rank.
        """
        if early and self._between_nodes is not None and not (self._feedback.is_pending or self._comm.survival.enabled):
            total = self._between_nodes.early_total(self._tree, divisor=EXAMPLE_WEIGHT)
        else:
            total = self.vector_sum.total(self._tree, divisor=EXAMPLE_WEIGHT)
        self._feedback.add_pending(total.vector)
        self._arriving = total.arriving
        return total

    def accept(self) -> None:
        """Keep what this total left unsent as error feedback, as the total is used."""
        self._feedback.accept()

    def reject(self) -> None:
        """Wait for all of the total, which is not used, and keep the error feedback from before it."""
        if self._arriving is not None:
            self._arriving.complete()

    def _sum_example_weights(self, of_shards: Iterable[float]) -> float:
        """Return the sum of the example weights of the whole mini-batch, on every rank."""
        tree = self._example_weights.start()
        for number, weight in zip(self._shards.mine, of_shards, strict=True):
            sums = self._example_weights.buffer()
            sums.scalars[EXAMPLE_WEIGHT] = weight
            tree.push(0, number, sums)
        return float(self._example_weights.total(tree).scalars[EXAMPLE_WEIGHT])

    # --- error feedback in checkpoints ------------------------------------------------------------------

    @property
    def residual_count(self) -> int:
        """Return how many vectors a snapshot of the error feedback holds; zero without error feedback."""
        return self._feedback.count

    def snapshot(self) -> Residuals:
        """Return what nodes have not sent yet, on rank 0, valid until the next snapshot; collective."""
        return self._feedback.snapshot()

    def restore(self, example_weight: float, residuals: Iterable[Array]) -> None:
        """Take over what nodes had not sent; see ErrorFeedback.restore(); collective."""
        self._feedback.restore(example_weight, residuals)

    def free(self) -> None:
        """Give back the memory that ranks share; collective. Gradients must not be used any more."""
        self.vector_sum.free()
