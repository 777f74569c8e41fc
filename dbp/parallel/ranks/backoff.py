"""How a rank that waits gives way to others: it looks again at once, then yields its core, then sleeps.

A rank with a core of its own spins for long, as waking up would delay it. Where ranks share cores, or other programs
run on them, a rank that spins keeps the one it waits for from being scheduled, so it soon sleeps, in naps that grow
with the time waited so far: they delay the end of a wait by a small part of its length.
"""

from __future__ import annotations

import os
import time

SPIN_SECONDS = 0.1  # of waiting without sleep, for a rank with a core of its own
SPIN_SECONDS_CROWDED = 1e-4
NAP_SHARE = 1 / 16  # of the seconds waited so far
SHORTEST_NAP, LONGEST_NAP = 5e-5, 1e-3  # seconds
CONTESTED_SECONDS = 5e-4  # a yield that takes as long has let another program run
CONTESTED_MEMORY = 0.1  # seconds for which a rank whose core was taken sleeps as if its node were crowded


class Backoff:
    """The pauses of one rank between two looks at what it waits for.

    Args:
        crowded: whether the rank's node has more ranks than cores.
    """

    def __init__(self, crowded: bool = False) -> None:
        self._crowded = crowded
        self._contested_until = 0.0

    def pause(self, start: float) -> None:
        """Pause once, in a wait that began at this time of perf_counter()."""
        now = time.perf_counter()
        waited, shared = now - start, self._crowded or now < self._contested_until
        if waited >= (SPIN_SECONDS_CROWDED if shared else SPIN_SECONDS):
            time.sleep(min(max(waited * NAP_SHARE, SHORTEST_NAP), LONGEST_NAP))
            return
        os.sched_yield()
        back = time.perf_counter()
        if back - now > CONTESTED_SECONDS:
            self._contested_until = back + CONTESTED_MEMORY
