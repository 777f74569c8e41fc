"""Messages between nodes that hold only the largest elements, with error feedback.

The residual of earlier messages is added to what is to be sent. Of the sum the k elements that are largest in magnitude
are sent, and the others become the residual (Stich et al. 2018, "Sparsified SGD with memory"; Lin et al. 2018, "Deep
gradient compression"). The node that finishes a sum uses what it sends of it too, so that all nodes compute the same
weights.
"""

from __future__ import annotations

import math

import numpy as np

from dbp.parallel.ranks.wire import Action, Wire
from dbp.parallel.sums.error_feedback import ErrorFeedback
from dbp.types import Array

TOP_K = "top-k"
MAGNITUDE_MASK = np.uint32(0x7FFFFFFF)  # all bits of a float32 but its sign; as integers they are ordered as magnitudes
SAMPLE_STRIDE = 31  # elements; seldom in step with the rows of a matrix


def largest(numbers: Array, count: int) -> Array:
    """Return the indices of the `count` float32 that are largest in magnitude, in order; of equal ones the first.

    NaN counts as larger than infinity.
    """
    sizes = numbers.view(np.uint32) & MAGNITUDE_MASK
    likely = _likely(sizes, count)
    found = sizes[likely]
    least = np.partition(found, len(found) - count)[len(found) - count]
    chosen: Array = likely[found >= least]
    if surplus := len(chosen) - count:
        equal = chosen[sizes[chosen] == least]
        chosen = np.setdiff1d(chosen, equal[-surplus:], assume_unique=True)
    return chosen


def _likely(sizes: Array, count: int) -> Array:
    """Return indices that include those of the largest, in order: few as a rule, as it takes long to sort all.

    A threshold is estimated from a sample, so that a few more elements than needed should exceed it. If too few do,
    all indices are returned.
    """
    sample = sizes[::SAMPLE_STRIDE]
    more = 8 + math.ceil(1.5 * count * len(sample) / len(sizes))
    if more < len(sample):
        likely = np.flatnonzero(sizes >= np.partition(sample, len(sample) - more)[len(sample) - more])
        if len(likely) >= count:
            return likely
    return np.arange(len(sizes))


class Message:
    """The largest elements of a piece with their indices, in one block of bytes.

    Args:
        length: of the piece.
        kept: the fraction of its elements that is sent; at least one element is.
    """

    def __init__(self, length: int, kept: float):
        self._count = min(length, max(1, round(kept * length)))
        index = np.dtype(np.uint16 if length <= 1 << 16 else np.uint32)
        self.bytes = np.zeros(self._count * (4 + index.itemsize), np.uint8)
        self._values = self.bytes[: 4 * self._count].view(np.float32)
        self._indices = self.bytes[4 * self._count :].view(index)

    def take(self, piece: Array) -> None:
        """Move the largest elements of a piece to the message; they become zero in the piece."""
        indices = largest(piece, self._count)
        self._values[:], self._indices[:] = piece[indices], indices
        piece[indices] = 0

    def put(self, piece: Array) -> None:
        """Write the elements of the message to a piece, and zeros elsewhere."""
        piece[:] = 0
        piece[self._indices] = self._values


class TopK(Wire):
    """The form of messages that hold the largest elements of a part.

    If elements are not finite, at least one of them is sent. So all nodes see that the gradient cannot be used, and
    keep the residual of the gradient before.

    Args:
        kept: the fraction of a part's elements that is sent, above 0 and below 1.
        feedback: adds the residual, and keeps the next.
    """

    one_sum_per_node = True  # so that one residual is enough for a node

    def __init__(self, kept: float, feedback: ErrorFeedback):
        super().__init__()
        self.is_exact = False
        self.cannot_overflow = False  # residuals may be large
        self._kept, self._feedback = kept, feedback

    def start(self) -> None:
        """Prepare for messages between nodes."""
        self._feedback.activate()

    def outgoing(self, vector: Array, part: slice) -> tuple[Array, Action]:
        """Return the message for a part of a vector, and the action that fills it."""
        message = self._message(part)
        return message.bytes, lambda: message.take(self._feedback.add_to(vector, part))

    def incoming(self, vector: Array, part: slice) -> tuple[Array, Action]:
        """Return the memory that a message for a part is received into, and the action that unpacks it."""
        message = self._message(part)
        return message.bytes, lambda: message.put(vector[part])

    def outgoing_sum(self, total: Array, part: slice) -> tuple[Array, Action]:
        """Return the message with a finished sum, and the action that fills it and makes the sum equal to it."""
        message = self._message(part)

        def pack() -> None:
            message.take(self._feedback.add_to(total, part))
            message.put(total[part])

        return message.bytes, pack

    def local_sum(self, total: Array, part: slice) -> Action:
        """Return the action for a finished sum that is not sent: the residual is added to it, and becomes zero."""

        def add_residual() -> None:
            residual = self._feedback.add_to(total, part)
            total[part] = residual
            residual[:] = 0

        return add_residual

    def _message(self, part: slice) -> Message:
        return Message(part.stop - part.start, self._kept)


def wire_for(form: str, kept: float | None, feedback: ErrorFeedback) -> Wire:
    """Return the form in which numbers travel between nodes.

    Args:
        form: TOP_K, or a name in wire.FORMS.
        kept: with TOP_K, the fraction of a part's elements that is sent.
        feedback: adds the residual, and keeps the next.
    """
    if form != TOP_K:
        return Wire(form)
    assert kept is not None
    return TopK(kept, feedback)
