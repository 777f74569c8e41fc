"""A thread beside the one that computes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOOK_AGAIN = 3e-4  # seconds until the thread looks again: a link of 1 Gbit/s moves less than a fragment meanwhile


class Background:
    """A thread that calls a function again and again, while the main thread computes.

    Matrix products and other long operations of NumPy let it run; it mostly sleeps, so it needs no core of its own.

    Args:
        function: not called by the main thread unless paused, but for now().
    """

    def __init__(self, function: Callable[[], bool]):
        self._function = function
        self._working, self._lock = threading.Event(), threading.Lock()
        self._error: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="dbp exchange", daemon=True)
        self._thread.start()

    def resume(self) -> None:
        """Begin to call the function, until it gives true."""
        self._working.set()

    def now(self) -> None:
        """Call the function at once, in the thread that calls this.

        If the other is at it, it may wait for the core on which this one computes, and has it while this one waits.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._working.is_set():
                self._step()

    def pause(self) -> None:
        """Stop calling it; the main thread may do so when this returns."""
        self._working.clear()
        with self._lock:
            if self._error is not None:
                raise self._error

    def end(self) -> None:
        """The thread ends."""
        with self._lock:
            self._ended = True
            self._working.set()
        self._thread.join()

    def _work(self) -> None:
        while self._working.wait() and not self._ended:
            with self._lock:
                if self._working.is_set() and not self._ended:
                    self._step()
            time.sleep(LOOK_AGAIN)

    def _step(self) -> None:
        try:
            if self._function():
                self._working.clear()
        except BaseException as error:  # told by the main thread
            self._error = error
            self._working.clear()
