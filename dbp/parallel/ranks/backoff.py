"""The pauses of a waiting rank between two checks: it first yields its core, and later sleeps.

A rank with a core of its own spins for long, because waking up would delay it. Where ranks share cores, a spinning rank
takes the core from the rank that it waits for, so it soon sleeps; where other programs run on its core, it sleeps at
once, as a yield would cost it a time slice, while who wakes up soon runs. It sleeps until it is woken up, where it can
be, else in naps. These grow with the time waited so far, so that they delay the end of a wait by a small fraction of
its length.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

SPIN_SECONDS = 0.1  # without sleep, for a rank with a core of its own
HOLD_SECONDS = 1e-4  # of them, in which it does not even yield: who gets its core then may keep it for a time slice
SPIN_SECONDS_CROWDED = 1e-4
NAP_FRACTION = 1 / 16  # of the seconds waited so far
SHORTEST_NAP, LONGEST_NAP = 5e-5, 1e-3  # seconds
LONGEST_SLEEP = 0.05  # seconds, of a rank that is woken up but also looks whether the others live
LONG_YIELD_SECONDS = 5e-4  # a yield that takes longer has let another program run
CONTESTED_SECONDS = 0.1  # after a long yield, for which the rank sleeps at once


class Backoff:
    """The pauses of one rank.

    Args:
        crowded: whether the rank's node has more ranks than cores.
    """

    def __init__(self, crowded: bool = False) -> None:
        self._crowded = crowded
        self._contested_until = 0.0

    def pause(self, start: float, sleep: Callable[[float], None] | None = None) -> None:
        """Pause once.

        Args:
            start: the time of perf_counter() at which the wait began.
            sleep: sleeps until the rank is woken up, at most some seconds; None if nobody would.
        """
        now = time.perf_counter()
        waited, is_contested = now - start, now < self._contested_until
        spin = 0.0 if is_contested else SPIN_SECONDS_CROWDED if self._crowded else SPIN_SECONDS
        if waited >= spin:
            if sleep is None:
                time.sleep(min(max(waited * NAP_FRACTION, SHORTEST_NAP), LONGEST_NAP))
            else:
                sleep(LONGEST_SLEEP)
            return
        if not self._crowded and waited < HOLD_SECONDS:
            return
        os.sched_yield()
        end = time.perf_counter()
        if end - now > LONG_YIELD_SECONDS:
            self._contested_until = end + CONTESTED_SECONDS
