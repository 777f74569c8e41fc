"""The thread that writes checkpoints during training, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dbp.errors import StorageError

WRITER_THREAD = "dbp checkpoint"  # the name of the thread


class Writer:
    """A writer that does one job at a time in a thread of its own.

    A failure is kept until wait() returns it, as training does not end because of a full disk.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Start a job; wait() must have been called since the last one."""
        assert self._thread is None
        # A daemon, so that the failure of another rank can end this process in the middle of a job.
        self._thread = threading.Thread(target=self._do, args=(work,), name=WRITER_THREAD, daemon=True)
        self._thread.start()

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # which wait() raises or returns
            self._failure = error

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
            self._thread.join(patience)
            self._thread = None
