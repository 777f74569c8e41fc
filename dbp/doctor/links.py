"""Trials of what lies between nodes: how fast messages go, and how far their clocks are apart.

Only the first rank of each node takes part; the others wait for what comes out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbp.parallel.ranks.comm import Communicator

PINGS = 7  # of which the quickest counts
MESSAGE, MESSAGES = 1 << 19, 8  # bytes of one, as in training, and how many are sent at once
REPEATS = 3
PING, PONG, DATA = 200, 201, 202  # tags


@dataclass(frozen=True)
class Clock:
    """A node's clock beside that of the first node.

    Args:
        node: its number.
        ahead: seconds.
        error: seconds that this may be wrong by, half of a round trip; also what a small message takes at most.
    """

    node: int
    ahead: float
    error: float


def clocks(comm: Communicator) -> list[Clock]:
    """Those of all nodes but the first, the same on every rank; collective."""
    found = []
    for node, ranks in enumerate(comm.nodes.runs[1:], 1):
        if comm.rank == 0:
            found.append(_asked(comm, node, ranks.start))
        elif comm.rank == ranks.start:
            _answer(comm)
    told: list[Clock] = comm.broadcast(found)
    return told


def _asked(comm: Communicator, node: int, rank: int) -> Clock:
    """Of several questions to a rank, the one that was answered first tells most."""
    question, answer = np.zeros(1), np.zeros(1)
    ask, hear, seen = [comm.outgoing(question, rank, PING)], [comm.incoming(answer, rank, PONG)], []
    for _ in range(PINGS):
        asked = time.time()
        _sent(comm, hear + ask)
        heard = time.time()
        seen.append(Clock(node, float(answer[0]) - (asked + heard) / 2, (heard - asked) / 2))
    comm.discard(ask + hear)
    return min(seen, key=lambda clock: clock.error)


def _answer(comm: Communicator) -> None:
    question, answer = np.zeros(1), np.zeros(1)
    ask, hear = [comm.incoming(question, 0, PING)], [comm.outgoing(answer, 0, PONG)]
    for _ in range(PINGS):
        _sent(comm, ask)
        answer[0] = time.time()
        _sent(comm, hear)
    comm.discard(ask + hear)


def _sent(comm: Communicator, messages: Sequence[Any]) -> None:
    comm.start(messages)
    comm.stages.wait_until(lambda: comm.done(messages))


def speeds(comm: Communicator) -> list[float]:
    """Bytes a second that each node gets from the one before it while it sends as many to the next; collective.

    All nodes do so at once, as in training; the node before the first is the last.
    """
    nodes, mine = comm.nodes.runs, comm.nodes.mine
    took = 0.0
    if comm.rank == nodes[mine].start and len(nodes) > 1:
        out, back = np.zeros((2, MESSAGES, MESSAGE), np.uint8)
        after, before = nodes[(mine + 1) % len(nodes)].start, nodes[mine - 1].start
        messages = [comm.incoming(row, before, DATA + i) for i, row in enumerate(back)]
        messages += [comm.outgoing(row, after, DATA + i) for i, row in enumerate(out)]
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            _sent(comm, messages)
            times.append(time.perf_counter() - began)
        comm.discard(messages)
        took = min(times)
    seconds = comm.gather(took)
    return [MESSAGE * MESSAGES / max(seconds[ranks.start], 1e-9) for ranks in nodes] if len(nodes) > 1 else []
