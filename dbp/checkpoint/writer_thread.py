"""Writing beside the training: one checkpoint at a time, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dbp.errors import StorageError

WRITER_THREAD = "dbp checkpoint"  # the name of the thread


class Writer:
    """Does one piece of writing at a time while the training goes on.

    A failure is kept until it is asked for: training does not end for a full disk.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin to write; wait() must have been called since the last time."""
        assert self._thread is None
        # A daemon, as another rank's failure must be able to end this process in the middle of it.
        self._thread = threading.Thread(target=self._do, args=(work,), name=WRITER_THREAD, daemon=True)
        self._thread.start()

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # raised, or given, by wait()
            self._failure = error

    def wait(self) -> tuple[StorageError | None, bool]:
        """Wait until what was begun is written; gives what prevented it, if anything did, and whether any was begun."""
        begun = self._thread is not None
        self.end()
        failure, self._failure = self._failure, None
        if failure is not None and not isinstance(failure, StorageError):
            raise failure
        return failure, begun

    def end(self, patience: float | None = None) -> None:
        """Wait for what was begun, for so many seconds at most, whatever comes of it."""
        if self._thread is not None:
            self._thread.join(patience)
            self._thread = None
