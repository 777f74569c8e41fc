"""The thread that writes checkpoints during training, one at a time, and gives way to the training meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dbp.errors import StorageError

WRITER_THREAD = "dbp checkpoint"  # the name of the thread
SHARE = 0.1  # of a processor's time that writing takes, so that a step beside it takes 1 / (1 - SHARE) times as long
LEAST_SECONDS = 1e-3  # of work between two pauses


class Pace:
    """The pauses of a thread, which leave the processor to the training for most of the time.

    Each pause is in proportion to the work before it. There are no more pauses once the result is awaited.

    Args:
        share: the part of the time in which the thread works.

    Attributes:
        paused: the seconds of all pauses so far.
    """

    def __init__(self, share: float):
        self._rest, self._hurry, self.paused = 1 / share - 1, threading.Event(), 0.0
        self._worked = 0.0  # processor time of the thread at the end of the last pause

    def __call__(self) -> None:
        """Pause if enough was done since the last pause; called in the thread, between small pieces of its work."""
        worked = time.thread_time() - self._worked
        if worked < LEAST_SECONDS or self._hurry.is_set():
            return
        start = time.perf_counter()
        self._hurry.wait(worked * self._rest)
        self.paused += time.perf_counter() - start
        self._worked = time.thread_time()

    def hurry(self) -> None:
        """End this pause, and make no more."""
        self._hurry.set()


class Writer:
    """A writer that does one job at a time in a thread of its own.

    A job should be done when the next one is due. So after a job that was not, the next one works in a larger share of
    the time than SHARE: large enough to be done in half of the time until the result of the last was awaited.

    A failure is kept until wait() returns it, as training does not end because of a full disk.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._share, self._pace, self._started = SHARE, Pace(SHARE), 0.0
        self._work_seconds = 0.0  # processor time of the last job

    def start(self, work: Callable[[Pace], None]) -> None:
        """Start a job; wait() must have been called since the last one."""
        assert self._thread is None
        self._pace, self._started = Pace(self._share), time.monotonic()
        # A daemon, so that the failure of another rank can end this process in the middle of a job.
        self._thread = threading.Thread(target=self._do, args=(work,), name=WRITER_THREAD, daemon=True)
        self._thread.start()

    def _do(self, work: Callable[[Pace], None]) -> None:
        try:
            work(self._pace)
        except BaseException as error:  # which wait() raises or returns
            self._failure = error
        self._work_seconds = time.thread_time()

    def wait(self) -> tuple[StorageError | None, bool]:
        """Wait for the job; return the StorageError that ended it, if any, and whether there was a job."""
        started = self._thread is not None
        self.end()
        failure, self._failure = self._failure, None
        if failure is not None and not isinstance(failure, StorageError):
            raise failure
        return failure, started

    def end(self, patience: float | None = None) -> None:
        """Wait for the job, for `patience` seconds at most, and ignore its outcome."""
        if self._thread is not None:
            was_late, available = self._thread.is_alive(), time.monotonic() - self._started
            self._pace.hurry()
            self._thread.join(patience)
            self._thread = None
            self._share = share_after(self._share, self._work_seconds, available, was_late)


def share_after(share: float, work: float, available: float, was_late: bool) -> float:
    """Return the part of the time in which the next job works.

    Args:
        share: that of the last job.
        work: processor time of the last job, in seconds.
        available: seconds from its start until its result was awaited.
        was_late: whether it was not done then.
    """
    needed = 2 * work / max(available, LEAST_SECONDS)
    return min(1.0, max(SHARE, needed if was_late else min(share, needed)))
