"""How many processors other programs keep busy while the ranks of a job compute (Linux)."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

from dbp.parallel import Communicator

STATISTICS = Path("/proc/stat")


class OtherPrograms:
    """The time that others take of some processors, from the moment on at which this is made; collective.

    Args:
        comm: the ranks, all on this machine.
        processors: the numbers of the hardware threads that the ranks may use.
    """

    def __init__(self, comm: Communicator, processors: Collection[int]):
        self._comm, self._processors = comm, processors
        self._start, self._own, self._busy = time.perf_counter(), time.process_time(), busy_seconds(processors)

    def busy(self) -> float | None:
        """Return how many of the processors others have kept busy, on average; None if the system does not say it."""
        own = sum(self._comm.gather(time.process_time() - self._own))
        busy, seconds = busy_seconds(self._processors), time.perf_counter() - self._start
        if busy is None or self._busy is None:
            return None
        return float(max(0.0, busy - self._busy - own) / seconds)


def busy_seconds(processors: Collection[int]) -> float | None:
    """Return the seconds that some processors have been busy together, for other virtual machines too."""
    try:
        lines = STATISTICS.read_text().splitlines()
    except OSError:
        return None
    names, ticks = {f"cpu{number}" for number in processors}, 0
    for name, *fields in map(str.split, lines):
        if name in names:
            user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = map(int, fields[:8])
            ticks += user + nice + system + interrupts + soft_interrupts + stolen
    return float(ticks / os.sysconf("SC_CLK_TCK"))
