"""Messages between nodes of the largest numbers alone, with feedback of what they leave out.

Of what is to be sent, with what was left before added to it, the k numbers that are largest in magnitude are sent, and
the others left for the next time (Stich et al. 2018, "Sparsified SGD with memory"; Lin et al. 2018, "Deep gradient
compression"). All nodes, that which finishes a sum too, use what is sent of it, so that all come to the same weights.
"""

from __future__ import annotations

import math

import numpy as np

from dbp.parallel.ranks.wire import Action, Wire
from dbp.parallel.sums.error_feedback import ErrorFeedback
from dbp.types import Array

TOP_K = "top-k"
MAGNITUDE = np.uint32(0x7FFFFFFF)  # the bits of a float32 but its sign: in their order magnitudes are
STRIDE = 31  # from one element of a sample to the next: seldom in step with the rows of a matrix


def largest(numbers: Array, count: int) -> Array:
    """The places of so many float32 that are largest in magnitude, in order; of equal ones the first.

    What is no number counts as larger than infinity, and that as larger than all numbers.
    """
    sizes = numbers.view(np.uint32) & MAGNITUDE
    likely = _likely(sizes, count)
    found = sizes[likely]
    least = np.partition(found, len(found) - count)[len(found) - count]
    chosen: Array = likely[found >= least]
    if surplus := len(chosen) - count:
        equal = chosen[sizes[chosen] == least]
        chosen = np.setdiff1d(chosen, equal[-surplus:], assume_unique=True)
    return chosen


def _likely(sizes: Array, count: int) -> Array:
    """Places among which the largest are, in order: few as a rule, as it takes long to look through all.

    A sample tells how large some more than are asked for should be. If they turn out to be fewer, it is all places.
    """
    sample = sizes[::STRIDE]
    more = 8 + math.ceil(1.5 * count * len(sample) / len(sizes))
    if more < len(sample):
        likely = np.flatnonzero(sizes >= np.partition(sample, len(sample) - more)[len(sample) - more])
        if len(likely) >= count:
            return likely
    return np.arange(len(sizes))


class Message:
    """So many numbers of a piece with their places, in one run of bytes.

    Args:
        length: of the piece.
        kept: the part of its numbers that is sent, at least one.
    """

    def __init__(self, length: int, kept: float):
        self._count = min(length, max(1, round(kept * length)))
        place = np.dtype(np.uint16 if length <= 1 << 16 else np.uint32)
        self.bytes = np.zeros(self._count * (4 + place.itemsize), np.uint8)
        self._values = self.bytes[: 4 * self._count].view(np.float32)
        self._places = self.bytes[4 * self._count :].view(place)

    def take(self, piece: Array) -> None:
        """Take the largest numbers of a piece out of it: zeros are left in their places."""
        places = largest(piece, self._count)
        self._values[:], self._places[:] = piece[places], places
        piece[places] = 0

    def put(self, piece: Array) -> None:
        """Write what the message says to a piece, all else of which is zero then."""
        piece[:] = 0
        piece[self._places] = self._values


class TopK(Wire):
    """How parts of vectors become messages of their largest numbers.

    A number that is not finite is always among those that are sent, or another that is not: so all nodes see that the
    gradient is not to be used, and what was left before remains.

    Args:
        kept: the part of a message's numbers that is sent, above 0 and below 1.
        feedback: keeps the rest.
    """

    together = True  # one vector of what is left is then enough for a node

    def __init__(self, kept: float, feedback: ErrorFeedback):
        super().__init__()
        self.keeps_small = False  # what is left unsent may be large
        self._share, self._feedback = kept, feedback

    def start(self) -> None:
        """Several nodes are about to use it."""
        self._feedback.activate()

    def outgoing(self, vector: Array, part: slice) -> tuple[Array, Action]:
        """What is sent for a part of a vector, and what brings it up to date."""
        message = self._message(part)
        return message.bytes, lambda: message.take(self._feedback.add_to(vector, part))

    def incoming(self, vector: Array, part: slice) -> tuple[Array, Action]:
        """What is received for a part of a vector, and what brings that part up to date."""
        message = self._message(part)
        return message.bytes, lambda: message.put(vector[part])

    def finished(self, total: Array, part: slice) -> tuple[Array, Action]:
        """What all others are sent of a finished sum, and what brings that up to date, and the sum to what they get."""
        message = self._message(part)

        def sent() -> None:
            message.take(self._feedback.add_to(total, part))
            message.put(total[part])

        return message.bytes, sent

    def kept(self, total: Array, part: slice) -> Action:
        """What is done to a finished sum that is not sent: what was left is added to it, and nothing is left."""

        def whole() -> None:
            there = self._feedback.add_to(total, part)
            total[part] = there
            there[:] = 0

        return whole

    def _message(self, part: slice) -> Message:
        return Message(part.stop - part.start, self._share)


def wire_for(form: str, kept: float | None, feedback: ErrorFeedback) -> Wire:
    """How numbers travel between nodes.

    Args:
        form: TOP_K, or a name in wire.FORMS.
        kept: with the former, the part of a message's numbers that is sent.
        feedback: keeps the rest.
    """
    if form != TOP_K:
        return Wire(form)
    assert kept is not None
    return TopK(kept, feedback)
