"""The sum over several nodes, bucket by bucket, while backward still computes what lies before.

As soon as all ranks of a node have the gradient of a bucket, they add up their parts of it and send each to the
node that finishes it; that node adds up what all nodes have sent, along the tree, and sends the sum to all. So each
node sends and receives at the same time, and no more than a reduce-scatter and an allgather would. In what order
things arrive has no influence on the bits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbp.parallel.comm import Communicator
from dbp.parallel.deal import Deal
from dbp.parallel.tree import Adder, Additions, Array, Node, additions

PARTS, SUMS, VECTORS, WHOLE = range(
    4
)  # tags: messages between two ranks arrive in the order of sending for each of them
IN_FLIGHT = 2  # messages to another node at the same time
LOOK_AGAIN = 3e-4  # seconds until the thread looks again: a link of 1 Gbit/s moves less than a fragment meanwhile


def spreading(comm: Communicator, deal: Deal, bucket: slice, vector: Array, tag: int) -> tuple[list[Any], list[Any]]:
    """Messages out and in by which every node gets what the ranks of the others have finished of a bucket."""
    out = [comm.outgoing(vector[m.part], m.rank, tag) for node in deal.others for m in deal.incoming(bucket, node)]
    into = [comm.incoming(vector[m.part], m.rank, tag) for node in deal.others for m in deal.outgoing(bucket, node)]
    return out, into


class Spread:
    """Gives to all nodes what the ranks of each have of a vector that is divided among all; collective.

    Args:
        comm: the ranks.
        deal: who has what.
        vector: of which the ranks of a node have one copy.
    """

    def __init__(self, comm: Communicator, deal: Deal, vector: Array):
        self._comm, self.vector = comm, vector
        both = [spreading(comm, deal, bucket, vector, VECTORS) for bucket in deal.buckets]
        self._messages = [message for out, into in both for message in (*into, *out)]

    def __call__(self) -> None:
        """Do it; the ranks of a node must wait for each other after it."""
        self._comm.start(self._messages)
        self._comm.stages.wait_until(lambda: self._comm.done(self._messages))

    def free(self) -> None:
        """It will not be used again."""
        self._comm.discard(self._messages)


@dataclass
class _Bucket:
    """What is done with a bucket, in this order."""

    adders: list[Adder] = field(default_factory=list)  # over the ranks of this node, for each node
    out: list[Any] = field(default_factory=list)
    into: list[Any] = field(default_factory=list)
    finish: Callable[[], None] = lambda: None
    sums_out: list[Any] = field(default_factory=list)
    sums_into: list[Any] = field(default_factory=list)


class Exchange:
    """Sums up a vector over the nodes, again and again.

    Args:
        comm: the ranks.
        deal: who does what.
        parts: what is added up on this node, and where `total` is, in memory that its ranks share.
        nodes: the nodes of the tree that the parts of each node are.
        total: where the sum comes: where this rank updates it, or only what this rank finishes of it.
        spread: whether a finished sum is sent to all nodes.
        progress: a number for each rank of this node, shared by them, zero at first.
    """

    def __init__(
        self,
        comm: Communicator,
        deal: Deal,
        parts: Sequence[Array],
        nodes: Sequence[list[Node]],
        total: Array,
        spread: bool,
        progress: Array,
    ):
        self._comm, self._deal, self._total, self._spread = comm, deal, total, spread
        self._plans = [additions(of_node, whole=False) for of_node in nodes]
        self._plan_of_all = additions([node for plan in self._plans for node in plan.nodes])
        self._spare: dict[int, Array] = {}
        self._buckets = [self._bucket(bucket, parts, sums) for sums in [self._sums(parts)] for bucket in deal.buckets]
        self._messages = [m for b in self._buckets for m in (*b.into, *b.sums_into, *b.out, *b.sums_out)]
        self._receiving = [m for b in self._buckets for m in (*b.into, *b.sums_into)]
        self._progress, self._place = progress, comm.rank - deal.nodes.runs[deal.nodes.mine].start
        self._round = self._added = self._finished = 0
        self._queue, self._sending = deque[Any](), list[Any]()
        self._most = IN_FLIGHT * len(deal.others)
        self._helper = _Helper(self.advance) if comm.threads else None

    def _sums(self, parts: Sequence[Array]) -> list[list[Array]]:
        """For each node the arrays that hold what was added up there; those of other nodes receive it.

        They are as long as the vector, but only the pages in use take memory.
        """
        here, size, dtype = self._deal.nodes.mine, self._deal.size, self._total.dtype
        return [
            [parts[place] if node == here and place < len(parts) else np.empty(size, dtype) for place in plan.left]
            for node, plan in enumerate(self._plans)
        ]

    def _bucket(self, run: slice, parts: Sequence[Array], sums: list[list[Array]]) -> _Bucket:
        comm, deal, bucket = self._comm, self._deal, _Bucket()
        here, plan = deal.nodes.mine, self._plans[deal.nodes.mine]
        for node in [*deal.others, here]:
            mine = deal.added(run, node, comm.rank)
            bucket.adders.append(self._adder(plan, parts, sums[here], mine))
        for node in deal.others:
            bucket.out += [
                comm.outgoing(array[m.part], m.rank, PARTS) for array in sums[here] for m in deal.outgoing(run, node)
            ]
            bucket.into += [
                comm.incoming(array[m.part], m.rank, PARTS) for array in sums[node] for m in deal.incoming(run, node)
            ]
        if self._spread:
            bucket.sums_out, bucket.sums_into = spreading(comm, deal, run, self._total, SUMS)
        bucket.finish = self._finish(deal.finished(run), [array for of_node in sums for array in of_node])
        return bucket

    def _adder(self, plan: Additions, parts: Sequence[Array], sums: Sequence[Array], piece: slice) -> Adder:
        return Adder(plan, [part[piece] for part in parts], [array[piece] for array in sums], self._spare)

    def _finish(self, piece: slice, sums: Sequence[Array]) -> Callable[[], None]:
        """What sums up a piece over all nodes."""
        adder, total = self._adder(self._plan_of_all, sums, [self._total], piece), self._total[piece]
        elsewhere = not np.shares_memory(adder.sums[0], total)  # where there is only one part

        def finish() -> None:
            (found,) = adder.add()
            if elsewhere:
                total[:] = found

        return finish

    # --- a round ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new sum; what was there before must not be needed any more on any rank of this node."""
        self._round, self._added, self._finished = self._round + 1, 0, 0
        assert not self._queue
        self._comm.start(self._receiving)
        if self._helper is not None:
            self._helper.resume()

    def written(self, start: int) -> None:
        """This rank has written its parts of the vector from this element to the end."""
        ready = sum(bucket.start >= start for bucket in self._deal.buckets)
        self._comm.sync()
        self._progress[self._place] = self._round * (len(self._buckets) + 1) + ready
        if self._helper is None:
            self.advance()

    def advance(self) -> bool:
        """Do what can be done now without waiting; whether all is done."""
        comm, buckets = self._comm, self._buckets
        while self._added < self._ready():
            bucket = buckets[self._added]
            for adder in bucket.adders:
                adder.add()
            self._queue += bucket.out
            self._added += 1
        self._send()
        while self._finished < len(buckets) and comm.done(buckets[self._finished].into):
            if self._finished == self._added:
                break
            buckets[self._finished].finish()
            self._queue += buckets[self._finished].sums_out
            self._finished += 1
        self._send()
        return self._finished == len(buckets) and not self._queue and comm.done(self._messages)

    def _send(self) -> None:
        """Begin with what is next, but only with so much that the first is not held up by what comes later.

        Else the parts of all buckets would arrive at the same time, late, and the other direction stand idle meanwhile.
        """
        self._sending = [message for message in self._sending if not self._comm.done([message])]
        while self._queue and len(self._sending) < self._most:
            self._sending.append(self._queue.popleft())
            self._comm.start(self._sending[-1:])

    def _ready(self) -> int:
        """How many buckets all ranks of this node have written."""
        least = int(self._progress.min()) - self._round * (len(self._buckets) + 1)
        self._comm.sync()
        return min(max(least, 0), len(self._buckets))

    def finish(self) -> None:
        """Wait until the sum is there."""
        self.written(0)
        if self._helper is not None:
            self._helper.pause()
        self._comm.stages.wait_until(self.advance, self._missing)

    def _missing(self) -> list[int]:
        """The ranks that have not yet sent what this rank waits for."""
        if self._finished == len(self._buckets):
            return sorted(self._deal.nodes.runs[node][0] for node in self._deal.others)
        bucket = self._deal.buckets[self._finished]
        senders = [m.rank for node in self._deal.others for m in self._deal.incoming(bucket, node)]
        return sorted(set(senders))

    def free(self) -> None:
        """It will not be used again."""
        if self._helper is not None:
            self._helper.end()
        self._comm.discard(self._messages)


class _Helper:
    """A thread that calls a function again and again, while the main thread computes.

    Matrix products and other long operations of NumPy let it run; it mostly sleeps, so it needs no core of its own.

    Args:
        function: not called by the main thread unless paused.
    """

    def __init__(self, function: Callable[[], bool]):
        self._function = function
        self._working, self._lock = threading.Event(), threading.Lock()
        self._error: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="dbp exchange", daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Begin to call the function, until it gives true."""
        self._working.set()

    def pause(self) -> None:
        """Stop calling it; the main thread may do so when this returns."""
        self._working.clear()
        with self._lock:
            if self._error is not None:
                raise self._error

    def end(self) -> None:
        """The thread ends."""
        self._ended = True
        self._working.set()
        self._thread.join()

    def _work(self) -> None:
        while self._working.wait() and not self._ended:
            with self._lock:
                if self._working.is_set():
                    self._step()
            time.sleep(LOOK_AGAIN)

    def _step(self) -> None:
        try:
            if self._function():
                self._working.clear()
        except BaseException as error:  # told by the main thread
            self._error = error
            self._working.clear()
