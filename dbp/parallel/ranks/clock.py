"""The clock of a rank: what it is doing, and for how long it has done what, its own work apart from waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from dbp.parallel.ranks.backoff import Backoff

if TYPE_CHECKING:
    from dbp.parallel.ranks.timeline import Timeline

QUICK_POLLS = 10  # before a wait counts as one, because most end within so few
CHECK_SECONDS = 0.05  # between two checks, while a rank waits, that nothing is wrong with the others


class Stage(IntEnum):
    """The stages of a rank's work."""

    DATA = 0
    FORWARD = 1
    BACKWARD = 2
    PRODUCTS = 3
    SUM = 4
    UPDATE = 5
    EVALUATION = 6
    CHECKPOINT = 7
    OTHER = 8
    WAITING = 9

    @property
    def label(self) -> str:
        """Return the name that users see."""
        return self.name.lower()


def no_ranks() -> list[int]:
    """Return no ranks: it is not known who has not arrived."""
    return []


def no_check() -> None:
    """Return: nothing is wrong."""


class StageClock:
    """The clock of one rank: one stage at a time, and the seconds spent in each.

    Args:
        crowded: whether the rank's node has more ranks than cores.
    """

    def __init__(self, crowded: bool = False) -> None:
        self._backoff = Backoff(crowded)
        self.seconds = [0.0] * len(Stage)
        self.current, self.since = Stage.OTHER, time.perf_counter()
        self.step = 0  # steps done
        self.timeline: Timeline | None = None  # of the steps that are traced
        self.missing: Callable[[], Sequence[int]] = no_ranks  # while waiting: the ranks known not to have arrived
        self.awaited = ""  # while waiting for something else than ranks: what it is
        self.check: Callable[[], None] = no_check  # called while this rank waits; raises what is wrong

    def enter(self, stage: Stage) -> Stage:
        """Begin a stage and return the one before."""
        now, before = time.perf_counter(), self.current
        self.seconds[before] += now - self.since
        if self.timeline is not None:
            self.timeline.add_stage(before.label, self.since, now)
        self.since, self.current = now, stage
        return before

    def reset(self) -> None:
        """Forget the seconds so far, and a timeline."""
        self.seconds, self.since, self.timeline = [0.0] * len(Stage), time.perf_counter(), None

    def wait_until(
        self,
        done: Callable[[], bool],
        missing: Callable[[], Sequence[int]] = no_ranks,
        check: Callable[[], None] | None = None,
        stage: Stage = Stage.WAITING,
        awaited: str = "",
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """Wait until done() returns True.

        Args:
            done: called again and again.
            missing: returns the ranks that this one waits for, for messages about stalls.
            check: called now and then; by default the clock's own.
            stage: the one that the time belongs to.
            awaited: what is waited for, for messages about stalls, if it is not ranks.
            sleep: sleeps until this rank is woken up, at most some seconds; None if nobody would.
        """
        for _ in range(QUICK_POLLS):
            if done():
                return
        start = checked = time.perf_counter()
        before, self.missing, self.awaited = self.enter(stage), missing, awaited
        try:
            while not done():
                if (now := time.perf_counter()) - checked > CHECK_SECONDS:
                    (check or self.check)()
                    checked = now
                self._backoff.pause(start, sleep)
        finally:
            self.missing, self.awaited = no_ranks, ""
            self.enter(before)
