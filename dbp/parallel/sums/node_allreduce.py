"""An allreduce over several nodes, bucket by bucket, while backward still computes the buckets before.

As soon as all ranks of a node have the gradient of a bucket, they add up their parts of it and send each to the
node that finishes it. That node adds up what all nodes have sent, along the tree, and sends the sum to all. So each
node sends and receives at the same time, and no more than a reduce-scatter and an allgather would. The order in which
messages arrive has no influence on the bits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.messages import PARTS, SUMS, Messages
from dbp.parallel.ranks.wire import Action, Wire, do_nothing
from dbp.parallel.sums.polling_thread import PollingThread
from dbp.parallel.sums.summation_tree import Adder, Additions, Branch, additions
from dbp.parallel.vectors.deal import Deal
from dbp.types import Array

IN_FLIGHT = 2  # messages that are sent to one node at the same time


@dataclass
class _Bucket:
    """The work on a bucket, in the order in which it is done.

    Args:
        adders: sum over the ranks of this node, for each node that finishes a part.
        parts_out: messages with these sums.
        parts_in: the like from other nodes.
        finish: adds up the parts of all nodes.
        sums_out: messages with the finished sum.
        sums_in: the like from other nodes.
    """

    adders: list[Adder]
    parts_out: Messages
    parts_in: Messages
    finish: Action
    sums_out: Messages
    sums_in: Messages


class NodeAllreduce:
    """An allreduce of vectors over nodes, which is used again and again.

    Args:
        comm: the ranks.
        deal: which rank adds up and finishes which part.
        parts: the vectors to be added up on this node, in memory that its ranks share.
        branches: for each node, which branches of the tree its parts are.
        total: memory for the sum, shared by the ranks of this node.
        to_all_nodes: True if a finished sum is sent to all nodes; else it stays on the rank that finishes it.
        progress: a number for each rank of this node, shared by them, zero at first.
        wire: the form in which numbers travel.
    """

    def __init__(
        self,
        comm: Communicator,
        deal: Deal,
        parts: Sequence[Array],
        branches: Sequence[list[Branch]],
        total: Array,
        to_all_nodes: bool,
        progress: Array,
        wire: Wire,
    ):
        self._comm, self._deal, self._total, self._to_all_nodes = comm, deal, total, to_all_nodes
        self._wire = wire
        wire.start()
        self._plans = [additions(of_node, to_root=False) for of_node in branches]
        remaining = [branch for plan in self._plans for branch in plan.branches]
        if wire.one_sum_per_node:  # a node without shards takes part with zeros, as it may have a residual to send
            self._plans = [additions(of_node or [(0, 0)]) for of_node in branches]
            parts = parts or [np.zeros(deal.size, total.dtype)]
            remaining = [(0, node) for node in range(len(branches))]
        self._plan_of_all = additions(remaining)
        self._spare: dict[int, Array] = {}
        self._buckets = [self._bucket(bucket, parts, sums) for sums in [self._sums(parts)] for bucket in deal.buckets]
        self._receiving = [m for b in self._buckets for m in (*b.parts_in.all, *b.sums_in.all)]
        self._messages = [*self._receiving, *(m for b in self._buckets for m in (*b.parts_out.all, *b.sums_out.all))]
        self._progress, self._position = progress, comm.rank - deal.nodes.runs[deal.nodes.mine].start
        self._round = self._added = self._finished = self._arrived = 0
        self._queue, self._sending, self._queued = deque[Any](), list[Any](), 0
        self._sums_queued = [0] * len(self._buckets)  # for each bucket, messages queued up to its finished sum
        self._in_flight = IN_FLIGHT * len(deal.others)
        self._thread = PollingThread(self.advance) if comm.thread_level in ("serialized", "multiple") else None

    def _sums(self, parts: Sequence[Array]) -> list[list[Array]]:
        """Return for each node the arrays for the sums over its ranks; those of other nodes are received into.

        They are as long as the vector, but only the pages in use take memory.
        """
        here, size, dtype = self._deal.nodes.mine, self._deal.size, self._total.dtype
        return [
            [parts[slot] if node == here and slot < len(parts) else np.empty(size, dtype) for slot in plan.remaining]
            for node, plan in enumerate(self._plans)
        ]

    def _bucket(self, bucket: slice, parts: Sequence[Array], sums: list[list[Array]]) -> _Bucket:
        comm, deal, wire, here = self._comm, self._deal, self._wire, self._deal.nodes.mine
        pieces = [deal.added(bucket, node, comm.rank) for node in [*deal.others, here]]
        adders = [self._adder(self._plans[here], parts, sums[here], piece) for piece in pieces]
        parts_out, parts_in, sums_out, sums_in = (Messages(comm, tag) for tag in (PARTS, PARTS, SUMS, SUMS))
        for node in deal.others:
            for array in sums[here]:
                parts_out.send(deal.outgoing(bucket, node), partial(wire.outgoing, array))
            for array in sums[node]:
                parts_in.receive(deal.incoming(bucket, node), partial(wire.incoming, array))
        forms, actions = self._to_all(bucket)
        if self._to_all_nodes:
            sent, received = deal.broadcast_messages([bucket])
            sums_out.send(sent, lambda part: (forms[part.start], do_nothing))
            sums_in.receive(received, partial(wire.incoming, self._total))
        finish = self._finish(deal.finished(bucket), [array for of_node in sums for array in of_node], actions)
        return _Bucket(adders, parts_out, parts_in, finish, sums_out, sums_in)

    def _to_all(self, bucket: slice) -> tuple[dict[int, Array], list[Action]]:
        """Return the messages with the sum that this rank finishes, by their first element, and what prepares them."""
        wire, total, mine = self._wire, self._total, self._deal.finished(bucket)
        if not self._to_all_nodes:
            return {}, [wire.local_sum(total, mine)]
        common = self._deal.common(bucket, self._deal.nodes.mine)
        forms = {part.start: wire.outgoing_sum(total, part) for part in common if mine.start <= part.start < mine.stop}
        return {start: array for start, (array, _) in forms.items()}, [action for _, action in forms.values()]

    def _adder(self, plan: Additions, parts: Sequence[Array], sums: Sequence[Array], piece: slice) -> Adder:
        return Adder(plan, [part[piece] for part in parts], [array[piece] for array in sums], self._spare)

    def _finish(self, piece: slice, sums: Sequence[Array], actions: Sequence[Action]) -> Action:
        """Return the action that sums up a piece over all nodes and prepares the messages with the sum."""
        adder, total = self._adder(self._plan_of_all, sums, [self._total], piece), self._total[piece]
        is_elsewhere = not np.shares_memory(adder.sums[0], total)  # if there is only one part

        def finish() -> None:
            (found,) = adder.add()
            if is_elsewhere:
                total[:] = found
            for action in actions:
                action()

        return finish

    # --- one allreduce ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a new sum; no rank of this node may still need the one before."""
        self._round, self._added, self._finished, self._arrived, self._queued = self._round + 1, 0, 0, 0, 0
        assert not self._queue
        self._comm.channel.start(self._receiving)
        if self._thread is not None:
            self._thread.resume()

    def on_written(self, start: int) -> None:
        """Send what can be sent, as this rank has written its parts of the vector from this element to the end."""
        ready = sum(bucket.start >= start for bucket in self._deal.buckets)
        self._comm.node.memory_barrier()
        self._progress[self._position] = self._round * (len(self._buckets) + 1) + ready
        self._now()

    def _now(self) -> None:
        """Advance at once: this thread has a core, for which the other thread may have to wait."""
        if self._thread is None:
            self.advance()
        else:
            self._thread.call_now()

    def advance(self) -> bool:
        """Do what can be done now without waiting; return True if all is done."""
        comm, buckets = self._comm, self._buckets
        while self._added < self._ready():
            bucket = buckets[self._added]
            if (timeline := comm.clock.timeline) is not None:
                timeline.open(self._added, f"bucket {self._added}")
            for adder in bucket.adders:
                adder.add()
            self._enqueue(bucket.parts_out)
            self._added += 1
            self._send()
        while self._finished < len(buckets) and comm.channel.done(buckets[self._finished].parts_in.all):
            if self._finished == self._added:
                break
            bucket = buckets[self._finished]
            bucket.parts_in.run_actions()
            bucket.finish()
            self._enqueue(bucket.sums_out)
            self._sums_queued[self._finished] = self._queued
            self._finished += 1
            self._send()
        self._send()
        is_done = self._finished == len(buckets) and not self._queue and comm.channel.done(self._messages)
        if is_done and self._sending:
            self._send()  # notes that the last ones are sent
        return is_done

    def _enqueue(self, messages: Messages) -> None:
        """Queue messages behind those that wait to be sent."""
        messages.run_actions()
        self._queue += messages.all
        self._queued += len(messages.all)

    def _send(self) -> None:
        """Start to send the next messages, but only few at a time, so that later ones do not hold up the first.

        Else the parts of all buckets would arrive at the same time, late, and the other direction stand idle meanwhile.
        """
        timeline, waiting = self._comm.clock.timeline, []
        for message in self._sending:
            if not self._comm.channel.done([message]):
                waiting.append(message)
            elif timeline is not None:
                timeline.close(timeline.messages, id(message))
        self._sending = waiting
        while self._queue and len(waiting) < self._in_flight:
            waiting.append(message := self._queue.popleft())
            if timeline is not None:
                timeline.open(id(message), *self._descriptions[id(message)])
            self._comm.channel.start([message])

    @cached_property
    def _descriptions(self) -> dict[int, tuple[str, dict[str, int | str]]]:
        """Return the name and the details of each message that this rank sends, for a timeline."""
        return {
            id(message): (f"{what} of bucket {number}", {"to rank": rank, "bytes": size})
            for number, bucket in enumerate(self._buckets)
            for what, messages in (("parts", bucket.parts_out), ("sum", bucket.sums_out))
            for message, (rank, size) in zip(messages.all, messages.peers, strict=True)
        }

    def _ready(self) -> int:
        """Return how many buckets all ranks of this node have written."""
        least = int(self._progress.min()) - self._round * (len(self._buckets) + 1)
        self._comm.node.memory_barrier()
        return min(max(least, 0), len(self._buckets))

    def wait_until_added(self) -> bool:
        """Wait until this rank has added up its parts; return True if their sum over all nodes cannot overflow.

        A finite sum of squares proves that no element is above the root of the largest float32, so that the sum over
        as many nodes as there can be is finite.
        """
        self.on_written(0)
        self._comm.clock.wait_until(self._all_added, self._ranks_behind)
        sums = (found for bucket in self._buckets for adder in bucket.adders for found in adder.sums)
        return self._wire.cannot_overflow and all(math.isfinite(np.dot(found, found)) for found in sums)

    def _all_added(self) -> bool:
        self._now()
        return self._added == len(self._buckets)

    def _ranks_behind(self) -> list[int]:
        """Return the ranks of this node that have not yet written all of their parts."""
        all_written = self._round * (len(self._buckets) + 1) + len(self._buckets)
        ranks = self._deal.nodes.runs[self._deal.nodes.mine]
        return [rank for rank, written in zip(ranks, self._progress, strict=False) if written < all_written]

    def wait_for(self, buckets: int, others_arrived: Callable[[], bool] = lambda: True) -> None:
        """Wait until the sum of some buckets has arrived; call wait_until_added() before.

        The sum may be changed then: what of it this rank sends to others has been sent.

        Args:
            buckets: how many.
            others_arrived: returns True when what else is waited for has arrived too.
        """
        self._pause()
        self._comm.clock.wait_until(lambda: self._have_arrived(buckets) and others_arrived(), self._senders)

    def finish(self) -> None:
        """Wait until the sum has arrived, and nothing is left to be sent."""
        self.on_written(0)
        self._pause()
        self._comm.clock.wait_until(lambda: self._have_arrived(len(self._buckets)) and self.advance(), self._senders)

    def _pause(self) -> None:
        """Stop the other thread, so that only what this thread calls advances."""
        if self._thread is not None:
            self._thread.pause()

    def _have_arrived(self, buckets: int) -> bool:
        """Advance, and return True if the sum of so many buckets has arrived."""
        self.advance()
        while self._arrived < self._finished and self._is_exchanged(self._arrived):
            self._buckets[self._arrived].sums_in.run_actions()
            if (timeline := self._comm.clock.timeline) is not None:
                timeline.close(timeline.buckets, self._arrived)
            self._arrived += 1
        return self._arrived >= buckets

    def _is_exchanged(self, number: int) -> bool:
        """Return True if the finished sum of a bucket has been sent to and received from all nodes."""
        bucket, started = self._buckets[number], self._queued - len(self._queue)
        return started >= self._sums_queued[number] and self._comm.channel.done(
            [*bucket.sums_in.all, *bucket.sums_out.all]
        )

    def _senders(self) -> list[int]:
        """Return the ranks that have not yet sent what this rank waits for."""
        if behind := self._ranks_behind():
            return behind
        if self._finished == len(self._buckets):
            return sorted(self._deal.nodes.runs[node][0] for node in self._deal.others)
        bucket = self._deal.buckets[self._finished]
        senders = [m.rank for node in self._deal.others for m in self._deal.incoming(bucket, node)]
        return sorted(set(senders))

    def free(self) -> None:
        """Stop the thread and give up the messages."""
        if self._thread is not None:
            self._thread.end()
        self._comm.channel.discard(self._messages)
