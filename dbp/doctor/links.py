"""Trials between nodes: the speed of messages, and the difference of clocks.

Only the first rank of each node takes part. The other ranks get the results.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbp.parallel.ranks.comm import Communicator

PINGS = 7  # questions to each clock, of which the one that is answered fastest counts
MESSAGE_BYTES, MESSAGES = 1 << 19, 8  # size of a message, as in training, and number of messages sent at once
REPEATS = 3  # of which the fastest counts
PING, PONG, DATA = 200, 201, 202  # tags of messages


@dataclass(frozen=True)
class ClockOffset:
    """The offset of a node's clock from that of the first node.

    Args:
        node: number of the node.
        ahead: seconds that its clock is ahead.
        error: error of this in seconds, at most half of a round trip. A small message takes no longer.
    """

    node: int
    ahead: float
    error: float


def clock_offsets(comm: Communicator) -> list[ClockOffset]:
    """Return the clock offsets of all nodes but the first, the same on every rank; collective."""
    found = []
    for node, ranks in enumerate(comm.nodes.runs[1:], 1):
        if comm.rank == 0:
            found.append(_offset_of(comm, node, ranks.start))
        elif comm.rank == ranks.start:
            _answer(comm)
    offsets: list[ClockOffset] = comm.broadcast(found)
    return offsets


def _offset_of(comm: Communicator, node: int, rank: int) -> ClockOffset:
    """Ask a rank for its time, and return the offset from the question that was answered fastest."""
    question, answer = np.zeros(1), np.zeros(1)
    send, receive, seen = [comm.channel.outgoing(question, rank, PING)], [comm.channel.incoming(answer, rank, PONG)], []
    for _ in range(PINGS):
        began = time.time()
        _exchange(comm, receive + send)
        ended = time.time()
        seen.append(ClockOffset(node, float(answer[0]) - (began + ended) / 2, (ended - began) / 2))
    comm.channel.discard(send + receive)
    return min(seen, key=lambda clock: clock.error)


def _answer(comm: Communicator) -> None:
    """Answer the questions of rank 0 with the time."""
    question, answer = np.zeros(1), np.zeros(1)
    receive, send = [comm.channel.incoming(question, 0, PING)], [comm.channel.outgoing(answer, 0, PONG)]
    for _ in range(PINGS):
        _exchange(comm, receive)
        answer[0] = time.time()
        _exchange(comm, send)
    comm.channel.discard(receive + send)


def _exchange(comm: Communicator, messages: Sequence[Any]) -> None:
    """Start persistent messages and wait for them."""
    comm.channel.start(messages)
    comm.clock.wait_until(lambda: comm.channel.done(messages))


def link_speeds(comm: Communicator) -> list[float]:
    """Return the bytes per second that each node receives from the node before it; collective.

    All nodes send to the next one at once, as in training; the last node sends to the first.
    """
    nodes, mine = comm.nodes.runs, comm.nodes.mine
    took = 0.0
    if comm.rank == nodes[mine].start and len(nodes) > 1:
        out, back = np.zeros((2, MESSAGES, MESSAGE_BYTES), np.uint8)
        after, before = nodes[(mine + 1) % len(nodes)].start, nodes[mine - 1].start
        messages = [comm.channel.incoming(row, before, DATA + i) for i, row in enumerate(back)]
        messages += [comm.channel.outgoing(row, after, DATA + i) for i, row in enumerate(out)]
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            _exchange(comm, messages)
            times.append(time.perf_counter() - began)
        comm.channel.discard(messages)
        took = min(times)
    seconds = comm.gather(took)
    return [MESSAGE_BYTES * MESSAGES / max(seconds[ranks.start], 1e-9) for ranks in nodes] if len(nodes) > 1 else []
