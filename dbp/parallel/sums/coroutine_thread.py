"""A thread that takes turns with the calling thread, as a coroutine does: exactly one of the two runs at any time."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

RUNNING, PAUSED, DONE = range(3)
_PROCEED, _CANCEL, _END = object(), object(), object()  # turns that are no functions


class CancelledPassError(BaseException):
    """The end of a function that waits in pause(), as another one has failed; it passes through `except Exception`."""


class CoroutineThread:
    """A thread that runs one function after the other, each in turn with the calling thread.

    begin() and proceed() return when the function pauses or ends. An exception that a signal raises in the calling
    thread may interrupt both at any point; cancel() ends the function even then.

    Attributes:
        state: DONE, or else PAUSED when the calling thread has the turn.
        error: the exception that has ended the function, if one has.
    """

    def __init__(self) -> None:
        self.state, self.error = DONE, None  # type: int, BaseException | None
        self._turns, self._answers = SimpleQueue[Any](), SimpleQueue[None]()
        self._is_cancelled = False  # True from the moment that a cancel() has reached the thread
        self._thread = threading.Thread(target=self._work, name="dbp shard", daemon=True)
        self._thread.start()

    # --- called by the thread that shares the turns -----------------------------------------------------

    def begin(self, function: Callable[[], None]) -> None:
        """Run a function until it pauses or ends, in a copy of the caller's context, such as NumPy's error handling."""
        self.error, self._is_cancelled = None, False
        context = contextvars.copy_context()
        self._give(lambda: context.run(function))

    def proceed(self) -> None:
        """Let the function that has paused continue until it pauses again or ends."""
        self._give(_PROCEED)

    def cancel(self) -> None:
        """End the function: if it runs, at its next pause."""
        self._is_cancelled = False
        self._turns.put(_CANCEL)
        while not self._is_cancelled or self.state != DONE:
            self._answers.get()

    def end(self) -> None:
        """End the thread, whose function has ended."""
        self._turns.put(_END)
        self._thread.join()

    def _give(self, turn: Any) -> None:
        self.state = RUNNING
        self._turns.put(turn)
        while self.state == RUNNING:
            self._answers.get()

    # --- called by this thread --------------------------------------------------------------------------

    def pause(self) -> None:
        """Give the turn back, and return when it comes again; called by the function.

        Raises:
            CancelledPassError: it does not come again.
        """
        self.state = PAUSED
        self._answers.put(None)
        if self._is_cancelled or self._turns.get() is _CANCEL:
            self._is_cancelled = True
            raise CancelledPassError

    def _work(self) -> None:
        while (turn := self._turns.get()) is not _END:
            if turn is _CANCEL:
                self._is_cancelled = True
            else:
                self._run(turn)
            turn = None  # so that what the function refers to can be freed
            self.state = DONE
            self._answers.put(None)

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
        except CancelledPassError:
            pass
        except BaseException as error:  # raised in the other thread
            self.error = error
