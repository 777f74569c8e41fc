"""The pauses of a waiting rank between two checks: it first yields its core, and later sleeps.

A rank with a core of its own spins for long, because waking up would delay it. Where ranks share cores, or other
programs run on them, a spinning rank takes the core from the rank that it waits for, so it soon sleeps. Naps grow with
the time waited so far, so that they delay the end of a wait by a small fraction of its length.
"""

from __future__ import annotations

import os
import time

SPIN_SECONDS = 0.1  # without sleep, for a rank with a core of its own
SPIN_SECONDS_CROWDED = 1e-4
NAP_FRACTION = 1 / 16  # of the seconds waited so far
SHORTEST_NAP, LONGEST_NAP = 5e-5, 1e-3  # seconds
LONG_YIELD_SECONDS = 5e-4  # a yield that takes longer has let another program run
CONTESTED_SECONDS = 0.1  # after a long yield, for which the rank sleeps as on a crowded node


class Backoff:
    """The pauses of one rank.

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
            time.sleep(min(max(waited * NAP_FRACTION, SHORTEST_NAP), LONGEST_NAP))
            return
        os.sched_yield()
        end = time.perf_counter()
        if end - now > LONG_YIELD_SECONDS:
            self._contested_until = end + CONTESTED_SECONDS
