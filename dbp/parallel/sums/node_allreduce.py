"""An allreduce over several nodes, bucket by bucket, while backward still computes the buckets before.

As soon as all ranks of a node have the gradient of a bucket, they add up their parts of it and send each to the
node that finishes it, at once (see node_exchange) or in stages (see staged_exchange). That node adds up what all nodes
have sent, along the tree, and sends the sum to all. So each node sends and receives at the same time, and no more than
a reduce-scatter and an allgather would. The order in which messages arrive has no influence on the bits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.messages import Messages
from dbp.parallel.ranks.wire import Wire
from dbp.parallel.sums.node_exchange import NodeExchange, Step
from dbp.parallel.sums.polling_thread import PollingThread
from dbp.parallel.vectors.deal import Deal
from dbp.types import Array

IN_FLIGHT = 2  # messages that are sent to one node at the same time


class NodeAllreduce:
    """An allreduce of vectors over nodes, which is used again and again.

    Args:
        comm: the ranks.
        deal: which rank adds up and finishes which part.
        exchange: what the nodes exchange for each bucket.
        progress: a number for each rank of this node, shared by them, zero at first.
        wire: the form in which numbers travel.
    """

    def __init__(self, comm: Communicator, deal: Deal, exchange: NodeExchange, progress: Array, wire: Wire):
        self._comm, self._deal, self._wire = comm, deal, wire
        self._buckets = [exchange.bucket(bucket) for bucket in deal.buckets]
        self._receiving = [message for bucket in self._buckets for message in bucket.received]
        self._messages = [*self._receiving, *(message for bucket in self._buckets for message in bucket.sent)]
        self._progress, self._position = progress, comm.rank - deal.nodes.runs[deal.nodes.mine].start
        self._done = [0] * len(self._buckets[0].steps)  # for each step, the buckets whose work is done
        self._round = self._arrived = 0
        self._queue, self._sending, self._queued = deque[Any](), list[Any](), 0
        self._sums_queued = [0] * len(self._buckets)  # for each bucket, messages queued up to its finished sum
        self._in_flight = IN_FLIGHT * len(exchange.peers)
        self._thread = PollingThread(self.advance) if comm.thread_level in ("serialized", "multiple") else None

    # --- one allreduce ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a new sum; no rank of this node may still need the one before."""
        self._round, self._arrived, self._queued = self._round + 1, 0, 0
        self._done = [0] * len(self._done)
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
        for step in range(len(self._done)):
            while self._can_do(step):
                self._do(step)
        self._send()
        is_done = self._done[-1] == len(self._buckets) and not self._queue and self._comm.channel.done(self._messages)
        if is_done and self._sending:
            self._send()  # notes that the last ones are sent
        return is_done

    def _can_do(self, step: int) -> bool:
        """Return True if a step can be done for the next bucket."""
        number = self._done[step]
        if number == (self._done[step - 1] if step else self._ready()):
            return False
        return self._comm.channel.done(self._buckets[number].steps[step].received.all)

    def _do(self, number_of_step: int) -> None:
        """Do a step for the next bucket, and send what can be sent."""
        number = self._done[number_of_step]
        step: Step = self._buckets[number].steps[number_of_step]
        if number_of_step == 0 and (timeline := self._comm.clock.timeline) is not None:
            timeline.open(number, f"bucket {number}")
        step.received.run_actions()
        for action in step.work:
            action()
        self._enqueue(step.sent)
        self._sums_queued[number] = self._queued
        self._done[number_of_step] += 1
        self._send()

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
            id(message): (f"{step.what} of bucket {number}", {"to rank": rank, "bytes": size})
            for number, bucket in enumerate(self._buckets)
            for step in bucket.steps
            for message, (rank, size) in zip(step.sent.all, step.sent.peers, strict=True)
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
        return self._done[0] == len(self._buckets)

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
        while self._arrived < self._done[-1] and self._is_exchanged(self._arrived):
            self._buckets[self._arrived].sums.run_actions()
            if (timeline := self._comm.clock.timeline) is not None:
                timeline.close(timeline.buckets, self._arrived)
            self._arrived += 1
        return self._arrived >= buckets

    def _is_exchanged(self, number: int) -> bool:
        """Return True if the finished sum of a bucket has been sent to and received from all nodes."""
        started = self._queued - len(self._queue)
        return started >= self._sums_queued[number] and self._comm.channel.done(self._buckets[number].of_total)

    def _senders(self) -> list[int]:
        """Return the ranks that have not yet sent what this rank waits for."""
        if behind := self._ranks_behind():
            return behind
        awaited: list[Messages] = []
        for step, done in enumerate(self._done):
            if done < len(self._buckets):
                awaited.append(self._buckets[done].steps[step].received)
        if not awaited:
            awaited = [bucket.sums for bucket in self._buckets[self._arrived :]]
        return sorted({rank for messages in awaited for rank, _ in messages.peers})

    def free(self) -> None:
        """Stop the thread and give up the messages."""
        if self._thread is not None:
            self._thread.end()
        self._comm.channel.discard(self._messages)
