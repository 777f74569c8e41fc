"""The sum over several nodes, bucket by bucket, while backward still computes what lies before.

As soon as all ranks of a node have the gradient of a bucket, they add up their parts of it and send each to the
node that finishes it; that node adds up what all nodes have sent, along the tree, and sends the sum to all. So each
node sends and receives at the same time, and no more than a reduce-scatter and an allgather would. In what order
things arrive has no influence on the bits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.messages import PARTS, SUMS, Messages
from dbp.parallel.ranks.wire import Action, Wire, nothing
from dbp.parallel.sums.background import Background
from dbp.parallel.sums.tree import Adder, Additions, Node, additions
from dbp.parallel.vectors.deal import Deal
from dbp.types import Array

IN_FLIGHT = 2  # messages to another node at the same time


@dataclass
class _Bucket:
    """What is done with a bucket, in this order."""

    adders: list[Adder]  # over the ranks of this node, for each node
    out: Messages
    into: Messages
    finish: Action
    sums_out: Messages
    sums_into: Messages


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
        wire: how numbers travel.
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
        wire: Wire,
    ):
        self._comm, self._deal, self._total, self._spread = comm, deal, total, spread
        self._wire = wire
        wire.start()
        self._plans = [additions(of_node, whole=False) for of_node in nodes]
        left = [node for plan in self._plans for node in plan.nodes]
        if wire.together:  # also of a node without shards, as it may have something to send from earlier on
            self._plans = [additions(of_node or [(0, 0)]) for of_node in nodes]
            parts, left = parts or [np.zeros(deal.size, total.dtype)], [(0, node) for node in range(len(nodes))]
        self._plan_of_all = additions(left)
        self._spare: dict[int, Array] = {}
        self._buckets = [self._bucket(bucket, parts, sums) for sums in [self._sums(parts)] for bucket in deal.buckets]
        self._messages = [
            m for b in self._buckets for m in (*b.into.all, *b.sums_into.all, *b.out.all, *b.sums_out.all)
        ]
        self._receiving = [m for b in self._buckets for m in (*b.into.all, *b.sums_into.all)]
        self._progress, self._place = progress, comm.rank - deal.nodes.runs[deal.nodes.mine].start
        self._round = self._added = self._finished = self._arrived = 0
        self._queue, self._sending, self._queued = deque[Any](), list[Any](), 0
        self._sums_queued = [0] * len(self._buckets)  # messages that were queued when the sum of a bucket had been
        self._most = IN_FLIGHT * len(deal.others)
        self._helper = Background(self.advance) if comm.thread_level in ("serialized", "multiple") else None

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
        comm, deal, wire, here = self._comm, self._deal, self._wire, self._deal.nodes.mine
        places = [deal.added(run, node, comm.rank) for node in [*deal.others, here]]
        adders = [self._adder(self._plans[here], parts, sums[here], place) for place in places]
        out, into, sums_out, sums_into = (Messages(comm, tag) for tag in (PARTS, PARTS, SUMS, SUMS))
        for node in deal.others:
            for array in sums[here]:
                out.send(deal.outgoing(run, node), partial(wire.outgoing, array))
            for array in sums[node]:
                into.receive(deal.incoming(run, node), partial(wire.incoming, array))
        forms, actions = self._to_all(run)
        if self._spread:
            sent, received = deal.spread([run])
            sums_out.send(sent, lambda part: (forms[part.start], nothing))
            sums_into.receive(received, partial(wire.incoming, self._total))
        finish = self._finish(deal.finished(run), [array for of_node in sums for array in of_node], actions)
        return _Bucket(adders, out, into, finish, sums_out, sums_into)

    def _to_all(self, run: slice) -> tuple[dict[int, Array], list[Action]]:
        """What is sent of the sum that this rank finishes, by where it begins, and what is done to the sum for that."""
        wire, total, mine = self._wire, self._total, self._deal.finished(run)
        if not self._spread:
            return {}, [wire.kept(total, mine)]
        common = self._deal.common(run, self._deal.nodes.mine)
        forms = {part.start: wire.finished(total, part) for part in common if mine.start <= part.start < mine.stop}
        return {start: array for start, (array, _) in forms.items()}, [action for _, action in forms.values()]

    def _adder(self, plan: Additions, parts: Sequence[Array], sums: Sequence[Array], piece: slice) -> Adder:
        return Adder(plan, [part[piece] for part in parts], [array[piece] for array in sums], self._spare)

    def _finish(self, piece: slice, sums: Sequence[Array], actions: Sequence[Action]) -> Action:
        """What sums up a piece over all nodes, and does what is to be done to the sum."""
        adder, total = self._adder(self._plan_of_all, sums, [self._total], piece), self._total[piece]
        elsewhere = not np.shares_memory(adder.sums[0], total)  # where there is only one part

        def finish() -> None:
            (found,) = adder.add()
            if elsewhere:
                total[:] = found
            for action in actions:
                action()

        return finish

    # --- a round ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new sum; what was there before must not be needed any more on any rank of this node."""
        self._round, self._added, self._finished, self._arrived, self._queued = self._round + 1, 0, 0, 0, 0
        assert not self._queue
        self._comm.start(self._receiving)
        if self._helper is not None:
            self._helper.resume()

    def written(self, start: int) -> None:
        """This rank has written its parts of the vector from this element to the end."""
        ready = sum(bucket.start >= start for bucket in self._deal.buckets)
        self._comm.sync()
        self._progress[self._place] = self._round * (len(self._buckets) + 1) + ready
        self._now()

    def _now(self) -> None:
        """Advance at once: this thread has a core, for which the other may have to wait."""
        if self._helper is None:
            self.advance()
        else:
            self._helper.now()

    def advance(self) -> bool:
        """Do what can be done now without waiting; whether all is done."""
        comm, buckets = self._comm, self._buckets
        while self._added < self._ready():
            bucket = buckets[self._added]
            for adder in bucket.adders:
                adder.add()
            self._add(bucket.out)
            self._added += 1
            self._send()
        while self._finished < len(buckets) and comm.done(buckets[self._finished].into.all):
            if self._finished == self._added:
                break
            bucket = buckets[self._finished]
            bucket.into.ready()
            bucket.finish()
            self._add(bucket.sums_out)
            self._sums_queued[self._finished] = self._queued
            self._finished += 1
            self._send()
        self._send()
        return self._finished == len(buckets) and not self._queue and comm.done(self._messages)

    def _add(self, messages: Messages) -> None:
        """Have them sent after those that wait to be."""
        messages.ready()
        self._queue += messages.all
        self._queued += len(messages.all)

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

    def added(self) -> bool:
        """Wait until this rank has added up its parts; whether their numbers are so small that all sums are finite.

        Of so many nodes as there can be: that the sum of squares is finite says that no number is above the root of
        the largest one.
        """
        self.written(0)
        self._comm.stages.wait_until(self._all_added, self._behind)
        sums = (found for bucket in self._buckets for adder in bucket.adders for found in adder.sums)
        return self._wire.keeps_small and all(math.isfinite(np.dot(found, found)) for found in sums)

    def _all_added(self) -> bool:
        self._now()
        return self._added == len(self._buckets)

    def _behind(self) -> list[int]:
        """The ranks of this node that have not yet written all of their parts."""
        all_written = self._round * (len(self._buckets) + 1) + len(self._buckets)
        ranks = self._deal.nodes.runs[self._deal.nodes.mine]
        return [rank for rank, written in zip(ranks, self._progress, strict=False) if written < all_written]

    def wait_for(self, buckets: int, messages: Sequence[Any] = ()) -> None:
        """Wait until the sum of so many buckets is there, and these messages; added() comes before it.

        It may be changed then: what of it this rank sends to others has been sent.
        """
        self._pause()
        self._comm.stages.wait_until(lambda: self._arrive(buckets) and self._comm.done(messages), self._missing)

    def finish(self) -> None:
        """Wait until the sum is there, and nothing is left to be sent."""
        self.written(0)
        self._pause()
        self._comm.stages.wait_until(lambda: self._arrive(len(self._buckets)) and self.advance(), self._missing)

    def _pause(self) -> None:
        """From now on it advances only in what this thread calls."""
        if self._helper is not None:
            self._helper.pause()

    def _arrive(self, buckets: int) -> bool:
        """Advance, and see whether the sum of so many buckets is there."""
        self.advance()
        while self._arrived < self._finished and self._is_there(self._arrived):
            self._buckets[self._arrived].sums_into.ready()
            self._arrived += 1
        return self._arrived >= buckets

    def _is_there(self, number: int) -> bool:
        """Whether all has been sent and received of a bucket that this rank has finished."""
        bucket, begun = self._buckets[number], self._queued - len(self._queue)
        return begun >= self._sums_queued[number] and self._comm.done([*bucket.sums_into.all, *bucket.sums_out.all])

    def _missing(self) -> list[int]:
        """The ranks that have not yet sent what this rank waits for."""
        if behind := self._behind():
            return behind
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
