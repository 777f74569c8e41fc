"""A thread that polls messages while the main thread computes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

POLL_SECONDS = 3e-4  # between two calls: a link of 1 Gbit/s moves less than a fragment meanwhile


class PollingThread:
    """A thread that calls a function again and again.

    Matrix products and other long operations of NumPy let it run. It mostly sleeps, so it needs no core of its own.

    Args:
        function: returns True when there is nothing left to do. The main thread calls it only by call_now(), or while
            this thread is paused.
    """

    def __init__(self, function: Callable[[], bool]):
        self._function = function
        self._working, self._lock = threading.Event(), threading.Lock()
        self._error: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="dbp exchange", daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Call the function from now on, until it returns True."""
        self._working.set()

    def call_now(self) -> None:
        """Call the function at once, in the calling thread.

        If the other thread is in the function, it may lack a core: it gets this one's while this one waits.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._working.is_set():
                self._call()

    def pause(self) -> None:
        """Stop calling the function; when this returns, the calling thread may call it."""
        self._working.clear()
        with self._lock:
            if self._error is not None:
                raise self._error

    def end(self) -> None:
        """End the thread."""
        with self._lock:
            self._ended = True
            self._working.set()
        self._thread.join()

    def _work(self) -> None:
        while self._working.wait() and not self._ended:
            with self._lock:
                if self._working.is_set() and not self._ended:
                    self._call()
            time.sleep(POLL_SECONDS)

    def _call(self) -> None:
        try:
            if self._function():
                self._working.clear()
        except BaseException as error:  # raised in the main thread
            self._error = error
            self._working.clear()
