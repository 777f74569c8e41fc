"""What a rank is doing now, and for how long it has done what: its own work apart from waiting for others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from dbp.parallel.ranks.backoff import Backoff

NAMES = ("data", "forward", "backward", "products", "sum", "update", "evaluation", "checkpoint", "other", "waiting")
DATA, FORWARD, BACKWARD, PRODUCTS, SUM, UPDATE, EVALUATION, CHECKPOINT, OTHER, WAITING = range(len(NAMES))

CHECK = 0.05  # seconds after which one who waits asks whether there is still something to wait for


def nobody() -> list[int]:
    """No rank in particular is waited for."""
    return []


def nothing() -> None:
    """All is well."""


class Stages:
    """The clock of a rank: one stage at a time, each with the seconds spent in it.

    Args:
        crowded: whether the rank's node has more ranks than cores.
    """

    def __init__(self, crowded: bool = False) -> None:
        self._backoff = Backoff(crowded)
        self.seconds = [0.0] * len(NAMES)
        self.current, self.since = OTHER, time.perf_counter()
        self.step = 0  # steps done
        self.missing: Callable[[], Sequence[int]] = nobody  # while waiting, the ranks known not to have arrived
        self.check: Callable[[], None] = nothing  # raises what is wrong while this rank waits

    def enter(self, stage: int) -> int:
        """Begin a stage; gives the one before."""
        now, before = time.perf_counter(), self.current
        self.seconds[before] += now - self.since
        self.since, self.current = now, stage
        return before

    def begin(self) -> None:
        """Forget the seconds so far."""
        self.seconds, self.since = [0.0] * len(NAMES), time.perf_counter()

    def wait_until(self, done: Callable[[], bool], missing: Callable[[], Sequence[int]] = nobody) -> None:
        """Return when done() gives true; missing() tells for which ranks it waits."""
        start = checked = time.perf_counter()
        before, self.missing = self.enter(WAITING), missing
        try:
            while not done():
                if (now := time.perf_counter()) - checked > CHECK:
                    self.check()
                    checked = now
                self._backoff.pause(start)
        finally:
            self.missing = nobody
            self.enter(before)
