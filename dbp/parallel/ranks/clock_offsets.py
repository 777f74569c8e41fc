"""Contents of all ranks that are gathered on rank 0, each with how far its rank's clock is from that of rank 0.

The distance is measured by messages to rank 0 and back (Cristian 1989): rank 0 answers with its time, which counts as
that of the middle of the way. The fastest of several ways is the most precise.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np

from dbp.parallel.ranks.comm import Communicator
from dbp.parallel.ranks.messages import TIMES

ROUNDS = 20  # messages to rank 0 and back


class Gathered(NamedTuple):
    """The content of a rank.

    Args:
        offset: seconds that make times of its clock those of rank 0's; 0 if the clocks may be the same.
        content: bytes.
    """

    offset: float
    content: bytes


def gather_with_offsets(comm: Communicator, content: bytes) -> list[Gathered]:
    """Return the content of all ranks on rank 0, and nothing on the others; collective.

    One rank after the other sends its own, so that only rank 0 needs memory for all.

    Args:
        comm: the ranks.
        content: of this rank; at most 2 GiB.
    """
    sizes = comm.gather(len(content))
    if comm.rank == 0:
        return [Gathered(0.0, content), *(_received(comm, rank, sizes[rank]) for rank in range(1, comm.size))]
    own = np.frombuffer(content, np.uint8)
    offset = _measured(comm)
    _exchange(comm, comm.channel.outgoing(np.array([offset]), 0, TIMES))
    _exchange(comm, comm.channel.outgoing(own, 0, TIMES))
    return []


def _received(comm: Communicator, rank: int, size: int) -> Gathered:
    """Answer a rank with the time of this one, and receive its offset and its content."""
    now, asked, offset, content = np.zeros(1), np.zeros(1), np.zeros(1), np.empty(size, np.uint8)
    messages = [comm.channel.incoming(asked, rank, TIMES), comm.channel.outgoing(now, rank, TIMES)]
    for _ in range(ROUNDS):
        _wait(comm, messages[0])
        now[0] = time.perf_counter()
        _wait(comm, messages[1])
    comm.channel.discard(messages)
    _exchange(comm, comm.channel.incoming(offset, rank, TIMES))
    _exchange(comm, comm.channel.incoming(content, rank, TIMES))
    return Gathered(float(offset[0]), content.tobytes())


def _measured(comm: Communicator) -> float:
    """Return the offset of this rank's clock, as seen in messages to rank 0 and back."""
    asked, answer = np.zeros(1), np.zeros(1)
    messages = [comm.channel.outgoing(asked, 0, TIMES), comm.channel.incoming(answer, 0, TIMES)]
    ways = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for message in messages:
            _wait(comm, message)
        end = time.perf_counter()
        ways.append((end - start, answer[0] - (start + end) / 2))
    comm.channel.discard(messages)
    return offset_in(ways)


def _exchange(comm: Communicator, message: Any) -> None:
    """Send or receive a message once."""
    _wait(comm, message)
    comm.channel.discard([message])


def _wait(comm: Communicator, message: Any) -> None:
    comm.channel.start([message])
    comm.clock.wait_until(lambda: comm.channel.done([message]))


def offset_in(ways: list[tuple[float, float]]) -> float:
    """Return the offset that the fastest way has shown; 0 if it is no larger than its possible error.

    Args:
        ways: for each, its seconds, and the offset if both halves took the same time.
    """
    seconds, offset = min(ways)
    return offset if abs(offset) > seconds / 2 else 0.0
